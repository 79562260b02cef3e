"""Schedules as strengths."""

import math

import keras
import numpy as np
import pytest
from keras import layers, ops

import l2keras
from l2keras import L1L2, L2, LinearSchedule
from tests.support import BACKEND, number
from tests.support.regularizer_rows import COPIES, losses, small_model

schedules = keras.optimizers.schedules


@keras.saving.register_keras_serializable(package="l2keras_tests")
def halving(step):
    """A schedule that is a function: Keras saves it by its name."""
    return 0.5 * 2.0 ** (-step)


SCHEDULES = {
    "CosineDecay": (
        lambda: schedules.CosineDecay(0.5, 10, alpha=0.2),
        lambda t: (
            0.5 * (0.8 * (1 + math.cos(math.pi * min(t, 10) / 10)) / 2 + 0.2)
        ),
    ),
    "PolynomialDecay": (
        lambda: schedules.PolynomialDecay(0.5, 10, 0.1, power=2.0),
        lambda t: 0.1 + 0.4 * (1 - min(t, 10) / 10) ** 2,
    ),
    "ExponentialDecay": (
        lambda: schedules.ExponentialDecay(0.5, 10, 0.25),
        lambda t: 0.5 * 0.25 ** (t / 10),
    ),
    "PiecewiseConstantDecay": (
        lambda: schedules.PiecewiseConstantDecay([3, 7], [0.5, 0.25, 0.125]),
        lambda t: 0.5 if t <= 3 else 0.25 if t <= 7 else 0.125,
    ),
    "a function": (lambda: halving, lambda t: 0.5 * 0.5**t),
}
each_schedule = pytest.mark.parametrize(
    ("make", "truth"),
    [pytest.param(*row, id=name) for name, row in SCHEDULES.items()],
)


@each_schedule
def test_keras_schedules_and_functions_are_strengths(make, truth):
    layer = layers.Dense(
        1, kernel_initializer="ones", kernel_regularizer=L2(make())
    )
    model = keras.Sequential([keras.Input((2,)), layer])
    for step in (0, 1, 3, 4, 7, 8, 10, 20):
        l2keras.set_step(model, step)
        np.testing.assert_allclose(losses(model), [2 * truth(step)], rtol=1e-5)


@each_schedule
@pytest.mark.parametrize("duplicate", COPIES, ids=lambda f: f.__name__)
def test_keras_schedules_and_functions_are_saved(make, truth, duplicate):
    regularizer = duplicate(L2(make()))
    assert regularizer.get_config() == L2(make()).get_config()
    regularizer = L2.from_config({**regularizer.get_config(), "step": 4})
    np.testing.assert_allclose(
        number(regularizer(ops.ones((2,)))), 2 * truth(4), rtol=1e-5
    )


@each_schedule
def test_a_model_is_saved_with_its_schedule_and_step(make, truth, tmp_path):
    model = small_model(L2(make()))
    l2keras.set_step(model, 4)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(losses(again), losses(model), rtol=1e-6)
    l2keras.set_step(again, 8)
    np.testing.assert_allclose(
        np.array(losses(again)) / losses(model), truth(8) / truth(4), rtol=1e-5
    )


@pytest.mark.parametrize("floatx", ["float16", "bfloat16", "float64"])
@each_schedule
def test_scheduled_strengths_in_every_precision(make, truth, floatx):
    if floatx == "float64" and BACKEND == "jax":
        pytest.skip("JAX is in float32 by default")
    # Keras's own schedules compute in `floatx`.
    keras.config.set_floatx(floatx)
    value = L2(make())(ops.ones((2,), dtype=floatx))
    np.testing.assert_allclose(
        number(ops.cast(value, "float32")), 2 * truth(0), rtol=0.01
    )


@keras.saving.register_keras_serializable(package="l2keras_tests")
def only_of_float32(step):
    is_float32 = keras.backend.standardize_dtype(step.dtype) == "float32"
    return 0.5 if is_float32 and tuple(step.shape) == () else 0.0


def test_a_schedule_is_given_the_step_in_float32():
    # TensorFlow multiplies no integer by 0.01.
    assert number(L2(only_of_float32)(ops.ones((2,)))) == 1.0


def test_both_strengths_of_l1l2_can_be_schedules():
    regularizer = L1L2(
        l1=LinearSchedule(0.0, 1.0, steps=10), l2=schedules.CosineDecay(0.5, 10)
    )
    layer = layers.Dense(
        1, kernel_initializer="ones", kernel_regularizer=regularizer
    )
    model = keras.Sequential([keras.Input((2,)), layer])
    for step, expected in [(0, 1.0), (5, 1.0 + 0.5), (10, 2.0)]:
        l2keras.set_step(model, step)
        np.testing.assert_allclose(losses(model), [expected], rtol=1e-6)


def test_the_config_of_a_scheduled_strength_has_its_step():
    regularizer = L2(LinearSchedule(0.0, 1.0, steps=10))
    config = regularizer.get_config()
    assert list(config) == ["l2", "step"]
    assert config["l2"]["registered_name"] == "l2keras>LinearSchedule"
    assert config["step"] == 0
    again = L2.from_config({**config, "step": 5})
    assert again.get_config()["step"] == 5
    assert number(again(ops.array([1.0, 1.0]))) == 1.0
