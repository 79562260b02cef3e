"""The warning that nothing moves a schedule, and ways to move one."""

import warnings

import keras
import numpy as np
import pytest
from keras import ops

import l2keras
from tests.support import (
    BACKEND,
    assert_weights,
    documented_data,
    documented_model,
    falling,
    rising,
    rising_schedule,
    simulate,
)
from tests.support.numpy_trainings import compiled, fit, scheduled_model
from tests.support.training_loops import (
    batches,
    gradient_of,
    minimize,
    stepping_model,
    train_in_a_loop,
    train_on_batches,
)

STILL = (
    "L2(l2=LinearSchedule(initial_value=0.0, end_value=0.05, steps=8, "
    "begin=2)) is being trained, but nothing moves its schedule on, so its "
    "strength stays what it was: {}. Call `l2keras.set_step(model, step)` "
    "before each step, or train by `model.fit`, with the optimizer that the "
    "model is compiled with."
)
STANDS_STILL = (
    "gradients are taken again and again, while `model.optimizer.iterations` "
    "stands still"
)
IN_YOUR_HANDS = (
    "in a loop of your own on JAX the optimizer's values are in your hands "
    "alone"
)


def warned(call, *arguments, **keywords):
    """Returns the warnings of l2keras in a call."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call(*arguments, **keywords)
    return [
        str(warning.message)
        for warning in caught
        if issubclass(warning.category, UserWarning)
    ]


def scheduled_documented_model():
    return compiled(
        documented_model(
            l2keras.L2(rising_schedule()), l2keras.L2(rising_schedule())
        )
    )


def model_with_a_step(optimizer_of):
    """Returns a model whose `train_step` uses an optimizer that is chosen."""
    layers = documented_model(l2keras.L2(rising_schedule()), None).layers
    return compiled(stepping_model([keras.Input((10,)), *layers], optimizer_of))


@pytest.mark.parametrize("train", [fit, train_on_batches])
def test_schedules_advance_in_fit_without_a_warning(train):
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
    model = scheduled_documented_model()
    assert warned(train_in_a_loop, model, x, y, drive=False) == [
        STILL.format(IN_YOUR_HANDS if BACKEND == "jax" else STANDS_STILL)
    ]


def test_a_loop_of_a_model_that_is_not_compiled_warns_once():
    x, y = documented_data()
    model = documented_model(l2keras.L2(rising_schedule()), None)
    assert warned(train_in_a_loop, model, x, y, drive=False) == [
        STILL.format("no model that is at work has an optimizer of its own")
    ]


def test_each_model_warns():
    x, y = documented_data()
    for _ in range(2):
        model = scheduled_documented_model()
        assert len(warned(train_in_a_loop, model, x, y, drive=False)) == 1


def test_a_loop_after_a_fit_warns():
    x, y = documented_data()
    model = scheduled_documented_model()
    assert warned(fit, model, x, y, epochs=1) == []
    assert warned(train_in_a_loop, model, x, y, drive=False) == [
        STILL.format(IN_YOUR_HANDS if BACKEND == "jax" else STANDS_STILL)
    ]


@pytest.mark.parametrize("place", ["attribute", "dictionary", "closure"])
@pytest.mark.parametrize("built", [True, False])
def test_a_training_step_with_another_optimizer_warns(place, built):
    x, y = documented_data()
    other = keras.optimizers.SGD(0.1)
    model = model_with_a_step(lambda model: other)
    if place == "attribute":
        model.other = other
    elif place == "dictionary":
        model.others = {"other": other}
    if built:
        other.build(model.trainable_variables)
    assert warned(fit, model, x, y, callbacks=[]) == [
        STILL.format(STANDS_STILL)
    ]


@pytest.mark.parametrize(
    "mode",
    [
        {},
        {"run_eagerly": True},
        {"jit_compile": BACKEND != "torch"},
        {"steps_per_execution": 1 if BACKEND == "torch" else 2},
        {"optimizer": lambda: accumulating(8)},
        {
            "optimizer": lambda: keras.optimizers.LossScaleOptimizer(
                keras.optimizers.SGD(0.1)
            )
        },
    ],
    ids=[
        "as compiled",
        "eager",
        "with XLA",
        "several steps",
        "accumulation",
        "loss scale",
    ],
)
def test_a_training_step_with_the_models_optimizer_does_not_warn(mode):
    x, y = documented_data()
    model = model_with_a_step(lambda model: model.optimizer)
    mode = dict(mode)
    optimizer = mode.pop("optimizer", keras.optimizers.SGD)()
    model.compile(optimizer, "categorical_crossentropy", **mode)
    assert warned(fit, model, x, y, epochs=2, callbacks=[]) == []


def accumulating(steps):
    return keras.optimizers.SGD(0.1, gradient_accumulation_steps=steps)


def test_accumulation_over_epochs_does_not_warn():
    x, y = documented_data()
    model = scheduled_documented_model()
    model.compile(accumulating(20), "categorical_crossentropy")
    logger = l2keras.RegularizationLogger(strengths=True)
    assert warned(fit, model, x, y, epochs=3, callbacks=[logger]) == []


@pytest.mark.skipif(BACKEND == "jax", reason="There it always warns.")
def test_a_loop_in_a_function_called_train_step_warns():
    x, y = documented_data()
    model = scheduled_documented_model()
    other = keras.optimizers.SGD(0.1)
    other.build(model.trainable_variables)

    def train_step(model, data):
        minimize(model, other, *data)

    def loop():
        for batch in batches(x, y):
            train_step(model, batch)

    assert warned(loop) == [STILL.format(STANDS_STILL)]


def test_a_loop_after_a_fit_with_a_custom_train_step_warns():
    x, y = documented_data()
    model = model_with_a_step(lambda model: model.optimizer)
    assert warned(fit, model, x, y, epochs=1, callbacks=[]) == []
    assert warned(train_in_a_loop, model, x, y, drive=False) == [
        STILL.format(IN_YOUR_HANDS if BACKEND == "jax" else STANDS_STILL)
    ]


@pytest.mark.skipif(BACKEND == "jax", reason="There it always warns.")
@pytest.mark.parametrize("fitted", [True, False])
def test_a_loop_with_the_models_optimizer_does_not_warn(fitted):
    x, y = documented_data()
    model = scheduled_documented_model()
    if fitted:
        fit(model, x, y, epochs=1)

    def loop():
        for batch in batches(x, y) * 2:
            minimize(model, model.optimizer, *batch)

    assert warned(loop) == []


def test_a_regularizer_called_outside_any_model_warns_once():
    regularizer = l2keras.L2(rising_schedule())
    kernel = keras.Variable(np.ones((2, 2), "float32"))

    def loop():
        for _ in range(3):
            gradient_of(regularizer, kernel)

    assert warned(loop) == [
        STILL.format("no model that is at work has an optimizer of its own")
    ]


@pytest.mark.parametrize("train", [train_on_batches, train_in_a_loop])
def test_a_loop_that_sets_the_step_does_not_warn(train):
    x, y = documented_data()
    assert warned(train, scheduled_documented_model(), x, y, drive=True) == []


def test_schedules_of_activity_regularizers_and_sums_advance():
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


def test_evaluating_and_predicting_do_not_warn():
    x, y = documented_data()
    model = scheduled_documented_model()

    def look():
        model.evaluate(x, y, verbose=0)
        model.predict(x, verbose=0)
        model.test_on_batch(x, y)
        model(x[:2])
        sum(model.losses)
        model.layers[0].kernel_regularizer(np.ones((2, 2)))

    assert warned(look) == []


def test_a_fit_does_not_warn():
    x, y = documented_data()
    model = scheduled_documented_model()
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
    model = scheduled_documented_model()
    model.layers[0].trainable = False
    model.layers[1].kernel_regularizer = model.layers[1].kernel.regularizer = (
        None
    )
    compiled(model)
    assert warned(fit, model, x, y, callbacks=[]) == []
