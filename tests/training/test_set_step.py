"""set_step: in a loop of one's own, and in a callback of one's own."""

import warnings

import keras
import numpy as np
import pytest
from keras import ops

import l2keras
from tests.support import (
    assert_weights,
    documented_data,
    documented_model,
    falling,
    number,
    rising,
    rising_schedule,
    simulate,
    simulated_losses,
)
from tests.support.numpy_trainings import compiled, fit, scheduled_model
from tests.support.training_loops import train_in_a_loop, train_on_batches


@pytest.mark.parametrize("train", [train_on_batches, train_in_a_loop])
def test_a_loop_with_set_step_equals_numpy(train):
    x, y = documented_data(samples=150)
    model = compiled(scheduled_model())
    start = model.get_weights()
    train(model, x, y, drive=True)
    truth = simulate(start, x, y, first=rising, second=falling)
    assert_weights(model, truth.weights)


@pytest.mark.parametrize(
    "step", [3, 3.0, np.int64(3), np.array(3), np.float32(3.0)], ids=repr
)
def test_set_step_takes_numbers(step):
    model = documented_model(l2keras.L2(rising_schedule()), None)
    l2keras.set_step(model, step)
    kernel = model.get_weights()[0]
    np.testing.assert_allclose(
        number(model.losses[0]), rising(3) * np.sum(kernel**2), rtol=1e-6
    )


def test_set_step_takes_tensors_and_variables():
    model = documented_model(l2keras.L2(rising_schedule()), None)
    kernel = model.get_weights()[0]
    optimizer = keras.optimizers.SGD()
    optimizer.iterations.assign(7)
    for given, step in ((ops.array(4), 4), (optimizer.iterations, 7)):
        l2keras.set_step(model, given)
        np.testing.assert_allclose(
            number(model.losses[0]), rising(step) * np.sum(kernel**2), rtol=1e-6
        )


@pytest.mark.parametrize(
    ("step", "error", "received"),
    [
        (-1, ValueError, "-1"),
        (1.5, ValueError, "1.5"),
        (float("nan"), ValueError, "nan"),
        ("3", TypeError, "'3' (of type str)"),
        (None, TypeError, "None (of type NoneType)"),
        (True, TypeError, "True (of type bool)"),
    ],
)
def test_set_step_rejects_invalid_steps(step, error, received):
    model = documented_model(l2keras.L2(rising_schedule()), None)
    with pytest.raises(error) as caught:
        l2keras.set_step(model, step)
    assert str(caught.value) == (
        f"Argument `step` must be an integer >= 0. Received: step={received}"
    )


@pytest.mark.parametrize(
    "call",
    [
        lambda model: l2keras.set_step(model, 0),
        lambda model: l2keras.set_scale(model, {".*": 1.0}),
    ],
    ids=["set_step", "set_scale"],
)
def test_set_step_rejects_unbuilt_models(call):
    layer = keras.layers.Dense(1, name="alone")
    with pytest.raises(TypeError) as caught:
        call(layer)
    assert str(caught.value) == (
        "Argument `model` must be a Keras model. Received: "
        f"model={layer!r} (of type Dense)"
    )
    with pytest.raises(ValueError, match="not built") as caught:
        call(keras.Sequential([layer], name="fresh"))
    assert str(caught.value) == (
        "Model 'fresh' is not built, so it has no weights yet. Call "
        "`model.build(input_shape)` first, or call it on data."
    )


def test_set_step_adds_no_variables_to_a_model_without_schedules():
    model = documented_model(l2keras.L2(0.1), keras.regularizers.L1(0.1))
    before = [id(variable) for variable in model.variables]
    l2keras.set_step(model, 5)
    assert [id(variable) for variable in model.variables] == before


@pytest.mark.parametrize("callbacks", [[], [l2keras.RegularizationLogger]])
def test_set_step_takes_effect_after_compile_and_fit(callbacks):
    x, y = documented_data()
    model = documented_model(
        l2keras.L2(l2keras.LinearSchedule(0.0, 0.05, steps=20)), None
    )
    compiled(model, keras.optimizers.SGD(0.0))
    with warnings.catch_warnings():
        # Whether it warns is the subject of other tests.
        warnings.simplefilter("ignore")
        fit(
            model,
            x,
            y,
            epochs=1,
            callbacks=[callback() for callback in callbacks],
        )
    data = simulated_losses(model.get_weights(), x, y, 0.0, 0.0)[0]
    squares = np.sum(np.square(model.get_weights()[0], dtype="float64"))
    for step in (10, 20, 5):
        l2keras.set_step(model, step)
        expected = data + 0.05 * step / 20 * squares
        np.testing.assert_allclose(
            model.evaluate(x, y, verbose=0), expected, rtol=1e-5
        )
        # On a batch: Keras gives the mean of all since the metrics' reset.
        model.reset_metrics()
        np.testing.assert_allclose(
            model.train_on_batch(x, y), expected, rtol=1e-5
        )


def test_set_step_in_a_custom_callback_sets_the_step_of_fit():
    class Drive(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            l2keras.set_step(self.model, self.model.optimizer.iterations)

    x, y = documented_data()
    model = compiled(scheduled_model())
    start = model.get_weights()
    l2keras.set_step(model, 0)
    fit(model, x, y, epochs=3, callbacks=[Drive()])
    truth = simulate(start, x, y, first=rising, second=falling, epochs=3)
    assert_weights(model, truth.weights)
