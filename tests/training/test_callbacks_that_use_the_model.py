"""Callbacks and generators that use a model while it is trained.

The split is of the training's own steps, as Keras's `loss` is.
"""

import keras
import numpy as np
import pytest

import l2keras
from tests.support import (
    BACKEND,
    assert_means,
    assert_splits,
    assert_weights,
    falling,
    rising,
    simulate,
)
from tests.support.logged_trainings import (
    STEPS,
    VALIDATION,
    X,
    Y,
    constant_model,
    fit,
    means_of,
    scheduled_model,
)


class Calls(keras.callbacks.Callback):
    """Calls a function with the model in one of the hooks."""

    def __init__(self, hook, function):
        super().__init__()
        setattr(self, hook, lambda *args, **kwargs: function(self.model))


def compute_loss(model):
    model.compute_loss(x=X[:1], y=100 * Y[:1], y_pred=model(100 * X[:1]))


@pytest.mark.parametrize(
    "hook", ["on_train_batch_begin", "on_train_batch_end", "on_epoch_begin"]
)
def test_a_loss_computed_by_a_callback_is_not_in_the_split(hook):
    model = scheduled_model()
    start = model.get_weights()
    callbacks = [
        Calls(hook, compute_loss),
        l2keras.RegularizationLogger(penalties=True),
    ]
    logs = fit(model, X, Y, callbacks, epochs=2, **VALIDATION)
    truth = simulate(start, X, Y, first=rising, second=falling, epochs=2)
    assert_weights(model, truth.weights)
    assert_means(logs, truth)
    assert_splits(logs, "val_")


def test_a_loss_computed_by_a_callback_is_not_in_the_split_of_evaluate():
    model = constant_model()
    alone = model.evaluate(X, Y, batch_size=16, verbose=0)
    logs = model.evaluate(
        X,
        Y,
        batch_size=16,
        verbose=0,
        return_dict=True,
        callbacks=[
            Calls("on_test_batch_end", compute_loss),
            l2keras.RegularizationLogger(),
        ],
    )
    np.testing.assert_allclose(logs["loss"], alone, rtol=1e-6)
    assert_splits(logs)


@pytest.mark.skipif(
    BACKEND == "jax", reason="There the model has no weights meanwhile."
)
def test_a_loss_computed_by_a_generator_is_not_in_the_split():
    model = scheduled_model()
    start = model.get_weights()

    def generate():
        for _ in range(2):
            for begin in range(0, 64, 16):
                compute_loss(model)
                yield X[begin : begin + 16], Y[begin : begin + 16]

    logs = fit(model, generate(), epochs=2, steps_per_epoch=STEPS)
    truth = simulate(start, X, Y, first=rising, second=falling, epochs=2)
    assert_means(logs, truth)


class OtherThreads(keras.utils.PyDataset):
    """Computes a loss in a thread of its own for each batch."""

    def __init__(self, model):
        super().__init__(workers=2, max_queue_size=4)
        self.model = model

    def __len__(self):
        return STEPS

    def __getitem__(self, index):
        compute_loss(self.model)
        rows = slice(16 * index, 16 * index + 16)
        return X[rows], Y[rows]


@pytest.mark.skipif(
    BACKEND == "jax", reason="There the model has no weights meanwhile."
)
def test_a_loss_computed_in_other_threads_is_not_in_the_split():
    model = scheduled_model(rate=0.0)
    start = model.get_weights()
    logs = fit(model, OtherThreads(model), epochs=2)
    truth = simulate(
        start, X, Y, first=rising, second=falling, rate=0.0, epochs=2
    )
    assert_means(logs, truth)


@pytest.mark.parametrize("callbacks", [0, 1], ids=["plain", "logged"])
def test_a_callback_that_fits_the_same_model_keeps_the_split(callbacks):
    model = scheduled_model()
    inner = []

    def train(model):
        loggers = [l2keras.RegularizationLogger() for _ in range(callbacks)]
        inner.append(fit(model, X, Y, loggers))

    logger = l2keras.RegularizationLogger(penalties=True)
    start = model.get_weights()
    logs = fit(
        model,
        X,
        Y,
        [logger, Calls("on_epoch_end", train)],
        epochs=3,
        **VALIDATION,
    )
    truth = simulate(start, X, Y, first=rising, second=falling, epochs=6)
    assert_weights(model, truth.weights)
    np.testing.assert_allclose(
        logs["data_loss"], truth.data_losses[::2], rtol=1e-5
    )
    assert_splits(logs)
    assert_splits(logs, "val_")
    assert len(logs["regularization_loss/hidden/kernel"]) == 3
    for each in inner:
        assert ("data_loss" in each) == bool(callbacks)


