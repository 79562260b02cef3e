"""Trainings compared with NumPy, and what moves the schedules."""

import warnings

import keras
import numpy as np
import pytest
from helpers import (
    BACKEND,
    assert_means,
    assert_splits,
    assert_weights,
    documented_data,
    documented_model,
    falling,
    falling_schedule,
    linear_data,
    number,
    rising,
    rising_schedule,
    simulate,
    simulate_linear,
    simulated_losses,
)
from keras import ops

import l2keras

UNDRIVEN = (
    "L2(l2=LinearSchedule(initial_value=0.0, end_value=0.05, steps=8, "
    "begin=2)) is being trained, but nothing moves its schedule on, so its "
    "strength stays what it was: {}. Train by `model.fit`, or call "
    "`l2keras.set_step(model, step)` in your own loop, before each step."
)
NOT_BUILT = (
    "`model.optimizer` is not built, so it does not seem to be the one that "
    "trains (if it is, call "
    "`model.optimizer.build(model.trainable_variables)` first)"
)
IN_YOUR_HANDS = (
    "in a loop of your own on JAX the optimizer's values are in your hands "
    "alone"
)

compiled_only = pytest.mark.skipif(
    BACKEND == "torch", reason="PyTorch runs the step anew each time."
)
many_steps = pytest.mark.skipif(
    BACKEND == "torch",
    reason="Keras refuses steps_per_execution > 1 on PyTorch.",
)


def scheduled_model():
    return documented_model(
        l2keras.L2(rising_schedule()), l2keras.L2(falling_schedule())
    )


def compiled(model, optimizer=None, **arguments):
    model.compile(
        optimizer or keras.optimizers.SGD(0.1),
        "categorical_crossentropy",
        **arguments,
    )
    return model


def fit(model, x, y, epochs=3, **arguments):
    arguments.setdefault("callbacks", [l2keras.RegularizationLogger()])
    arguments.setdefault("batch_size", 16)
    return model.fit(
        x, y, epochs=epochs, shuffle=False, verbose=0, **arguments
    ).history


def train_like_numpy(model, atol=1e-6, means_atol=1e-5, **arguments):
    """Fits a compiled `scheduled_model`, compares, and returns the logs."""
    x, y = documented_data()
    start = model.get_weights()
    logs = fit(model, x, y, **arguments)
    truth = simulate(start, x, y, first=rising, second=falling, epochs=3)
    assert_weights(model, truth.weights, atol)
    assert_means(logs, truth, means_atol)
    assert_splits(logs, rtol=max(1e-6, means_atol / 10))
    return logs


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


@pytest.mark.skipif(BACKEND != "torch", reason="This is `torch.compile`.")
# PyTorch's own, where it compiles a step in several pieces.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")
def test_training_equals_numpy_with_torch_compile():
    x, y = documented_data(samples=32)
    model = compiled(scheduled_model(), jit_compile=True)
    start = model.get_weights()
    logs = fit(model, x, y, epochs=2)
    truth = simulate(start, x, y, first=rising, second=falling, epochs=2)
    assert_weights(model, truth.weights)
    assert_means(logs, truth)


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


def test_schedules_stand_still_in_a_step_that_loss_scaling_skips():
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


def test_a_shared_layer_pays_once():
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


# Loops that are not `fit`.


def batches(x, y, size=16):
    return [
        (x[start : start + size], y[start : start + size])
        for start in range(0, len(x), size)
    ]


def train_on_batches(model, x, y, drive):
    for step, (xb, yb) in enumerate(batches(x, y)):
        if drive:
            l2keras.set_step(model, step)
        model.train_on_batch(xb, yb)


def train_in_a_loop(model, x, y, drive):
    """Trains without `model.fit`, in the manner of the backend."""
    loops = {
        "tensorflow": tensorflow_loop,
        "jax": jax_loop,
        "torch": torch_loop,
    }
    loops[BACKEND](model, x, y, drive)


def tensorflow_loop(model, x, y, drive):
    import tensorflow as tf

    optimizer = keras.optimizers.SGD(0.1)
    optimizer.build(model.trainable_variables)

    @tf.function(reduce_retracing=True)
    def train_step(xb, yb):
        with tf.GradientTape() as tape:
            outputs = model(xb, training=True)
            loss = tf.reduce_mean(
                keras.losses.categorical_crossentropy(yb, outputs)
            ) + sum(model.losses)
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply(gradients, model.trainable_variables)

    for xb, yb in batches(x, y):
        if drive:
            l2keras.set_step(model, optimizer.iterations)
        train_step(tf.constant(xb), tf.constant(yb))


