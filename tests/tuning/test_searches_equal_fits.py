"""The results of a search equal those of as many plain fits."""

import concurrent.futures
import functools
import os
import re

import keras
import numpy as np
import pytest

import l2keras
from l2keras import L2
from tests.support import BACKEND
from tests.support.searches import (
    EAGER,
    EXPECTED_WARNINGS,
    FOLDS,
    LABELS,
    STRENGTHS,
    WEIGHT,
    Idle,
    Own,
    OwnLoss,
    OwnStep,
    X,
    annealing,
    assert_same,
    bidirectional,
    classifier,
    convolutional,
    decaying,
    layers,
    masked,
    net,
    optimizers,
    plain_fit,
    recurrent,
    several,
    told_why,
    tune,
    with_global_noise,
    with_number,
    with_random_constant,
)

model_selection = pytest.importorskip(
    "sklearn.model_selection", reason="scikit-learn is not installed"
)

pytestmark = EXPECTED_WARNINGS


class Kind(tuple):
    """A build_model, how it is trained, and why one after another."""

    def __new__(cls, build, why=None, on=None, data=None, **kwargs):
        return super().__new__(cls, (build, why, on, data, kwargs))


# On JAX `fit` itself fails with that generator; Keras before 3.13 keeps the one
# that there is when it is seeded, so that no `fit` is like another.
KERAS = tuple(map(int, keras.__version__.split(".")[:2]))
ON_ACCELERATOR = bool(os.environ.get("KERAS_TORCH_DEVICE"))
NOT_JAX, TORCH = ("tensorflow", "torch"), ("torch",)
ALL = (*NOT_JAX, "jax")

