"""Losses and metrics of all replicas, under one name each."""

import re

import keras
import numpy as np
import pytest

from l2keras import L2
from l2keras.tuning.curves import LearningCurves
from l2keras.tuning.replicas import Chunk, Means
from tests.support import BACKEND
from tests.support.searches import (
    EXPECTED_WARNINGS,
    FOLDS,
    LABELS,
    net,
    told_why,
    tune,
)

pytestmark = EXPECTED_WARNINGS

layers = keras.layers
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
def test_metrics_are_equal_sequentially_and_stacked():
    targets = (LABELS > 0).astype("float32")[:, None]
    arguments = {"y": [targets, targets], "epochs": 1}
    stacked = tune(with_counted_names(False), **arguments)
    with told_why(ASKED):
        by_fit = tune(with_counted_names(True), **arguments)
    kinds = [re.sub(r"_\d+", "", name) for name in by_fit.metrics]
    assert kinds == [
        f"{prefix}{name}"
        for prefix in ("", "val_")
        for name in ("dense_auc", "dense_auc", "head_auc", "head_mae")
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


def curves_of(*names):
    """Returns curves after a replica with metrics of each of these names."""
    curves = LearningCurves(1, 1, 1)
    curves.name_metrics([*names[0], *(f"val_{name}" for name in names[0])])
    for strength, each in enumerate(names):
        means = Means(
            np.zeros((1, 1)),
            {
                name: np.full((1, 1), 10.0 * strength + place)
                for place, name in enumerate(each)
            },
        )
        curves.record(Chunk([0], np.array([[strength]])), 0, means, means)
    return curves


@pytest.mark.parametrize(
    "names",
    [
        [["auc"], ["auc_1"], ["auc_2"]],
        [["auc_5", "auc_6"], ["auc_9", "auc_10"]],
        [["dense_3_mae", "dense_4_mae"], ["dense_mae", "dense_1_mae"]],
    ],
)
def test_metrics_are_named_by_the_first_model_and_matched_by_position(names):
    curves = curves_of(*names)
    assert list(curves.metrics) == [
        *names[0],
        *(f"val_{name}" for name in names[0]),
    ]
    for place, values in enumerate(curves.metrics.values()):
        np.testing.assert_array_equal(
            values[:, 0, 0],
            10.0 * np.arange(len(names)) + place % len(names[0]),
        )


def test_metrics_that_differ_from_model_to_model_are_refused():
    with pytest.raises(ValueError, match="compile the same metrics"):
        curves_of(["accuracy"], ["mae"])


def test_a_repeated_candidate_has_one_row():
    curves = curves_of(["auc"], ["auc_1"])
    rows = curves.indices(np.array([[1.0], [3.0], [0.0]]))
    np.testing.assert_array_equal(rows, [1, 2, 0])
    np.testing.assert_array_equal(curves.done, [[True], [True], [False]])
    assert np.isnan(curves.metrics["auc"][2]).all()
