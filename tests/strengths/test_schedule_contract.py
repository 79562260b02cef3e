"""Each schedule has one row in a table, and keeps the whole contract."""

import inspect
import json
import math
import pickle

import keras
import numpy as np
import pytest
from keras import ops

import l2keras
from l2keras import (
    L2,
    CosineSchedule,
    CyclicSchedule,
    JoinedSchedule,
    LinearSchedule,
    ScaledSchedule,
)
from tests.support import BACKEND, number

KERAS = keras.optimizers.schedules


@keras.saving.register_keras_serializable(package="l2keras_tests")
def root(step):
    """A schedule that is a function: Keras saves it by its name."""
    return 0.01 * ops.sqrt(step)


# By hand ----------------------------------------------------------------------


def linear(step, initial, end, steps, begin=0):
    done = min(max((step - begin) / steps, 0), 1)
    return initial + (end - initial) * done


def cosine(step, initial, end, steps, begin=0):
    done = min(max((step - begin) / steps, 0), 1)
    return initial + (end - initial) * (1 - math.cos(math.pi * done)) / 2


def cyclic(step, initial, end, steps, begin=0):
    halves = max(step - begin, 0) / steps
    done = halves % 1 if halves // 1 % 2 == 0 else 1 - halves % 1
    return initial + (end - initial) * done


# The contract -----------------------------------------------------------------
#
# A row: how to make the schedule, and its value in NumPy. Steps of interest are
# the first, the beginning (7), the end (18), and those around them.


STEPS = [0, 1, 6, 7, 8, 11, 17, 18, 19, 29, 30, 1000]

ROWS = {
    "LinearSchedule, up": (
        lambda: LinearSchedule(0.1, 0.4, steps=11, begin=7),
        lambda t: linear(t, 0.1, 0.4, 11, 7),
    ),
    "LinearSchedule, down from step 0": (
        lambda: LinearSchedule(0.4, 0.0, steps=18),
        lambda t: linear(t, 0.4, 0.0, 18),
    ),
    "LinearSchedule, of one step": (
        lambda: LinearSchedule(0.0, 1.0, steps=1, begin=7),
        lambda t: 0.0 if t <= 7 else 1.0,
    ),
    "CosineSchedule, up": (
        lambda: CosineSchedule(0.1, 0.4, steps=11, begin=7),
        lambda t: cosine(t, 0.1, 0.4, 11, 7),
    ),
    "CosineSchedule, down from step 0": (
        lambda: CosineSchedule(0.4, 0.1, steps=18),
        lambda t: cosine(t, 0.4, 0.1, 18),
    ),
    "CyclicSchedule, up": (
        lambda: CyclicSchedule(0.1, 0.4, steps=11, begin=7),
        lambda t: cyclic(t, 0.1, 0.4, 11, 7),
    ),
    "CyclicSchedule, down from step 0": (
        lambda: CyclicSchedule(0.4, 0.1, steps=3),
        lambda t: cyclic(t, 0.4, 0.1, 3),
    ),
    "JoinedSchedule of numbers": (
        lambda: JoinedSchedule([0.1, 0.4, 0.2], [7, 18]),
        lambda t: 0.1 if t < 7 else 0.4 if t < 18 else 0.2,
    ),
    "JoinedSchedule of one number": (
        lambda: JoinedSchedule([0.1], []),
        lambda t: 0.1,
    ),
    "JoinedSchedule of schedules": (
        lambda: JoinedSchedule(
            [
                0.1,
                LinearSchedule(0.1, 0.4, steps=6, begin=2),
                KERAS.ExponentialDecay(0.4, 10, 0.5),
                root,
            ],
            [7, 18, 29],
        ),
        lambda t: (
            0.1
            if t < 7
            else linear(t - 7, 0.1, 0.4, 6, 2)
            if t < 18
            else 0.4 * 0.5 ** ((t - 18) / 10)
            if t < 29
            else 0.01 * math.sqrt(t - 29)
        ),
    ),
    "JoinedSchedule of Keras's": (
        lambda: JoinedSchedule(
            [KERAS.CosineDecay(0.4, 5), KERAS.PolynomialDecay(0.4, 10, 0.2)],
            [7],
        ),
        lambda t: (
            cosine(t, 0.4, 0.0, 5) if t < 7 else linear(t - 7, 0.4, 0.2, 10)
        ),
    ),
    "JoinedSchedule of a JoinedSchedule": (
        lambda: JoinedSchedule([0.1, JoinedSchedule([0.2, 0.3], [11])], [7]),
        lambda t: 0.1 if t < 7 else 0.2 if t < 18 else 0.3,
    ),
    "ScaledSchedule": (
        lambda: 0.5 * LinearSchedule(0.1, 0.4, steps=11, begin=7),
        lambda t: 0.5 * linear(t, 0.1, 0.4, 11, 7),
    ),
    "ScaledSchedule of Keras's": (
        lambda: ScaledSchedule(KERAS.ExponentialDecay(0.4, 10, 0.5), 3),
        lambda t: 3 * 0.4 * 0.5 ** (t / 10),
    ),
    "ScaledSchedule of a function, in a JoinedSchedule": (
        lambda: JoinedSchedule([0.1, ScaledSchedule(root, 2.0)], [7]),
        lambda t: 0.1 if t < 7 else 0.02 * math.sqrt(t - 7),
    ),
}