KINDS = {
    "a plain net": Kind(net()),
    "a plain net, other sizes of folds": Kind(
        net(), folds=model_selection.TimeSeriesSplit(2)
    ),
    "a batch for all": Kind(net(), batch_size=64),
    "batches without a rest": Kind(net(), batch_size=4),
    "SGD with momentum": Kind(
        net(optimizer=lambda: optimizers.SGD(0.1, 0.9, nesterov=True))
    ),
    "AdamW": Kind(
        net(optimizer=lambda: optimizers.AdamW(0.01, weight_decay=0.1))
    ),
    "proximal steps": Kind(
        net(
            optimizer=lambda: l2keras.Proximal(optimizers.Adam(0.01)),
            regularizer=l2keras.L1,
        ),
    ),
    "a learning rate that falls": Kind(
        net(
            optimizer=lambda: optimizers.SGD(
                optimizers.schedules.CosineDecay(0.1, 6)
            )
        )
    ),
    "a learning rate in pieces": Kind(
        net(
            optimizer=lambda: optimizers.Adam(
                optimizers.schedules.PiecewiseConstantDecay([3], [0.02, 0.001])
            )
        )
    ),
    "gradient accumulation": Kind(
        net(
            optimizer=lambda: optimizers.SGD(0.1, gradient_accumulation_steps=2)
        )
    ),
    "averages of weights": Kind(
        net(optimizer=lambda: optimizers.SGD(0.1, use_ema=True)),
        shuffle=False,
    ),
    "BatchNormalization": Kind(net(layers.BatchNormalization)),
    "Dropout": Kind(
        net(lambda: layers.Dropout(0.5, name="dropout")),
        "layer 'dropout' draws random numbers",
        TORCH,
    ),
    "clipping by norm": Kind(
        net(optimizer=lambda: optimizers.Adam(clipnorm=0.1)),
    ),
    "Lamb": Kind(
        net(optimizer=lambda: optimizers.Lamb(0.01)),
    ),
    "a constraint": Kind(
        net(kernel_constraint=keras.constraints.MaxNorm(0.5)),
    ),
    "a layer that assigns a weight": Kind(
        net(
            lambda: layers.SpectralNormalization(
                layers.Dense(4, name="inner"), name="spectral"
            )
        ),
        # It looks at a number there.
        "the training step cannot be vectorized: ",
        TORCH if ON_ACCELERATOR else (),
    ),
    "a loss that is scaled": Kind(
        net(
            optimizer=lambda: optimizers.LossScaleOptimizer(optimizers.SGD(0.1))
        ),
        "the training step cannot be vectorized: ",
        NOT_JAX,
    ),
    "weights of rows": Kind(net(), sample_weight=WEIGHT),
    "one-hot labels": Kind(
        net(loss="categorical_crossentropy"),
        data=(X, np.eye(3, dtype="float32")[LABELS]),
    ),
    "regression": Kind(
        net(loss="mse", metrics=["mae"], last=lambda strength: layers.Dense(2)),
        data=(X, X[:, :2] ** 2),
    ),
    "a metric that is no mean": Kind(
        net(
            loss="binary_crossentropy",
            metrics=["auc"],
            last=lambda strength: layers.Dense(1, "sigmoid"),
        ),
        data=(X, (LABELS > 0).astype("float32")[:, None]),
    ),
    "several inputs and outputs": Kind(
        several,
        data=({"a": X, "b": X**2}, {"p": LABELS, "q": X[:, :1]}),
    ),
    "a second strength, scheduled": Kind(
        net(
            regularizer=lambda strength: l2keras.L1L2(
                strength, l2keras.LinearSchedule(0.0, 0.1, steps=5)
            )
        )
    ),
    "a schedule times the strength": Kind(
        net(
            regularizer=lambda strength: L2(
                strength * l2keras.CosineSchedule(0.0, 1.0, steps=5) / 2
            )
        )
    ),
    "a schedule that ends at the strength": Kind(
        net(
            optimizer=lambda: l2keras.Proximal(optimizers.Adam(0.01)),
            regularizer=lambda strength: l2keras.L1(
                l2keras.JoinedSchedule(
                    [l2keras.LinearSchedule(0.0, strength, steps=3), strength],
                    [3],
                )
            ),
        )
    ),
    "a schedule of Keras's times the strength": Kind(
        net(
            regularizer=lambda strength: L2(
                l2keras.ScaledSchedule(
                    optimizers.schedules.ExponentialDecay(1.0, 4, 0.5), strength
                )
            )
        )
    ),
    "a scheduled decay by the optimizer": Kind(
        functools.partial(
            decaying,
            strength_of=lambda strength: (
                strength * l2keras.LinearSchedule(0.0, 1.0, steps=5)
            ),
        )
    ),
    "a schedule in a layer that makes others": Kind(
        classifier(
            functools.partial(
                bidirectional,
                strength_of=lambda strength: (
                    l2keras.LinearSchedule(1.0, 0.0, steps=5) * strength
                ),
            )
        ),
        at_once=4,
    ),
    "a schedule times the strength, in `fit`": Kind(
        classifier(
            functools.partial(
                OwnStep,
                strength_of=lambda strength: (
                    strength * l2keras.LinearSchedule(0.0, 1.0, steps=5)
                ),
            ),
        ),
        "the model has a `train_step` of its own",
    ),
    "a regularizer of activities": Kind(
        net(
            last=lambda strength: layers.Dense(
                3, "softmax", activity_regularizer=L2(strength / 2)
            )
        )
    ),
    "convolution": Kind(
        classifier(convolutional),
        "layer 'dropout' draws random numbers",
        TORCH,
    ),
    "convolution without dropout, four at once": Kind(
        classifier(functools.partial(convolutional, dropout=0.0)), at_once=4
    ),
    "Bidirectional": Kind(classifier(bidirectional), at_once=4),
    "groups that proximal steps take to zero": Kind(
        net(
            optimizer=lambda: l2keras.Proximal(optimizers.Adam(0.03)),
            regularizer=l2keras.GroupLasso,
        )
    ),
    "a metric with a number for each class": Kind(
        lambda strength: net(
            loss="categorical_crossentropy",
            metrics=[keras.metrics.F1Score(name="f1")],
        )(strength),
        data=(X, np.eye(3, dtype="float32")[LABELS]),
    ),
    "masked outputs": Kind(
        masked,
        data=(X * (np.arange(6) < LABELS[:, None] + 3), X[:, :, None]),
    ),
    "one fold": Kind(net(), folds=FOLDS[:1], corners=((0, 0), (1, 0))),
    "a constant that is drawn": Kind(
        classifier(with_random_constant),
        "the stacked steps differ from those of a model alone: data_loss is ",
        ALL,
    ),
    "the generator of Keras": Kind(
        classifier(with_global_noise),
        "t",  # PyTorch cannot map it, TensorFlow trains otherwise.
        NOT_JAX,
    )
    if BACKEND != "jax" and KERAS >= (3, 13)
    else Kind(net()),
    "a counter in Python": Kind(
        classifier(annealing, run_eagerly=EAGER),
        "layer 'anneal' changes its attribute `calls`",
        ALL,
    ),
    "convolution, four at once": Kind(
        classifier(convolutional),
        "layer 'dropout' draws random numbers",
        TORCH,
        at_once=4,
    ),
    "LSTM": Kind(classifier(recurrent)),
    "LSTM, four at once": Kind(classifier(recurrent), at_once=4),
    "LSTM with dropout": Kind(
        classifier(functools.partial(recurrent, dropout=0.2)),
        "layer 'lstm_cell' draws random numbers",
        TORCH,
    ),
    "a subclassed model": Kind(classifier(Own)),
    "a compute_loss of its own": Kind(classifier(OwnLoss)),
    "a layer that takes no part": Kind(classifier(Idle)),
    "decay by the optimizer": Kind(decaying),
    "a train_step of its own": Kind(
        classifier(OwnStep, run_eagerly=EAGER),
        "the model has a `train_step` of its own",
    ),
    "a number for a strength": Kind(
        classifier(with_number, run_eagerly=EAGER),
        "`build_model` asks for the value of the strength",
    ),
}

