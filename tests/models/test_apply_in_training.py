"""Regularizers put on models that train, and taken off them."""

import functools

import keras
import numpy as np
import pytest

import l2keras
from tests.support import (
    BACKEND,
    assert_weights,
    documented_data,
    documented_model,
    falling,
    falling_schedule,
    rising,
    rising_schedule,
    simulate,
    simulated_losses,
)
from tests.support.built_models import attention, losses
from tests.support.model_copies import by_keras_file

X, Y = documented_data()  # Five batches of 16.


def outer_model():
    """Returns the documented model inside another, compiled."""
    inner = documented_model(None, None)
    inner.name = "inner"
    inputs = keras.Input((10,))
    model = keras.Model(inputs, inner(inputs))
    model.compile(keras.optimizers.SGD(0.1), "categorical_crossentropy")
    return model


def fit(model, *callbacks, epochs=1):
    return model.fit(
        X,
        Y,
        batch_size=16,
        epochs=epochs,
        shuffle=False,
        verbose=0,
        callbacks=list(callbacks),
    ).history


class Calls(keras.callbacks.Callback):
    """Calls a function after the first epoch."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def on_epoch_end(self, epoch, logs=None):
        if epoch == 0:
            self.function()


def twice(model, change, when, logger):
    """Trains for two epochs with a change between; returns the logs."""
    loggers = [] if logger is None else [l2keras.RegularizationLogger()]
    if when == "between two trainings":
        first = fit(model, *loggers)
        change()
        second = fit(model, *loggers)
        return {key: first[key] + second[key] for key in first}
    callbacks = [Calls(change)]
    callbacks[slice(1, 1) if logger == "last" else slice(0, 0)] = loggers
    return fit(model, *callbacks, epochs=2)


each_moment = pytest.mark.parametrize(
    ("when", "logger"),
    [
        ("between two trainings", None),
        ("between two trainings", "first"),
        ("in a callback", None),
        ("in a callback", "first"),
        ("in a callback", "last"),
    ],
)


def assert_trained(model, logs, weights, first, second):
    """Asserts that a model was trained for two epochs as NumPy does it."""
    truth = simulate(weights, X, Y, first=first, second=second, epochs=2)
    assert_weights(model, truth.weights)
    expected = np.add(truth.data_losses, truth.regularization_losses)
    np.testing.assert_allclose(logs["loss"], expected, rtol=0, atol=1e-5)
    if "data_loss" in logs:
        np.testing.assert_allclose(
            logs["regularization_loss"],
            truth.regularization_losses,
            rtol=0,
            atol=1e-5,
        )


@each_moment
@pytest.mark.parametrize("given", ["outer", "inner"])
def test_applying_during_fit_takes_effect(given, when, logger):
    model = outer_model()
    weights = model.get_weights()

    def change():
        # The one that was compiled is the outer model.
        inner = given == "inner"
        l2keras.apply_regularizers(
            model.get_layer("inner") if inner else model,
            {f"{'' if inner else 'inner/'}hidden/kernel": l2keras.L2(0.05)},
            default=l2keras.L2(0.02),
        )

    logs = twice(model, change, when, logger)
    assert_trained(
        model,
        logs,
        weights,
        lambda step: 0.05 * (step >= 5),
        lambda step: 0.02 * (step >= 5),
    )


@each_moment
def test_stripping_during_fit_takes_effect(when, logger):
    model = outer_model()
    weights = model.get_weights()
    l2keras.apply_regularizers(model, default=l2keras.L2(0.05))
    logs = twice(model, lambda: l2keras.strip_regularizers(model), when, logger)

    def strength(step):
        return 0.05 * (step < 5)

    assert_trained(model, logs, weights, strength, strength)


def test_a_fitted_model_trains_on_as_one_made_with_the_regularizers():
    expected = documented_model(
        keras.regularizers.L2(0.05), keras.regularizers.L2(0.05)
    )
    model = documented_model(None, None)
    for each in (expected, model):
        each.compile("sgd", "categorical_crossentropy")
    fit(model)
    expected.set_weights(model.get_weights())
    l2keras.apply_regularizers(model, default=l2keras.L2(0.05))
    np.testing.assert_allclose(
        fit(model)["loss"], fit(expected)["loss"], rtol=1e-6
    )
    assert_weights(model, expected.get_weights())


@pytest.mark.parametrize("scheduled_before", [True, False])
@pytest.mark.parametrize("logger", ["first", "last"])
def test_schedules_applied_in_a_callback_move(logger, scheduled_before):
    model = outer_model()
    weights = model.get_weights()
    if scheduled_before:
        l2keras.apply_regularizers(
            model, default=l2keras.L2(falling_schedule())
        )

    def change():
        l2keras.apply_regularizers(model, default=l2keras.L2(rising_schedule()))

    def strength(step):
        if step < 5:
            return falling(step) if scheduled_before else 0.0
        return rising(step)

    logs = twice(model, change, "in a callback", logger)
    assert_trained(model, logs, weights, strength, strength)


def test_lora_factors_that_keras_merges_into_the_kernel(tmp_path):
    # Keras merges them into the kernel, in the file.
    model = attention()
    model.get_layer("mha").query_dense.enable_lora(2)
    l2keras.apply_regularizers(model, default=l2keras.L2(0.1))
    again = by_keras_file(model, tmp_path)
    assert [
        record.path for record in l2keras.penalties(again) if record.penalty
    ] == [
        f"mha/{name}/kernel"
        for name in ("query", "key", "value", "attention_output")
    ]


def test_a_replaced_schedule_continues_from_the_same_step():
    model = outer_model()
    weights = model.get_weights()
    rules = {"inner/hidden/kernel": l2keras.L2(falling_schedule())}
    l2keras.apply_regularizers(model, rules)

    def change():
        before = len(model.variables)
        l2keras.apply_regularizers(model, default=l2keras.L2(rising_schedule()))
        # A schedule brings no variable with it.
        assert len(model.variables) == before
        # The step is kept.
        _, penalty = simulated_losses(
            model.get_weights(), X, Y, rising(5), rising(5)
        )
        assert sum(losses(model)) == pytest.approx(penalty, rel=1e-5)

    logs = twice(model, change, "between two trainings", "first")
    assert_trained(
        model,
        logs,
        weights,
        lambda step: falling(step) if step < 5 else rising(step),
        lambda step: 0.0 if step < 5 else rising(step),
    )


def test_a_schedule_applied_to_a_model_without_one_advances():
    model = outer_model()
    weights = model.get_weights()
    logs = twice(
        model,
        lambda: l2keras.apply_regularizers(
            model, default=l2keras.L2(rising_schedule())
        ),
        "between two trainings",
        "first",
    )

    def strength(step):
        return rising(step) * (step >= 5)

    assert_trained(model, logs, weights, strength, strength)


@pytest.mark.parametrize("logger", [None, "first", "last"])
def test_applying_during_fit_takes_effect_in_validation(logger):
    # The weights stay 1, so that data loss and penalties are known.
    dense = keras.layers.Dense(
        1, kernel_initializer="ones", kernel_regularizer=l2keras.L2(1.0)
    )
    model = keras.Sequential([keras.Input((4,)), dense])
    model.compile(keras.optimizers.SGD(0.0), "mse")
    path = f"{dense.name}/kernel"
    attributes = set(vars(model))
    changes = [
        lambda: None,
        lambda: l2keras.apply_regularizers(model, {path: l2keras.L2(3.0)}),
        lambda: l2keras.set_scale(model, {path: 0.5}),
        lambda: l2keras.strip_regularizers(model),
    ]

    class Changes(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            changes[epoch]()

    callbacks = [Changes()]
    if logger is not None:
        at = 0 if logger == "first" else 1
        callbacks.insert(at, l2keras.RegularizationLogger())
    data = np.ones((8, 4)), np.zeros(8)
    logs = model.fit(
        *data,
        epochs=len(changes),
        validation_data=data,
        verbose=0,
        callbacks=callbacks,
    ).history
    for name in ("loss", "val_loss"):
        np.testing.assert_allclose(logs[name], [20, 28, 22, 16])
    assert model.evaluate(*data, verbose=0) == 16
    steps = {"train_step", "test_step"}
    assert not steps & (set(vars(model)) - attributes)


@pytest.mark.skipif(
    BACKEND != "jax", reason="JAX looks up by the function what it compiled"
)
@pytest.mark.parametrize("is_partial", [False, True])
@pytest.mark.parametrize("logger", [False, True])
def test_assigned_train_and_test_steps_see_the_applied_penalty(
    logger, is_partial
):
    model = keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(1, kernel_initializer="ones", name="hidden"),
        ]
    )
    model.compile(keras.optimizers.SGD(0.0), "mse")
    if is_partial:
        step = functools.partial(keras.Model.train_step, model)
        model.train_step = functools.partial(step)
    model.train_step, model.test_step = model.train_step, model.test_step
    # Twice, before anything is compiled.
    for strength in (3.0, 0.0):
        regularizer = l2keras.L2(strength)
        l2keras.apply_regularizers(model, {"hidden/kernel": regularizer})
    data = np.ones((8, 4)), np.zeros(8)
    change = Calls(
        lambda: l2keras.apply_regularizers(
            model, {"hidden/kernel": l2keras.L2(1.0)}
        )
    )
    logs = model.fit(
        *data,
        epochs=2,
        validation_data=data,
        verbose=0,
        callbacks=[change, *([l2keras.RegularizationLogger()] * logger)],
    ).history
    assert logs["loss"] == [16, 20]
    assert logs["val_loss"] == [16, 20]
    assert model.fit(*data, verbose=0).history["loss"] == [20]
    l2keras.strip_regularizers(model)
    assert model.fit(*data, verbose=0).history["loss"] == [16]
    assert model.evaluate(*data, verbose=0) == 16