each_schedule = pytest.mark.parametrize(
    ("make", "truth"),
    [pytest.param(*row, id=name) for name, row in ROWS.items()],
)


def values(schedule, steps=STEPS):
    return [number(schedule(ops.cast(step, "float32"))) for step in steps]


def through_json(schedule):
    """Returns the object that Keras reads from the JSON that it wrote."""
    config = keras.saving.serialize_keras_object(schedule)
    return keras.saving.deserialize_keras_object(json.loads(json.dumps(config)))


def test_every_public_schedule_has_a_row():
    public = {
        value
        for value in (getattr(l2keras, name) for name in l2keras.__all__)
        if inspect.isclass(value)
        and issubclass(value, KERAS.LearningRateSchedule)
    }
    assert public == {type(make()) for make, _ in ROWS.values()}


@pytest.mark.parametrize(
    ("product", "factor"),
    [
        (lambda schedule: schedule * 4, 4.0),
        (lambda schedule: 1e-4 * schedule, 1e-4),
        (lambda schedule: np.float64(0.3) * schedule, 0.3),
        (lambda schedule: schedule * np.float32(0.25), 0.25),
        (lambda schedule: ops.array(2.0) * schedule, 2.0)
        if BACKEND == "jax"
        else (lambda schedule: schedule * ops.array(2.0), 2.0),
        (lambda schedule: schedule / 8, 0.125),
        (lambda schedule: 0 * schedule, 0.0),
        (lambda schedule: 2 * (schedule * 3), 6.0),
    ],
)
def test_a_schedule_can_be_multiplied_by_numbers(product, factor):
    schedule = CosineSchedule(0.1, 0.4, steps=11)
    scaled = product(schedule)
    assert type(scaled) is ScaledSchedule
    np.testing.assert_allclose(
        values(scaled), factor * np.array(values(schedule)), rtol=1e-6
    )


@each_schedule
def test_equals_numpy(make, truth):
    np.testing.assert_allclose(
        values(make()), [truth(step) for step in STEPS], rtol=1e-6, atol=1e-7
    )


@pytest.mark.filterwarnings(
    "ignore:Dynamo detected a call to a `functools.lru_cache`"  # In Keras.
)
@each_schedule
def test_compiled_equals_numpy(make, truth, compiled):
    np.testing.assert_allclose(
        values(compiled(make())),
        [truth(step) for step in STEPS],
        rtol=1e-6,
        atol=1e-7,
    )


@each_schedule
def test_returns_a_float32_scalar_for_steps_of_any_kind(make, truth):
    schedule = make()
    for step in (
        11,
        11.0,
        np.int64(11),
        ops.array(11, dtype="int32"),
        keras.Variable(11, dtype="int", trainable=False),
    ):
        value = schedule(step)
        assert tuple(value.shape) == ()
        assert keras.backend.standardize_dtype(value.dtype) == "float32"
        np.testing.assert_allclose(number(value), truth(11), rtol=1e-6)


