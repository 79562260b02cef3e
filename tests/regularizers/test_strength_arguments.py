"""Invalid strengths and schedules, and the messages."""

import math

import keras
import numpy as np
import pytest
from keras import ops

from l2keras import L1, L1L2, L2, GroupLasso, LinearSchedule
from tests.support.regularizer_rows import Power


def of_no_name(step):
    """A schedule that is not registered."""
    return 0.1


@keras.saving.register_keras_serializable(package="l2keras_tests")
def negative_later(step):
    return 0.5 - 1e-3 * step


@keras.saving.register_keras_serializable(package="l2keras_tests")
def of_two(step):
    return [0.1, 0.2]


@keras.saving.register_keras_serializable(package="l2keras_tests")
def of_nan(step):
    return float("nan")


@keras.saving.register_keras_serializable(package="l2keras_tests")
def of_nothing(step):
    return None


COMPLEX = np.complex64(1j)
LAMBDA = lambda step: 0.1  # noqa: E731
CURE = (
    "Keras cannot save and reload it with a model. Use one of "
    "`keras.optimizers.schedules` or of l2keras, or define a function at the "
    "top level of a module and put "
    '`@keras.saving.register_keras_serializable(package="my_package")` above '
    "it."
)

BAD_STRENGTHS = {
    "negative": (ValueError, -1, "l2=-1"),
    "nan": (ValueError, math.nan, "l2=nan"),
    "inf": (ValueError, math.inf, "l2=inf"),
    "float32 inf": (ValueError, np.float32("inf"), "l2=np.float32(inf)"),
    "too large": (ValueError, 10**400, f"l2={10**400}"),
    "bool": (TypeError, True, "l2=True (of type bool)"),
    "NumPy bool": (TypeError, np.bool_(1), "l2=np.True_ (of type bool)"),
    "string": (TypeError, "0.1", "l2='0.1' (of type str)"),
    "complex": (TypeError, 1j, "l2=1j (of type complex)"),
    "NumPy complex": (
        TypeError,
        COMPLEX,
        f"l2={COMPLEX!r} (of type complex64)",
    ),
    "list": (TypeError, [0.1], "l2=[0.1] (of type list)"),
    "array": (
        TypeError,
        np.array([0.1, 0.2]),
        "l2=array([0.1, 0.2]) (of type ndarray)",
    ),
    "class": (
        TypeError,
        LinearSchedule,
        f"l2={LinearSchedule!r} (of type type)",
    ),
    "type of number": (
        TypeError,
        np.float64,
        "l2=<class 'numpy.float64'> (of type type)",
    ),
}


@pytest.mark.parametrize(
    ("kind", "strength", "received"),
    [pytest.param(*row, id=name) for name, row in BAD_STRENGTHS.items()],
)
def test_a_strength_must_be_a_number_or_a_schedule(kind, strength, received):
    with pytest.raises(kind) as error:
        L2(strength)
    assert str(error.value) == (
        "Argument `l2` must be a finite number >= 0 or a schedule. "
        f"Received: {received}"
    )


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (L1, "l1"),
        (L2, "l2"),
        (lambda value: L1L2(l1=value), "l1"),
        (lambda value: L1L2(l2=value), "l2"),
        (GroupLasso, "strength"),
        (Power, "strength"),
    ],
)
def test_the_message_has_the_name_of_the_argument(make, name):
    with pytest.raises(ValueError, match="must be a finite") as error:
        make(-0.5)
    assert str(error.value) == (
        f"Argument `{name}` must be a finite number >= 0 or a schedule. "
        f"Received: {name}=-0.5"
    )


def test_a_lambda_is_refused_as_a_schedule():
    with pytest.raises(ValueError, match="lambda") as error:
        L2(LAMBDA)
    assert str(error.value) == (
        f"A schedule must not be a lambda: {CURE} Received: l2={LAMBDA!r}"
    )


def test_an_unregistered_schedule_is_refused():
    with pytest.raises(ValueError, match="registered") as error:
        L2(of_no_name)
    assert str(error.value) == (
        f"A schedule must be registered: {CURE} Received: l2={of_no_name!r}"
    )


@pytest.mark.parametrize(
    ("kind", "schedule", "returned"),
    [
        (ValueError, of_nan, "nan at step 0"),
        (TypeError, of_two, "[0.1, 0.2] at step 0"),
        (TypeError, of_nothing, "None at step 0"),
    ],
)
def test_a_schedule_must_return_a_strength(kind, schedule, returned):
    with pytest.raises(kind) as error:
        GroupLasso(schedule)
    assert str(error.value) == (
        "A schedule must return a finite number >= 0 at each step. "
        f"Received: strength={schedule!r}, which returned {returned}"
    )


def test_a_schedule_that_turns_negative_at_late_steps_is_refused():
    with pytest.raises(ValueError, match="must return") as error:
        L2(negative_later)
    returned = negative_later(ops.cast(1000, "float32"))
    assert str(error.value) == (
        "A schedule must return a finite number >= 0 at each step. Received: "
        f"l2={negative_later!r}, which returned {returned!r} at step 1000"
    )
