"""The warning that nothing moves a schedule, and what moves one."""

import warnings

import keras
import numpy as np
import pytest
from helpers import (
    BACKEND,
    assert_weights,
    documented_data,
    documented_model,
    falling,
    rising,
    rising_schedule,
    simulate,
)
from keras import ops
from numpy_trainings import compiled, fit, scheduled_model
from training_loops import train_in_a_loop, train_on_batches

import l2keras

STILL = (
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


def scheduled_documented_model():
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
    model = scheduled_documented_model()
    assert warned(train_in_a_loop, model, x, y, drive=False) == [
        STILL.format(IN_YOUR_HANDS if BACKEND == "jax" else NOT_BUILT)
    ]


def test_a_loop_of_a_model_that_is_not_compiled_warns_once():
    x, y = documented_data()
    model = documented_model(l2keras.L2(rising_schedule()), None)
    assert warned(train_in_a_loop, model, x, y, drive=False) == [
        STILL.format("no model that is at work has an optimizer of its own")
    ]


@pytest.mark.parametrize("train", [train_on_batches, train_in_a_loop])
def test_a_loop_that_sets_the_step_does_not_warn(train):
    x, y = documented_data()
    assert warned(train, scheduled_documented_model(), x, y, drive=True) == []


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
