"""Trainings by `fit` equal those in NumPy: every way to run, every model."""

import keras
import numpy as np
import pytest
from keras import ops

import l2keras
from tests.support import (
    assert_means,
    assert_splits,
    assert_weights,
    documented_data,
    documented_model,
    falling,
    falling_schedule,
    linear_data,
    rising,
    rising_schedule,
    simulate,
    simulate_linear,
    simulated_losses,
    torch_compile_only,
)
from tests.support.numpy_trainings import (
    compiled,
    fit,
    scheduled_model,
    train_like_numpy,
)
from tests.support.trace_counts import compiled_only, many_steps, several_pieces

# Every way that Keras has to run a step.


@pytest.mark.parametrize(
    "mode",
    [
        pytest.param({}, id="plain"),
        pytest.param({"run_eagerly": True}, id="run_eagerly"),
        pytest.param(
            {"jit_compile": True}, id="jit_compile", marks=compiled_only
        ),
        pytest.param(
            {"steps_per_execution": 2},
            id="steps_per_execution=2",
            marks=many_steps,
        ),
        pytest.param(
            {"steps_per_execution": 5},
            id="steps_per_execution=5",
            marks=many_steps,
        ),
    ],
)
def test_training_equals_numpy(mode):
    # Five steps an epoch, the last of them on 11 samples of 16.
    model = compiled(scheduled_model(), **mode)
    train_like_numpy(model)
    assert ops.convert_to_numpy(model.optimizer.iterations) == 15


@torch_compile_only
@several_pieces
@pytest.mark.parametrize(
    "mode", [{}, pytest.param({"steps_per_execution": 2}, marks=many_steps)]
)
def test_training_equals_numpy_with_torch_compile(mode):
    x, y = documented_data(samples=48)
    model = compiled(scheduled_model(), jit_compile=True, **mode)
    start = model.get_weights()
    logs = fit(model, x, y, epochs=2)
    truth = simulate(start, x, y, first=rising, second=falling, epochs=2)
    assert_weights(model, truth.weights)
    assert_means(logs, truth)
    assert_splits(logs, rtol=1e-6)


@pytest.mark.skipif(
    not hasattr(keras.optimizers, "MultiOptimizer"), reason="Since Keras 3.15."
)
@pytest.mark.parametrize(
    "mode", [{}, pytest.param({"steps_per_execution": 2}, marks=many_steps)]
)
def test_training_equals_numpy_with_an_optimizer_made_of_several(mode):
    optimizer = keras.optimizers.MultiOptimizer(
        keras.optimizers.OptimizerMap(
            keras.optimizers.SGD(0.1),
            {".*hidden.*": keras.optimizers.SGD(0.1)},
        )
    )
    train_like_numpy(compiled(scheduled_model(), optimizer, **mode))
    assert len(optimizer.optimizers) == 2


def test_validation_uses_the_strength_after_the_epoch():
    x, y = documented_data()
    model = compiled(scheduled_model())
    logs = fit(model, x, y, epochs=1, validation_data=(x[:20], y[:20]))
    data, regularization = simulated_losses(
        model.get_weights(), x[:20], y[:20], rising(5), falling(5)
    )
    np.testing.assert_allclose(logs["val_data_loss"], [data], rtol=1e-5)
    np.testing.assert_allclose(
        logs["val_regularization_loss"], [regularization], rtol=1e-5
    )
    np.testing.assert_allclose(
        model.evaluate(x[:20], y[:20], verbose=0),
        data + regularization,
        rtol=1e-5,
    )


def test_schedules_follow_updates_when_gradients_accumulate():
    x, y = documented_data()
    optimizer = keras.optimizers.SGD(0.1, gradient_accumulation_steps=2)
    model = compiled(scheduled_model(), optimizer)
    start = model.get_weights()
    logs = fit(model, x, y)
    truth = simulate(
        start, x, y, first=rising, second=falling, epochs=3, accumulate=2
    )
    assert truth.step == 7
    assert_weights(model, truth.weights)
    assert_means(logs, truth)


def test_training_equals_numpy_with_loss_scaling():
    optimizer = keras.optimizers.LossScaleOptimizer(
        keras.optimizers.SGD(0.1), initial_scale=64.0, dynamic_growth_steps=4
    )
    train_like_numpy(compiled(scheduled_model(), optimizer))


def test_schedules_pause_in_a_step_that_loss_scaling_skips():
    x, y = documented_data(samples=80)
    optimizer = keras.optimizers.LossScaleOptimizer(
        keras.optimizers.SGD(0.1), initial_scale=64.0
    )
    model = compiled(scheduled_model(), optimizer)
    start = model.get_weights()
    broken = x.copy()
    broken[16:32] = np.inf
    logs = fit(model, broken, y)
    kept = np.r_[0:16, 32:80]
    truth = simulate(
        start, x[kept], y[kept], first=rising, second=falling, epochs=3
    )
    assert truth.step == 12
    assert_weights(model, truth.weights)
    assert np.isfinite(logs["regularization_loss"]).all()


@pytest.mark.parametrize(
    ("policy", "atol"),
    [
        ("mixed_float16", 5e-3),
        ("mixed_bfloat16", 1e-2),
        ("float16", 5e-3),
        ("bfloat16", 4e-2),
    ],
)
def test_training_nears_numpy_in_half_precision(policy, atol):
    keras.config.set_dtype_policy(policy)
    model = compiled(scheduled_model())
    train_like_numpy(model, atol=atol, means_atol=5 * atol)