def test_a_callback_that_trains_on_a_batch_keeps_the_split():
    model = constant_model()
    outputs = []

    def train(model):
        outputs.append(model.train_on_batch(X[:16], Y[:16]))

    callbacks = [
        Calls("on_train_batch_end", train),
        l2keras.RegularizationLogger(),
    ]
    logs = fit(model, X, Y, callbacks, epochs=2)
    assert_splits(logs)  # Keras counts those batches, too.
    assert all(np.ndim(output) == 0 for output in outputs)


@pytest.mark.parametrize("hook", ["on_train_batch_end", "on_epoch_end"])
def test_a_callback_that_evaluates_with_a_logger_of_its_own(hook):
    model = scheduled_model()
    start = model.get_weights()
    found = []

    def evaluate(model):
        found.append(
            model.evaluate(
                X,
                Y,
                verbose=0,
                return_dict=True,
                callbacks=[l2keras.RegularizationLogger(penalties=True)],
            )
        )

    callbacks = [l2keras.RegularizationLogger(), Calls(hook, evaluate)]
    logs = fit(model, X, Y, callbacks, epochs=2, **VALIDATION)
    truth = simulate(start, X, Y, first=rising, second=falling, epochs=2)
    assert_weights(model, truth.weights)
    assert_splits(logs)
    assert_splits(logs, "val_")
    assert not [key for key in logs if "/" in key]
    for result in found:
        assert_splits(result)
        assert "regularization_loss/hidden/kernel" in result


# Two loggers.


@pytest.mark.parametrize("order", [1, -1], ids=["first", "last"])
def test_each_of_two_loggers_logs_its_own_options(order):
    loggers = [
        l2keras.RegularizationLogger(penalties=True, strengths=True),
        l2keras.RegularizationLogger(),
    ]
    logs = fit(constant_model(), X, Y, loggers[::order], **VALIDATION)
    penalties = {
        f"regularization_loss/{name}/kernel" for name in ("hidden", "output")
    }
    for prefix in ("", "val_"):
        assert {prefix + key for key in penalties} <= set(logs)
        assert_splits(logs, prefix)
    assert logs["strength/hidden/kernel"] == [pytest.approx(0.05)]


# Layers that are frozen, and regularizers that go.


eager_only = pytest.mark.skipif(
    BACKEND == "jax",
    reason="Keras's JAX trainer holds on to the weights that it began with.",
)


def freeze(model):
    model.layers[0].trainable = False


def take_regularizer(model):
    model.layers[0].kernel.regularizer = None


@eager_only
@pytest.mark.parametrize("change", [freeze, take_regularizer])
def test_a_weight_frozen_during_fit_is_logged_as_zero(change):
    model = constant_model(rate=0.0, run_eagerly=True)

    class Changes(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 1:
                change(model)

    logger = l2keras.RegularizationLogger(penalties=True)
    logs = fit(model, X, Y, [logger, Changes()], epochs=2, **VALIDATION)
    squares = [np.sum(np.square(model.get_weights()[i])) for i in (0, 2)]
    hidden, output = 0.05 * squares[0], 0.02 * squares[1]
    for prefix, epochs in (("", [hidden, 0.0]), ("val_", [hidden, 0.0])):
        key = f"{prefix}regularization_loss"
        np.testing.assert_allclose(
            logs[f"{key}/hidden/kernel"], epochs, rtol=1e-5
        )
        np.testing.assert_allclose(
            logs[f"{key}/output/kernel"], [output] * 2, rtol=1e-5
        )
        assert_splits(logs, prefix)
    np.testing.assert_allclose(
        logs["regularization_loss"], [hidden + output, output], rtol=1e-5
    )


@eager_only
def test_a_layer_unfrozen_during_fit_is_logged():
    model = scheduled_model(rate=0.0, run_eagerly=True)
    model.layers[0].trainable = False

    class Thaws(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 1:
                model.layers[0].trainable = True
                model.optimizer.built = False  # Keras builds it anew.

    logger = l2keras.RegularizationLogger(penalties=True)
    logs = fit(model, X, Y, [logger, Thaws()], epochs=2)
    squares = [np.sum(np.square(model.get_weights()[i])) for i in (0, 2)]
    np.testing.assert_allclose(
        logs["regularization_loss/output/kernel"],
        [squares[1] * means_of(falling, epoch) for epoch in (0, 1)],
        rtol=1e-5,
    )
    np.testing.assert_allclose(
        logs["regularization_loss"][1],
        squares[0] * means_of(rising, 1) + squares[1] * means_of(falling, 1),
        rtol=1e-5,
    )
    assert_splits(logs)