@each_schedule
@pytest.mark.parametrize(
    "duplicate",
    [
        lambda schedule: type(schedule).from_config(schedule.get_config()),
        through_json,
        lambda schedule: pickle.loads(pickle.dumps(schedule)),
    ],
    ids=["config", "JSON", "pickle"],
)
def test_a_copy_is_the_same(make, truth, duplicate):
    schedule = make()
    again = duplicate(schedule)
    assert again is not schedule
    assert type(again) is type(schedule)
    assert again.get_config() == schedule.get_config()
    assert values(again) == values(schedule)


@each_schedule
def test_the_config_is_json_and_independent_of_the_schedule(make, truth):
    schedule = make()
    config = schedule.get_config()
    assert json.loads(json.dumps(config)) == config
    before = values(schedule)
    config.clear()
    for each in schedule.get_config().values():
        if isinstance(each, list):
            each.clear()
    assert values(schedule) == before


@each_schedule
def test_a_schedule_can_be_a_learning_rate(make, truth):
    optimizer = keras.optimizers.SGD(make())
    weight = keras.Variable([0.0])
    expected = 0.0
    for step in range(20):
        np.testing.assert_allclose(
            number(optimizer.learning_rate), truth(step), rtol=1e-6, atol=1e-7
        )
        optimizer.apply([ops.ones((1,))], [weight])
        expected -= truth(step)
    np.testing.assert_allclose(number(weight[0]), expected, rtol=1e-5)
    again = keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))
    assert again.get_config() == optimizer.get_config()


@each_schedule
def test_a_schedule_can_be_a_strength(make, truth):
    layer = keras.layers.Dense(
        1, kernel_initializer="ones", kernel_regularizer=L2(make())
    )
    model = keras.Sequential([keras.Input((2,)), layer])
    for step in STEPS:
        l2keras.set_step(model, step)
        np.testing.assert_allclose(
            number(model.losses[0]), 2 * truth(step), rtol=1e-6, atol=1e-7
        )


# Exactness --------------------------------------------------------------------


@pytest.mark.parametrize("cls", [LinearSchedule, CosineSchedule])
@pytest.mark.parametrize("mode", ["eager", "compiled"])
def test_both_ends_are_exact_in_float32(cls, mode, compiled):
    # With 41, 47 and 55, `steps * (1 / steps)` is not 1 in float32. Nor is
    # 0.1 + (0.7 - 0.1) equal to 0.7.
    for steps in (1, 2, 3, 10, 41, 47, 55, 1000, 2**20):
        schedule = cls(0.1, 0.7, steps=steps, begin=7)
        if mode == "compiled":
            schedule = compiled(schedule)
        ends = [0, 7, 7 + steps, 8 + steps]
        expected = np.float32([0.1, 0.1, 0.7, 0.7])
        np.testing.assert_array_equal(values(schedule, ends), expected)


@pytest.mark.parametrize("mode", ["eager", "compiled"])
def test_turning_points_are_exact_in_float32(mode, compiled):
    for steps in (1, 2, 3, 10, 41, 1000):
        schedule = CyclicSchedule(0.1, 0.7, steps=steps, begin=7)
        if mode == "compiled":
            schedule = compiled(schedule)
        turns = [0, 7, 7 + steps, 7 + 2 * steps, 7 + 3 * steps]
        expected = np.float32([0.1, 0.1, 0.7, 0.1, 0.7])
        np.testing.assert_array_equal(values(schedule, turns), expected)


def test_a_cycle_is_the_same_after_a_million_steps():
    schedule = CyclicSchedule(0.1, 0.7, steps=3, begin=7)
    late = [7 + 6 * 200_000 + step for step in range(12)]
    np.testing.assert_allclose(
        values(schedule, late), values(schedule, range(7, 19)), rtol=1e-5
    )


@each_schedule
def test_values_are_never_negative(make, truth):
    assert min(values(make(), range(60))) >= 0.0


@pytest.mark.parametrize("cls", [LinearSchedule, CosineSchedule])
def test_a_ramp_between_equal_values_is_constant(cls):
    schedule = cls(0.1, 0.1, steps=11)
    np.testing.assert_allclose(
        values(schedule, range(13)), np.full(13, 0.1), rtol=1e-7
    )