def test_training_nears_numpy_when_floatx_is_float16():
    keras.config.set_floatx("float16")
    keras.config.set_dtype_policy("float16")
    model = compiled(scheduled_model())
    train_like_numpy(model, atol=5e-3, means_atol=2e-2)


def test_a_penalty_that_float16_cannot_hold_is_logged():
    # 1024 * 64 * 1.5**2 is 147456, and float16 ends at 65504.
    model = keras.Sequential(
        [
            keras.Input((1024,)),
            keras.layers.Dense(
                64,
                kernel_initializer=keras.initializers.Constant(1.5),
                kernel_regularizer=l2keras.L2(l2keras.LinearSchedule(1, 1, 1)),
                dtype="float16",
            ),
        ]
    )
    model.compile(keras.optimizers.SGD(0.0), "mse")
    logs = fit(model, np.zeros((4, 1024)), np.zeros((4, 64)), epochs=1)
    np.testing.assert_allclose(logs["regularization_loss"], [147456.0])


# Every kind of model.


def functional():
    inputs = keras.Input((10,))
    hidden, output = scheduled_model().layers
    return keras.Model(inputs, output(hidden(inputs)))


def subclassed():
    class Subclassed(keras.Model):
        def __init__(self):
            super().__init__()
            self.hidden, self.out = scheduled_model().layers

        def call(self, x):
            return self.out(self.hidden(x))

    model = Subclassed()
    model.build((None, 10))
    return model


def unbuilt():
    class Unbuilt(keras.Model):
        def __init__(self):
            super().__init__()
            self.hidden = keras.layers.Dense(
                64,
                activation="relu",
                kernel_regularizer=l2keras.L2(rising_schedule()),
            )
            self.out = keras.layers.Dense(
                3,
                activation="softmax",
                kernel_regularizer=l2keras.L2(falling_schedule()),
            )

        def call(self, x):
            return self.out(self.hidden(x))

    return Unbuilt()


def nested_sequential():
    hidden, output = scheduled_model().layers
    inner = keras.Sequential([keras.Input((10,)), hidden], name="inner")
    return keras.Sequential([keras.Input((10,)), inner, output])


def nested_functional():
    hidden, output = scheduled_model().layers
    inside = keras.Input((10,))
    inner = keras.Model(inside, hidden(inside), name="inner")
    inputs = keras.Input((10,))
    return keras.Model(inputs, output(inner(inputs)))


def in_a_layer():
    class Block(keras.layers.Layer):
        def __init__(self):
            super().__init__()
            self.hidden, self.out = scheduled_model().layers

        def call(self, x):
            return self.out(self.hidden(x))

    return keras.Sequential([keras.Input((10,)), Block()])


@pytest.mark.parametrize(
    "build",
    [functional, subclassed, nested_sequential, nested_functional, in_a_layer],
)
def test_training_equals_numpy_for_every_kind_of_model(build):
    train_like_numpy(compiled(build()))


def test_training_a_model_that_fit_builds():
    x, y = documented_data()
    model = compiled(unbuilt())
    logger = l2keras.RegularizationLogger()
    fit(model, x, y, epochs=1, callbacks=[logger])
    start = model.get_weights()
    logs = fit(model, x, y, epochs=1, callbacks=[logger])
    truth = simulate(start, x, y, first=rising, second=falling, begin=5)
    assert_weights(model, truth.weights)
    assert_means(logs, truth)


def test_a_shared_layer_is_penalized_once():
    x, y = linear_data()
    first, second = keras.Input((4,)), keras.Input((4,))
    shared = keras.layers.Dense(
        2, use_bias=False, kernel_regularizer=l2keras.L2(rising_schedule())
    )
    model = keras.Model(
        [first, second], keras.layers.add([shared(first), shared(second)])
    )
    start = model.get_weights()[0]
    model.compile(keras.optimizers.SGD(0.1), "mse")
    logs = fit(model, [x, -0.5 * x], y, batch_size=12)
    truth = simulate_linear(
        start, 0.5 * x, y, kernel_strength=rising, epochs=3, batch_size=12
    )
    assert_weights(model, truth.weights)
    assert_means(logs, truth)


def test_a_layer_in_two_models_follows_the_one_that_trains():
    x, y = documented_data()
    hidden, output = scheduled_model().layers
    other = keras.Sequential(
        [keras.Input((10,)), hidden, keras.layers.Dense(3, "softmax")]
    )
    fit(compiled(other), x, y, epochs=1)
    model = compiled(
        keras.Sequential([keras.Input((10,)), hidden, output]),
    )
    train_like_numpy(model)


def test_one_regularizer_for_two_layers_equals_numpy():
    x, y = documented_data()
    one = l2keras.L2(rising_schedule())
    model = compiled(documented_model(one, one))
    start = model.get_weights()
    logs = fit(model, x, y)
    truth = simulate(start, x, y, first=rising, second=rising, epochs=3)
    assert_weights(model, truth.weights)
    assert_means(logs, truth)


def test_a_scheduled_activity_regularizer_equals_numpy():
    x, y = linear_data()
    model = keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(
                2,
                use_bias=False,
                kernel_regularizer=l2keras.L2(0.03),
                activity_regularizer=l2keras.L2(rising_schedule()),
            ),
        ]
    )
    start = model.get_weights()[0]
    model.compile(keras.optimizers.SGD(0.1), "mse")
    logs = fit(model, x, y, batch_size=12)
    truth = simulate_linear(
        start,
        x,
        y,
        kernel_strength=lambda step: 0.03,
        activity_strength=rising,
        epochs=3,
        batch_size=12,
    )
    assert_weights(model, truth.weights)
    assert_means(logs, truth)