# These add little to the others, or to `test_stack_optimizers.py`.
SLOW = {
    "a plain net",
    "a batch for all",
    "batches without a rest",
    "SGD with momentum",
    "AdamW",
    "Lamb",
    "a constraint",
    "a loss that is scaled",
    "a learning rate that falls",
    "averages of weights",
    "gradient accumulation",
    "one-hot labels",
    "regression",
    "a metric that is no mean",
    "a regularizer of activities",
    "convolution",
    "a subclassed model",
    "LSTM",
    # `fit` trains them, which is Keras's.
    "a train_step of its own",
    "decay by the optimizer",
    "a schedule in a layer that makes others",
    "a scheduled decay by the optimizer",
    "a number for a strength",
}


@pytest.mark.parametrize(
    ("build_model", "why", "on", "data", "options"),
    [
        pytest.param(
            *row, id=name, marks=[pytest.mark.slow] if name in SLOW else []
        )
        for name, row in KINDS.items()
    ],
)
def test_replicas_equal_plain_fits(build_model, why, on, data, options):
    reason = why if on is None or BACKEND in on else None
    x, y = data or (X, LABELS)
    corners = options.pop("corners", ((0, 0), (1, 1)))
    options = {"folds": FOLDS, **options}
    with told_why(reason):
        result = tune(build_model, x, y, **options)
    assert (result.fallback_reason or "").startswith(reason or "")
    assert (result.fallback_reason is None) == (reason is None)
    options = {
        name: value
        for name, value in options.items()
        if name not in ("folds", "at_once")
    }
    for s, f in corners:
        history = plain_fit(
            build_model, STRENGTHS[s], f, result.folds[f], x, y, **options
        )
        ours = {
            "data_loss": result.train_loss,
            "val_data_loss": result.validation_loss,
            **result.metrics,
        }
        # But for losses with the penalty in them, or of one output only.
        assert set(ours) == {
            name for name in history if not re.search(r"(^|[^a]_)loss$", name)
        }
        for name, values in ours.items():
            np.testing.assert_allclose(
                values[s, f], history[name], rtol=0, atol=1e-5, err_msg=name
            )


@pytest.mark.slow
def test_a_custom_compute_loss_with_a_custom_train_step_warns():
    class Both(OwnLoss, OwnStep):
        pass

    with (
        pytest.warns(UserWarning, match="its value without"),
        pytest.warns(UserWarning, match="Falling back to sequential training"),
    ):
        result = tune(classifier(Both, run_eagerly=EAGER))
    assert result.fallback_reason == "the model has a `train_step` of its own"
    expected = tune(classifier(OwnLoss))
    assert_same(result, expected, rtol=0, atol=1e-5)


@pytest.mark.skipif(BACKEND != "torch", reason="The others compile it in.")
def test_each_replica_draws_its_own_numpy_random_numbers():
    class Noise(layers.Layer):
        def call(self, inputs):
            return inputs + np.random.normal()  # noqa: NPY002

    build_model = classifier(lambda s: keras.Sequential([Noise(), Own(s)]))
    with told_why(
        "the stacked steps differ from those of a model alone: data_loss is"
    ):
        result = tune(build_model)
    history = plain_fit(build_model, STRENGTHS[1], 1, FOLDS[1], X, LABELS)
    np.testing.assert_allclose(
        result.validation_loss[1, 1], history["val_data_loss"], atol=1e-5
    )


def test_a_backbone_shared_by_build_model_is_unchanged():
    backbone = keras.Sequential([keras.Input((6,)), layers.Dense(8, "relu")])
    before = backbone.get_weights()

    def shared(strength):
        head = layers.Dense(3, "softmax", kernel_regularizer=L2(strength))
        return keras.Sequential([keras.Input((6,)), backbone, head])

    def in_numbers(strength):
        return shared(float(strength))

    stacked = tune(classifier(shared))
    with told_why("`build_model` asks for the value of the strength"):
        fitted = tune(classifier(in_numbers, run_eagerly=EAGER))
    assert_same(stacked, fitted, rtol=0, atol=1e-5)
    for ours, weights in zip(backbone.get_weights(), before, strict=True):
        np.testing.assert_array_equal(ours, weights)


