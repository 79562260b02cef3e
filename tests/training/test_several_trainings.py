"""One logger in several trainings, and several loggers in one."""

import copy

import keras
import numpy as np
import pytest

import l2keras
from tests.support import (
    assert_means,
    assert_splits,
    assert_weights,
    documented_model,
    falling,
    rising,
    rising_schedule,
    simulate,
    simulated_losses,
)
from tests.support.logged_trainings import (
    VALIDATION,
    X,
    Y,
    compiled,
    constant_model,
    fit,
    scheduled_model,
    warned,
)


def test_further_fits_continue_the_schedules():
    model = scheduled_model()
    start = model.get_weights()
    logger = l2keras.RegularizationLogger()
    logs = [fit(model, X, Y, [logger], epochs=1) for _ in range(3)]
    truth = simulate(start, X, Y, first=rising, second=falling, epochs=3)
    assert_weights(model, truth.weights)
    assert_means({key: [log[key][0] for log in logs] for key in logs[0]}, truth)


def test_compiling_again_restarts_the_schedule():
    model = scheduled_model()
    logger = l2keras.RegularizationLogger()
    fit(model, X, Y, [logger])
    start = model.get_weights()
    compiled(model, rate=0.05)
    logs = fit(model, X, Y, [logger])
    truth = simulate(start, X, Y, first=rising, second=falling, rate=0.05)
    assert_weights(model, truth.weights)
    assert_means(logs, truth)


def test_a_layer_frozen_between_fits_is_not_penalized():
    model = constant_model()
    logger = l2keras.RegularizationLogger(penalties=True, strengths=True)
    logs = fit(model, X, Y, [logger])
    assert "regularization_loss/hidden/kernel" in logs
    model.layers[0].trainable = False
    compiled(model)
    frozen = model.get_weights()[0]
    logs = fit(model, X, Y, [logger], **VALIDATION)
    assert "regularization_loss/hidden/kernel" not in logs
    assert "strength/hidden/kernel" not in logs
    assert_splits(logs)
    np.testing.assert_allclose(
        logs["regularization_loss"], logs["regularization_loss/output/kernel"]
    )
    np.testing.assert_array_equal(model.get_weights()[0], frozen)
    model.layers[0].trainable = True
    compiled(model)
    logs = fit(model, X, Y, [logger])
    assert "regularization_loss/hidden/kernel" in logs
    assert_splits(logs)


def test_a_regularizer_replaced_between_fits_takes_effect():
    model = compiled(documented_model(None, None))
    logger = l2keras.RegularizationLogger(penalties=True)
    assert fit(model, X, Y, [logger])["regularization_loss"] == [0.0]
    start = model.get_weights()
    model.layers[0].kernel.regularizer = l2keras.L2(rising_schedule())
    compiled(model)
    logs = fit(model, X, Y, [logger])
    truth = simulate(start, X, Y, first=rising, second=lambda step: 0.0)
    assert_weights(model, truth.weights)
    assert_means(logs, truth)


def test_one_logger_for_two_models():
    logger = l2keras.RegularizationLogger()
    models = [scheduled_model(), constant_model()]
    for model in [*models, models[0]]:
        logs = fit(model, X, Y, [logger], **VALIDATION)
        assert_splits(logs)
        assert_splits(logs, "val_")


def test_a_second_fit_with_another_logger():
    model = scheduled_model()
    start = model.get_weights()
    one = l2keras.RegularizationLogger()
    other = l2keras.RegularizationLogger(penalties=True)
    fit(model, X, Y, [one])
    fit(model, X, Y, [other])
    logs = fit(model, X, Y, [one])
    assert "regularization_loss/hidden/kernel" not in logs
    truth = simulate(start, X, Y, first=rising, second=falling, epochs=3)
    assert_weights(model, truth.weights)
    np.testing.assert_allclose(
        logs["data_loss"], truth.data_losses[-1:], rtol=1e-5
    )


def test_two_loggers_in_one_fit():
    model = scheduled_model()
    start = model.get_weights()
    loggers = [
        l2keras.RegularizationLogger(),
        l2keras.RegularizationLogger(penalties=True),
    ]
    logs = fit(model, X, Y, loggers, epochs=2, **VALIDATION)
    truth = simulate(start, X, Y, first=rising, second=falling, epochs=2)
    assert_weights(model, truth.weights)
    assert_means(logs, truth)


def test_evaluate_with_the_logger_splits():
    model = scheduled_model(metrics=["accuracy"])
    l2keras.set_step(model, 6)
    logger = l2keras.RegularizationLogger(penalties=True, strengths=True)
    logs = model.evaluate(X, Y, verbose=0, callbacks=[logger], return_dict=True)
    data, regularization = simulated_losses(
        model.get_weights(), X, Y, rising(6), falling(6)
    )
    assert set(logs) == {
        "loss",
        "accuracy",
        "data_loss",
        "regularization_loss",
        "regularization_loss/hidden/kernel",
        "regularization_loss/output/kernel",
    }
    np.testing.assert_allclose(logs["data_loss"], data, rtol=1e-5)
    np.testing.assert_allclose(
        logs["regularization_loss"], regularization, rtol=1e-5
    )
    assert_splits(logs)
    assert len(model.evaluate(X, Y, verbose=0)) == 2


def test_evaluate_with_the_logger_after_fit_and_again():
    model = scheduled_model()
    logger = l2keras.RegularizationLogger()
    for _ in range(2):
        fit(model, X, Y, [logger], **VALIDATION)
        logs = model.evaluate(
            X, Y, verbose=0, callbacks=[logger], return_dict=True
        )
        assert_splits(logs)
        assert isinstance(model.evaluate(X, Y, verbose=0), float)


@pytest.mark.parametrize("used", [False, True], ids=["new", "used"])
def test_a_logger_can_be_copied(used):
    # As tuners copy callbacks for each trial.
    logger = l2keras.RegularizationLogger(penalties=True)
    if used:
        fit(constant_model(), X, Y, [logger])
    again = copy.deepcopy(logger)
    logs = fit(constant_model(), X, Y, [again])
    assert "regularization_loss/hidden/kernel" in logs
    assert_splits(logs)


def test_evaluating_another_model_with_the_same_schedule_during_fit():
    shared = l2keras.L2(rising_schedule())
    model, other = (
        compiled(documented_model(shared, shared)) for _ in range(2)
    )

    class Asks(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            other.evaluate(X, Y, verbose=0)  # At step 0.

    start = model.get_weights()
    callbacks = [Asks(), l2keras.RegularizationLogger()]
    _, messages = warned(fit, model, X, Y, callbacks)
    truth = simulate(start, X, Y, first=rising, second=rising)
    assert_weights(model, truth.weights)
    assert messages == []