@pytest.mark.parametrize(
    ("cls", "twin"),
    [
        (LinearSchedule, lambda: KERAS.PolynomialDecay(0.4, 10, 0.1)),
        (CosineSchedule, lambda: KERAS.CosineDecay(0.4, 10, alpha=0.25)),
    ],
)
def test_a_falling_ramp_equals_the_schedule_of_keras(cls, twin):
    np.testing.assert_allclose(
        values(cls(0.4, 0.1, steps=10), range(13)),
        values(twin(), range(13)),
        rtol=1e-6,
    )


def test_a_joined_schedule_calls_its_parts_with_steps_from_zero():
    # Both are computed at each step, and a root of -7 would be NaN.
    asked = []

    @keras.saving.register_keras_serializable(package="l2keras_tests")
    def recording(step):
        asked.append(number(step))
        return root(step)

    schedule = JoinedSchedule([0.1, recording], [7])
    asked.clear()  # It was tried when it was given.
    np.testing.assert_allclose(
        values(schedule, [0, 6, 7, 11]), [0.1, 0.1, 0.0, 0.02], rtol=1e-6
    )
    assert asked == [0.0, 0.0, 0.0, 4.0]


@pytest.mark.parametrize("floatx", ["float16", "bfloat16"])
@each_schedule
def test_a_half_precision_floatx_changes_nothing(make, truth, floatx):
    schedule = make()
    keras.config.set_floatx(floatx)
    value = schedule(ops.cast(11, "float32"))
    assert keras.backend.standardize_dtype(value.dtype) == "float32"
    np.testing.assert_allclose(number(value), truth(11), rtol=1e-2)


# Words ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (
            LinearSchedule(0, 1, 10),
            "LinearSchedule(initial_value=0.0, end_value=1.0, steps=10, "
            "begin=0)",
        ),
        (
            CosineSchedule(0.5, np.float32(0.25), steps=10.0, begin=5),
            "CosineSchedule(initial_value=0.5, end_value=0.25, steps=10, "
            "begin=5)",
        ),
        (
            CyclicSchedule(0.5, 0.25, steps=np.int64(10)),
            "CyclicSchedule(initial_value=0.5, end_value=0.25, steps=10, "
            "begin=0)",
        ),
        (
            JoinedSchedule((0, LinearSchedule(0, 1, 10)), (5,)),
            "JoinedSchedule(schedules=[0.0, LinearSchedule(initial_value=0.0, "
            "end_value=1.0, steps=10, begin=0)], boundaries=[5])",
        ),
    ],
    ids=lambda value: type(value).__name__,
)
def test_repr_is_the_call_that_makes_it(schedule, expected):
    assert repr(schedule) == expected


@keras.saving.register_keras_serializable(package="l2keras_tests")
def by_if(step):
    return 0.1 if step > 3 else 0.0


@keras.saving.register_keras_serializable(package="l2keras_tests")
def by_float(step):
    return 0.1 * math.exp(-float(step))


@pytest.mark.skipif(BACKEND == "torch", reason="PyTorch does not compile it")
@pytest.mark.parametrize("schedule", [by_if, by_float])
def test_a_schedule_that_cannot_be_compiled_is_explained(schedule):
    dense = keras.layers.Dense(1, kernel_regularizer=l2keras.L2(schedule))
    model = keras.Sequential([keras.Input((4,)), dense])
    data = np.ones((8, 4), "float32"), np.ones(8, "float32")
    model.compile("sgd", "mse")
    with pytest.raises(Exception, match=r"(?i)bool|float") as caught:
        model.fit(*data, verbose=0)
    assert caught.value.__notes__[:1] == [  # JAX has another.
        f"The schedule {schedule!r} was being compiled. It must return a "
        "tensor that is computed of the step by `keras.ops`, without Python's "
        "`if`, `float` or NumPy: `ops.where(step < 1000, 0.0, 0.1)`."
    ]
    if BACKEND == "tensorflow":  # Keras traces JAX steps all the same.
        model.compile("sgd", "mse", run_eagerly=True)
        model.fit(*data, verbose=0)