def jax_loop(model, x, y, drive):
    import jax

    optimizer = keras.optimizers.SGD(0.1)
    optimizer.build(model.trainable_variables)

    def loss_of(trainable, non_trainable, xb, yb):
        outputs, non_trainable, losses = model.stateless_call(
            trainable, non_trainable, xb, training=True, return_losses=True
        )
        loss = keras.losses.categorical_crossentropy(yb, outputs)
        return ops.mean(loss) + sum(losses), non_trainable

    gradient = jax.jit(jax.grad(loss_of, has_aux=True))
    trainable = [each.value for each in model.trainable_variables]
    state = [each.value for each in optimizer.variables]
    for step, (xb, yb) in enumerate(batches(x, y)):
        if drive:
            l2keras.set_step(model, step)
        non_trainable = [each.value for each in model.non_trainable_variables]
        gradients, _ = gradient(trainable, non_trainable, xb, yb)
        trainable, state = optimizer.stateless_apply(
            state, gradients, trainable
        )
    for variable, value in zip(
        model.trainable_variables, trainable, strict=True
    ):
        variable.assign(value)


def torch_loop(model, x, y, drive):
    import torch

    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for step, (xb, yb) in enumerate(batches(x, y)):
        if drive:
            l2keras.set_step(model, step)
        optimizer.zero_grad()
        outputs = model(torch.from_numpy(xb))
        loss = keras.losses.categorical_crossentropy(
            torch.from_numpy(yb), outputs
        ).mean()
        (loss + sum(model.losses)).backward()
        optimizer.step()


@pytest.mark.parametrize("train", [train_on_batches, train_in_a_loop])
def test_a_loop_with_set_step_equals_numpy(train):
    x, y = documented_data(samples=150)
    model = compiled(scheduled_model())
    start = model.get_weights()
    train(model, x, y, drive=True)
    truth = simulate(start, x, y, first=rising, second=falling)
    assert_weights(model, truth.weights)


# set_step and set_scale.


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
def test_set_step_refuses_what_is_no_step(step, error, received):
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
def test_what_is_no_built_model_is_refused(call):
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


def test_set_step_leaves_constant_models_alone():
    model = documented_model(l2keras.L2(0.1), keras.regularizers.L1(0.1))
    before = [id(each) for each in model.variables]
    l2keras.set_step(model, 5)
    assert [id(each) for each in model.variables] == before


@pytest.mark.parametrize("callbacks", [[], [l2keras.RegularizationLogger]])
def test_set_step_takes_effect_after_compile_and_fit(callbacks):
    x, y = documented_data()
    model = documented_model(
        l2keras.L2(l2keras.LinearSchedule(0.0, 0.05, steps=20)), None
    )
    compiled(model, keras.optimizers.SGD(0.0))
    with warnings.catch_warnings():
        # Undriven where there are no callbacks.
        warnings.simplefilter("ignore")
        fit(model, x, y, epochs=1, callbacks=[each() for each in callbacks])
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


def test_set_step_in_a_callback_of_ones_own_drives_fit():
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


def test_scales_default_to_one_and_multiply():
    model = documented_model(l2keras.L2(0.1), l2keras.L2(0.2) + l2keras.L1(0.3))
    first, _, second, _ = model.get_weights()
    l2keras.set_scale(model, {"hidden/kernel": 0.25, "out.*": np.float32(2)})
    np.testing.assert_allclose(
        [number(each) for each in model.losses],
        [
            0.25 * 0.1 * np.sum(first**2),
            2 * (0.2 * np.sum(second**2) + 0.3 * np.sum(np.abs(second))),
        ],
        rtol=1e-6,
    )
    assert model.layers[0].kernel_regularizer.scale == 0.25
    assert model.layers[1].kernel_regularizer.scale == 2.0


