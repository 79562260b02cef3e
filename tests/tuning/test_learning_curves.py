"""Losses and metrics of all replicas, under one name each."""

import keras
import numpy as np
import pytest
from helpers import BACKEND
from searches import (
    CHEAP,
    EXPECTED_WARNINGS,
    FOLDS,
    LABELS,
    STRENGTHS,
    X,
    net,
    told_why,
    tune,
)

from l2keras import L2
from l2keras.tuning.chunks import Chunk
from l2keras.tuning.grid.stack import Means
from l2keras.tuning.learning_curves import LearningCurves

pytestmark = EXPECTED_WARNINGS

layers = keras.layers
LOSS = "sparse_categorical_crossentropy"
ASKED = "`build_model` asks for the value of the strength"


def with_counted_names(by_fit):
    """Returns a model whose metrics and outputs were given no names."""

    def build_model(strength):
        strength = float(strength) if by_fit else strength
        inputs = keras.Input((6,))
        hidden = layers.Dense(4, kernel_regularizer=L2(strength))(inputs)
        outputs = [
            layers.Dense(1, "sigmoid")(hidden),
            layers.Dense(1, "sigmoid", name="head_2")(hidden),
        ]
        model = keras.Model(inputs, outputs)
        model.compile(
            keras.optimizers.SGD(0.1),
            ["binary_crossentropy", "mse"],
            metrics=[
                [keras.metrics.AUC(), keras.metrics.AUC(curve="PR")],
                [keras.metrics.AUC(name="auc_2"), "mae"],
            ],
            run_eagerly=by_fit and BACKEND != "torch",
        )
        return model

    return build_model


@pytest.mark.slow
def test_metrics_are_the_same_by_fit_as_in_a_stack():
    targets = (LABELS > 0).astype("float32")[:, None]
    arguments = {"y": [targets, targets], "epochs": 1}
    stacked = tune(with_counted_names(False), **arguments, **CHEAP)
    with told_why(ASKED):
        by_fit = tune(with_counted_names(True), **arguments)
    assert list(by_fit.metrics) == [
        f"{prefix}{name}"
        for prefix in ("", "val_")
        for name in (
            "dense_auc",
            "dense_auc_1",
            "head_2_auc_2",
            "head_2_mae",
        )
    ]
    for ours, others in zip(
        by_fit.metrics.values(), stacked.metrics.values(), strict=True
    ):
        assert ours.shape == (2, 2, 1)
        np.testing.assert_allclose(ours, others, rtol=0, atol=1e-5)


class Hits(keras.metrics.Metric):
    """Counts as the example in Keras's documentation does."""

    def __init__(self):
        super().__init__(name="hits")
        self.total = self.add_variable((), "zeros")

    def update_state(self, y_true, y_pred, sample_weight=None):
        hits = keras.ops.argmax(y_pred, -1) == keras.ops.reshape(y_true, (-1,))
        self.total.assign(self.total + keras.ops.sum(hits))

    def result(self):
        return self.total


@pytest.mark.skipif(BACKEND == "jax", reason="Keras's own `fit` fails.")
def test_a_metric_may_return_its_variable():
    found = tune(net(metrics=["accuracy", Hits()])).metrics
    rows = [[len(side) for side in fold] for fold in FOLDS]
    for index, prefix in enumerate(("", "val_")):
        hits = found[f"{prefix}hits"]
        assert hits.any()
        number = np.array(rows)[:, index][:, None]
        np.testing.assert_allclose(
            hits, found[f"{prefix}accuracy"] * number, rtol=1e-5
        )


@pytest.mark.parametrize(
    ("replicas", "expected"),
    [
        ([["accuracy"], ["accuracy"]], ["accuracy"]),
        ([["auc"], ["auc_1"], ["auc_2"]], ["auc"]),
        ([["auc_5", "auc_6"], ["auc_9", "auc_10"]], ["auc", "auc_1"]),
        ([["top_5", "auc_1"], ["top_5", "auc_3"]], ["top_5", "auc"]),
        ([["auc", "auc_5"], ["auc", "auc_6"]], ["auc", "auc_1"]),
        ([["mean", "auc_8"], ["mean", "auc_18"]] * 2, ["mean", "auc"]),
        (
            [["dense_3_mae", "dense_4_mae"], ["dense_7_mae", "dense_8_mae"]],
            ["dense_mae", "dense_mae_1"],
        ),
        ([["out_1_auc"], ["out_1_auc_1"]], ["out_1_auc"]),
    ],
)
def test_names_that_are_counted_up_become_one(replicas, expected):
    curves = LearningCurves.of_shape((len(replicas), 1, 1))
    for strength, names in enumerate(replicas):
        means = Means(
            np.zeros((1, 1)),
            {
                name: np.full((1, 1), 10.0 * strength + place)
                for place, name in enumerate(names)
            },
        )
        curves.record(Chunk([0], [strength]), 0, means, means)
    assert list(curves.metrics) == [*expected, *(f"val_{e}" for e in expected)]
    for place, values in enumerate(curves.metrics.values()):
        np.testing.assert_array_equal(
            values[:, 0, 0],
            10.0 * np.arange(len(replicas)) + place % len(expected),
        )


def test_metrics_that_replicas_do_not_share_are_kept_apart():
    def build_model(strength):
        value = float(strength)
        model = keras.Sequential(
            [
                keras.Input((6,)),
                layers.Dense(3, "softmax", kernel_regularizer=L2(value)),
            ]
        )
        model.compile(
            "sgd",
            LOSS,
            metrics=["accuracy" if value == STRENGTHS[0] else LOSS],
            run_eagerly=BACKEND != "torch",
        )
        return model

    with told_why(ASKED):
        metrics = tune(build_model, X, LABELS, epochs=1).metrics
    assert set(metrics) == {"accuracy", "val_accuracy", LOSS, f"val_{LOSS}"}
    assert np.isfinite(metrics["accuracy"][0]).all()
    assert np.isnan(metrics["accuracy"][1]).all()
    assert np.isnan(metrics[LOSS][0]).all()
    assert np.isfinite(metrics[LOSS][1]).all()