def test_a_model_returned_twice_by_build_model_starts_afresh():
    model = keras.Sequential(
        [keras.Input((6,)), layers.Dense(3, "softmax", name="output")]
    )
    before = model.get_weights()

    def build_model(strength):
        l2keras.apply_regularizers(model, {"output/kernel": L2(strength)})
        model.compile(optimizers.SGD(0.1), "sparse_categorical_crossentropy")
        return model

    result = tune(build_model, strengths=[0.01, 0.02], epochs=3)
    # All folds begin with the weights that the model had.
    assert (np.ptp(result.train_loss[:, :, 0], axis=0) < 0.02).all()
    for ours, weights in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(ours, weights)


def test_a_scheduled_strength_is_trained_as_numpy_does():
    schedule = l2keras.LinearSchedule(0.0, 1.0, steps=4, begin=1)

    def build_model(strength):
        model = keras.Sequential(
            [
                keras.Input((6,)),
                layers.Dense(
                    1,
                    use_bias=False,
                    kernel_initializer="ones",
                    kernel_regularizer=L2(strength * schedule),
                ),
            ]
        )
        model.compile(optimizers.SGD(0.05), "mse")
        return model

    y = X[:, :1]
    result = tune(build_model, X, y, epochs=3, shuffle=False)
    for s, strength in enumerate(STRENGTHS):
        for f, (train, held_out) in enumerate(FOLDS):
            weights, step, losses = np.ones((6, 1)), 0, []
            for _ in range(3):
                for first in range(0, len(train), 16):
                    rows = train[first : first + 16]
                    error = X[rows] @ weights - y[rows]
                    now = strength * min(max(step - 1, 0) / 4, 1)
                    gradient = 2 * X[rows].T @ error / len(rows)
                    weights = weights - 0.05 * (gradient + 2 * now * weights)
                    step += 1
                error = X[held_out] @ weights - y[held_out]
                losses.append(np.mean(error**2))
            np.testing.assert_allclose(
                result.validation_loss[s, f], losses, rtol=1e-5
            )


@pytest.mark.skipif(BACKEND == "jax", reason="It has no float64 by default.")
def test_float64_models_are_stacked():
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    result = tune(net())
    assert result.fallback_reason is None
    history = plain_fit(net(), STRENGTHS[1], 1, FOLDS[1], X, LABELS)
    np.testing.assert_allclose(
        result.validation_loss[1, 1], history["val_data_loss"], atol=1e-7
    )


def test_two_searches_in_two_threads_equal_one():
    options = {"strengths": [0.01, 0.1], "epochs": 1, "verbose": 0}
    alone = tune(net(), **options)
    with concurrent.futures.ThreadPoolExecutor(2) as threads:
        found = list(threads.map(lambda _: tune(net(), **options), range(2)))
    for result in found:
        assert_same(result, alone, rtol=0, atol=0)


# How many at once, and in which order -----------------------------------------

THREE = [0.0, 0.03, 0.3]


def test_results_do_not_depend_on_at_once():
    options = {"strengths": THREE, "folds": FOLDS}
    alone = tune(net(layers.BatchNormalization), at_once=1, **options)
    for number in (2, None):
        result = tune(net(layers.BatchNormalization), at_once=number, **options)
        assert_same(result, alone, rtol=0, atol=1e-5)
        assert result.fallback_reason is None


def test_unshuffled_rows_keep_the_order_of_the_fold():
    result = tune(net(), shuffle=False, epochs=3)
    history = plain_fit(
        net(),
        STRENGTHS[1],
        1,
        result.folds[1],
        X,
        LABELS,
        epochs=3,
        shuffle=False,
    )
    np.testing.assert_array_equal(result.folds[1].train, FOLDS[1][0])
    for name, values in {
        "data_loss": result.train_loss,
        "val_data_loss": result.validation_loss,
    }.items():
        np.testing.assert_allclose(
            values[1, 1], history[name], rtol=0, atol=1e-5
        )


def test_results_depend_on_the_seed_alone():
    first = tune(net(), folds=3, seed=7)
    keras.utils.set_random_seed(99)
    again = tune(net(), folds=3, seed=7)
    assert_same(again, first, rtol=0, atol=0)
    for one, other in zip(first.folds, again.folds, strict=True):
        np.testing.assert_array_equal(one.train, other.train)
        np.testing.assert_array_equal(one.validation, other.validation)
    # Another order and other weights, on the same folds.
    other = tune(net(), folds=first.folds, seed=8)
    assert (other.validation_loss != first.validation_loss).all()
    assert (other.train_loss != first.train_loss).all()


def test_without_training_all_strengths_have_the_same_losses():
    # They see the same rows and start from the same weights.
    model = net(optimizer=lambda: optimizers.SGD(0.0))
    result = tune(model, strengths=[0.0, 0.5, 1.0], epochs=2)
    for losses in (result.validation_loss, result.train_loss):
        np.testing.assert_allclose(
            losses, losses[:1, :, :1] + 0 * losses, rtol=0, atol=1e-5
        )