@pytest.mark.parametrize("callbacks", [[], [l2keras.RegularizationLogger]])
def test_set_scale_takes_effect_after_compile_and_fit(callbacks):
    x, y = documented_data()
    model = compiled(documented_model(l2keras.L2(0.05), l2keras.L2(0.02)))
    callbacks = [each() for each in callbacks]
    for first, second in ((1.0, 1.0), (0.5, 3.0), (2.0, 0.0)):
        if (first, second) != (1.0, 1.0):
            l2keras.set_scale(model, {"hidden/.*": first, "output/.*": second})
        start = model.get_weights()
        fit(model, x, y, epochs=2, callbacks=callbacks)
        truth = simulate(
            start,
            x,
            y,
            first=lambda step, scale=first: 0.05 * scale,
            second=lambda step, scale=second: 0.02 * scale,
            epochs=2,
        )
        assert_weights(model, truth.weights)


def test_set_scale_takes_effect_while_fit_runs():
    class Halve(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            l2keras.set_scale(self.model, {"hidden/.*": 0.5**epoch})

    x, y = documented_data(samples=48)
    for logger in ([], [l2keras.RegularizationLogger()]):
        model = compiled(documented_model(l2keras.L2(0.05), None))
        start = model.get_weights()
        fit(model, x, y, callbacks=[Halve(), *logger])
        truth = simulate(
            start,
            x,
            y,
            first=lambda step: 0.05 * 0.5 ** (step // 3),
            second=lambda step: 0.0,
            epochs=3,
        )
        assert_weights(model, truth.weights)


@pytest.mark.parametrize(
    ("scales", "error", "message"),
    [
        (
            {"hidden/kernel": -1.0},
            ValueError,
            "Argument `scales['hidden/kernel']` must be a finite number >= 0. "
            "Received: scales['hidden/kernel']=-1.0",
        ),
        (
            {"hidden/kernel": float("inf")},
            ValueError,
            "Argument `scales['hidden/kernel']` must be a finite number >= 0. "
            "Received: scales['hidden/kernel']=inf",
        ),
        (
            {"hidden/kernel": "1"},
            TypeError,
            "Argument `scales['hidden/kernel']` must be a finite number >= 0. "
            "Received: scales['hidden/kernel']='1' (of type str)",
        ),
        (
            {"hiden/.*": 1.0},
            ValueError,
            "Pattern 'hiden/.*' matches no weight. A pattern is a whole path "
            "or a regular expression for one. Paths: 'hidden/kernel', "
            "'output/kernel'",
        ),
        (
            {"hidden/bias": 1.0},
            ValueError,
            "Pattern 'hidden/bias' matches no weight. A pattern is a whole "
            "path or a regular expression for one. Paths: 'hidden/kernel', "
            "'output/kernel'",
        ),
        (
            {"hidden": 1.0},
            ValueError,
            "Pattern 'hidden' matches no weight. A pattern is a whole "
            "path or a regular expression for one. Paths: 'hidden/kernel', "
            "'output/kernel'",
        ),
        (
            {"hidden/.*": 1.0, ".*/kernel": 2.0},
            ValueError,
            "Weight 'hidden/kernel' is matched by more than one pattern: "
            "'hidden/.*', '.*/kernel'. Make each weight match at most one.",
        ),
        (
            {"hidden/(": 1.0},
            ValueError,
            "Pattern 'hidden/(' is not a regular expression: missing ), "
            "unterminated subpattern at position 7.",
        ),
        (
            {3: 1.0},
            TypeError,
            "A pattern must be a string: a path, or a regular expression. "
            "Received: 3",
        ),
        (
            {"output/.*": 1.0},
            TypeError,
            "The regularizer of 'output/kernel' must be one of l2keras to have "
            "a scale. Received: <L1>",
        ),
    ],
)
def test_set_scale_refuses_and_changes_nothing(scales, error, message):
    class Named(keras.regularizers.L1):
        def __repr__(self):
            return "<L1>"

    model = documented_model(l2keras.L2(0.1), Named(0.1))
    before = [id(each) for each in model.variables]
    with pytest.raises(error) as caught:
        l2keras.set_scale(model, {"hidden/kernel": 9.0} | scales)
    if "more than one" not in message and "hidden/.*" not in scales:
        assert str(caught.value) == message
    with pytest.raises(error) as caught:
        l2keras.set_scale(model, scales)
    assert str(caught.value) == message
    assert model.layers[0].kernel_regularizer.scale == 1.0
    assert [id(each) for each in model.variables] == before


@pytest.mark.parametrize("scales", [[("hidden/kernel", 1.0)], 1.0, None])
def test_set_scale_refuses_what_is_no_dictionary(scales):
    model = documented_model(l2keras.L2(0.1), None)
    with pytest.raises(TypeError) as caught:
        l2keras.set_scale(model, scales)
    assert str(caught.value).endswith(f"Received: {scales!r}") or str(
        caught.value
    ).endswith(f"Received: scales={scales!r}")


def test_a_shared_regularizer_cannot_have_two_scales():
    shared = l2keras.L2(0.1)
    model = documented_model(shared, shared)
    for scales in (
        {"hidden/kernel": 0.5},
        {"hidden/kernel": 0.5, "output/kernel": 0.25},
    ):
        with pytest.raises(ValueError, match="share one") as caught:
            l2keras.set_scale(model, scales)
        assert str(caught.value) == (
            "Weights 'hidden/kernel' and 'output/kernel' share one "
            "regularizer, L2(l2=0.1), which cannot have two scales. Give each "
            "layer a regularizer of its own, or match both weights with one "
            "pattern."
        )
        assert shared.scale == 1.0
    l2keras.set_scale(model, {".*": 0.5})
    assert shared.scale == 0.5


# What is traced, and when.


@keras.saving.register_keras_serializable(package="l2keras_tests")
class Traced(keras.layers.Layer):
    """Counts how often Python passes through it: once for a trace."""

    count = 0

    def call(self, x):
        Traced.count += 1
        return x


class Counts(keras.callbacks.Callback):
    """Notes the traces after each batch of training and of validation."""

    def __init__(self):
        super().__init__()
        self.train, self.test = [], []

    def on_train_batch_end(self, batch, logs=None):
        self.train.append(Traced.count)

    def on_test_batch_end(self, batch, logs=None):
        self.test.append(Traced.count)


def traced_model(first, second):
    return documented_model(first, second, between=[Traced()])


@compiled_only
@pytest.mark.parametrize(
    "mode",
    [
        {},
        pytest.param({"steps_per_execution": 2}, marks=many_steps),
        {"jit_compile": True},
    ],
    ids=str,
)
def test_nothing_is_traced_after_the_first_step(mode):
    x, y = documented_data(samples=64)
    model = compiled(
        traced_model(
            l2keras.L2(rising_schedule()), l2keras.L2(falling_schedule())
        ),
        **mode,
    )
    logger = l2keras.RegularizationLogger()

    def run():
        counts = Counts()
        fit(
            model,
            x,
            y,
            epochs=3,
            callbacks=[logger, counts],
            validation_data=(x[:32], y[:32]),
        )
        return counts

    counts = run()
    # Once for a step of training and once for one of validation.
    assert set(counts.train) == {counts.train[0], counts.test[0]}
    assert set(counts.test) == {counts.test[0]}
    before = Traced.count
    run()
    assert Traced.count == before, "A second fit has traced again."
    model.evaluate(x, y, batch_size=16, verbose=0)
    before = Traced.count
    run()
    assert Traced.count == before, "A third fit has traced again."
    model.evaluate(x, y, batch_size=16, verbose=0)
    assert Traced.count == before, "Evaluation has been traced again."


@compiled_only
def test_a_constant_model_keeps_what_was_compiled_without_the_logger():
    x, y = documented_data(samples=64)
    model = compiled(traced_model(l2keras.L2(0.01), keras.regularizers.L2(0.1)))
    logger = l2keras.RegularizationLogger()
    fit(model, x, y, epochs=1, callbacks=[])
    model.evaluate(x, y, batch_size=16, verbose=0)
    fit(model, x, y, epochs=1, callbacks=[logger])
    before = Traced.count
    fit(model, x, y, epochs=1, callbacks=[])
    model.evaluate(x, y, batch_size=16, verbose=0)
    fit(model, x, y, epochs=1, callbacks=[logger])
    assert Traced.count == before


@compiled_only
def test_set_step_and_set_scale_trace_once_at_most():
    x, y = documented_data(samples=64)
    model = compiled(traced_model(l2keras.L2(rising_schedule()), None))
    l2keras.set_step(model, 0)
    l2keras.set_scale(model, {"hidden/.*": 0.5})
    fit(model, x, y, epochs=1, callbacks=[])
    before = Traced.count
    for step in range(1, 4):
        l2keras.set_step(model, step)
        l2keras.set_scale(model, {"hidden/.*": 1.0 / step})
        fit(model, x, y, epochs=1, callbacks=[])
    assert Traced.count == before


# The warning that nothing moves a schedule.


def warned(call, *arguments, **keywords):
    """Returns what l2keras warned of meanwhile."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call(*arguments, **keywords)
    return [
        str(each.message)
        for each in caught
        if issubclass(each.category, UserWarning)
    ]


def undriven_model():
    return compiled(
        documented_model(
            l2keras.L2(rising_schedule()), l2keras.L2(rising_schedule())
        )
    )


@pytest.mark.parametrize("train", [fit, train_on_batches])
def test_schedules_move_by_themselves(train):
    # No callback, and nothing else to remember.
    x, y = documented_data(samples=150)
    model = compiled(scheduled_model())
    start = model.get_weights()
    arguments = (
        {"epochs": 1, "callbacks": []} if train is fit else {"drive": False}
    )
    assert warned(train, model, x, y, **arguments) == []
    truth = simulate(start, x, y, first=rising, second=falling)
    assert_weights(model, truth.weights)


def test_a_loop_with_another_optimizer_warns_once():
    x, y = documented_data()
    model = undriven_model()
    assert warned(train_in_a_loop, model, x, y, drive=False) == [
        UNDRIVEN.format(IN_YOUR_HANDS if BACKEND == "jax" else NOT_BUILT)
    ]


def test_a_loop_of_a_model_that_is_not_compiled_warns_once():
    x, y = documented_data()
    model = documented_model(l2keras.L2(rising_schedule()), None)
    assert warned(train_in_a_loop, model, x, y, drive=False) == [
        UNDRIVEN.format("no model that is at work has an optimizer of its own")
    ]


@pytest.mark.parametrize("train", [train_on_batches, train_in_a_loop])
def test_a_driven_loop_does_not_warn(train):
    x, y = documented_data()
    assert warned(train, undriven_model(), x, y, drive=True) == []


def test_activities_and_sums_follow_their_schedules_by_themselves():
    x, y = documented_data()
    layer = keras.layers.Dense(
        3,
        activation="softmax",
        activity_regularizer=l2keras.L2(rising_schedule()),
        kernel_regularizer=l2keras.L1(0.1) + l2keras.L2(rising_schedule()),
    )
    model = compiled(keras.Sequential([keras.Input((10,)), layer]))
    assert warned(fit, model, x, y, callbacks=[]) == []
    step = model.optimizer.iterations
    steps = [
        term.strength.step
        for each in (layer.activity_regularizer, layer.kernel_regularizer)
        for term in each.terms
    ]
    assert steps == [int(ops.convert_to_numpy(step)), None, steps[0]]


def test_looking_does_not_warn():
    x, y = documented_data()
    model = undriven_model()

    def look():
        model.evaluate(x, y, verbose=0)
        model.predict(x, verbose=0)
        model.test_on_batch(x, y)
        model(x[:2])
        sum(model.losses)
        model.layers[0].kernel_regularizer(np.ones((2, 2)))

    assert warned(look) == []


def test_a_driven_fit_does_not_warn():
    x, y = documented_data()
    model = undriven_model()
    assert warned(fit, model, x, y, validation_data=(x, y)) == []


@pytest.mark.parametrize(
    "regularizer",
    [
        l2keras.L2(0.01),
        l2keras.L1L2(0.1, 0.1),
        keras.regularizers.L2(0.01),
    ],
    ids=["L2", "L1L2", "Keras's L2"],
)
def test_a_constant_strength_does_not_warn(regularizer):
    x, y = documented_data()
    model = compiled(documented_model(regularizer, None))
    assert warned(fit, model, x, y, callbacks=[]) == []


def test_frozen_weights_do_not_warn():
    x, y = documented_data()
    model = undriven_model()
    model.layers[0].trainable = False
    model.layers[1].kernel_regularizer = model.layers[1].kernel.regularizer = (
        None
    )
    compiled(model)
    assert warned(fit, model, x, y, callbacks=[]) == []
