"""The arguments of schedules, and the messages for wrong ones."""

import inspect
import math

import pytest

from l2keras import (
    CosineSchedule,
    CyclicSchedule,
    JoinedSchedule,
    LinearSchedule,
    ScaledSchedule,
)

RAMPS = [LinearSchedule, CosineSchedule, CyclicSchedule]


@pytest.mark.parametrize("cls", RAMPS)
def test_all_ramps_have_the_same_arguments(cls):
    parameters = inspect.signature(cls).parameters
    assert list(parameters) == ["initial_value", "end_value", "steps", "begin"]
    assert parameters["begin"].default == 0


# Bad input --------------------------------------------------------------------


@pytest.mark.parametrize("cls", RAMPS)
@pytest.mark.parametrize(
    ("kind", "arguments", "message"),
    [
        (
            ValueError,
            {"initial_value": -0.1},
            "Argument `initial_value` must be a finite number >= 0. "
            "Received: initial_value=-0.1",
        ),
        (
            ValueError,
            {"initial_value": math.nan},
            "Argument `initial_value` must be a finite number >= 0. "
            "Received: initial_value=nan",
        ),
        (
            ValueError,
            {"end_value": math.inf},
            "Argument `end_value` must be a finite number >= 0. "
            "Received: end_value=inf",
        ),
        (
            TypeError,
            {"end_value": None},
            "Argument `end_value` must be a finite number >= 0. "
            "Received: end_value=None (of type NoneType)",
        ),
        (
            TypeError,
            {"end_value": [0.1]},
            "Argument `end_value` must be a finite number >= 0. "
            "Received: end_value=[0.1] (of type list)",
        ),
        (
            ValueError,
            {"steps": 0},
            "Argument `steps` must be an integer >= 1. Received: steps=0",
        ),
        (
            ValueError,
            {"steps": 2.5},
            "Argument `steps` must be an integer >= 1. Received: steps=2.5",
        ),
        (
            ValueError,
            {"steps": math.inf},
            "Argument `steps` must be an integer >= 1. Received: steps=inf",
        ),
        (
            TypeError,
            {"steps": True},
            "Argument `steps` must be an integer >= 1. "
            "Received: steps=True (of type bool)",
        ),
        (
            TypeError,
            {"steps": "10"},
            "Argument `steps` must be an integer >= 1. "
            "Received: steps='10' (of type str)",
        ),
        (
            ValueError,
            {"begin": -1},
            "Argument `begin` must be an integer >= 0. Received: begin=-1",
        ),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_invalid_arguments_of_ramps_are_explained(
    cls, kind, arguments, message
):
    good = {"initial_value": 0.0, "end_value": 1.0, "steps": 10}
    with pytest.raises(kind) as error:
        cls(**{**good, **arguments})
    assert str(error.value) == message


LAST = "and schedules of length"


@pytest.mark.parametrize(
    ("kind", "schedules", "boundaries", "message"),
    [
        (
            ValueError,
            [0.1, -0.2],
            [5],
            "Argument `schedules[1]` must be a finite number >= 0 or a "
            "schedule. Received: schedules[1]=-0.2",
        ),
        (
            TypeError,
            [0.1, "0.2"],
            [5],
            "Argument `schedules[1]` must be a finite number >= 0 or a "
            "schedule. Received: schedules[1]='0.2' (of type str)",
        ),
        (
            TypeError,
            [LinearSchedule, 0.1],
            [5],
            "Argument `schedules[0]` must be a finite number >= 0 or a "
            "schedule. Received: schedules[0]=<class "
            "'l2keras.strengths.schedules.LinearSchedule'> (of type type)",
        ),
        (
            ValueError,
            [0.1, 0.2],
            [0],
            "Argument `boundaries[0]` must be an integer >= 1. "
            "Received: boundaries[0]=0",
        ),
        (
            TypeError,
            [0.1, 0.2],
            [None],
            "Argument `boundaries[0]` must be an integer >= 1. "
            "Received: boundaries[0]=None (of type NoneType)",
        ),
        (
            ValueError,
            [0.1, 0.2],
            [5, 6],
            "Argument `boundaries` must have one entry fewer than `schedules`. "
            f"Received: boundaries=[5, 6] of length 2, {LAST} 2",
        ),
        (
            ValueError,
            [],
            [],
            "Argument `boundaries` must have one entry fewer than `schedules`. "
            f"Received: boundaries=[] of length 0, {LAST} 0",
        ),
        (
            ValueError,
            [0.1, 0.2, 0.3],
            [5, 5],
            "Argument `boundaries` must rise from entry to entry. "
            "Received: boundaries=[5, 5]",
        ),
        (
            ValueError,
            [0.1, 0.2, 0.3],
            [6, 5],
            "Argument `boundaries` must rise from entry to entry. "
            "Received: boundaries=[6, 5]",
        ),
    ],
)
def test_invalid_arguments_of_joined_schedules_are_explained(
    kind, schedules, boundaries, message
):
    with pytest.raises(kind) as error:
        JoinedSchedule(schedules, boundaries)
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("schedules", "boundaries", "culprit"),
    [(0.1, [], "schedules"), ([0.1, 0.2], 5, "boundaries")],
)
def test_a_joined_schedule_requires_lists(schedules, boundaries, culprit):
    # Every message should name the argument.
    with pytest.raises(TypeError, match=f"Argument `{culprit}`"):
        JoinedSchedule(schedules, boundaries)


def test_a_joined_schedule_requires_serializable_schedules():
    part = lambda step: 0.1  # noqa: E731
    with pytest.raises(ValueError, match="cannot save") as error:
        JoinedSchedule([part, 0.2], [5])
    assert str(error.value) == (
        "A schedule must not be a lambda: Keras cannot save and reload it with "
        "a model. Use one of `keras.optimizers.schedules` or of l2keras, or "
        "define a function at the top level of a module and put "
        '`@keras.saving.register_keras_serializable(package="my_package")` '
        f"above it. Received: schedules[0]={part!r}"
    )


@pytest.mark.parametrize(
    ("kind", "arguments", "message"),
    [
        (
            TypeError,
            (0.1, LinearSchedule(0, 1, 5)),
            "Argument `schedule` must be a schedule. Received: schedule=0.1",
        ),
        (
            TypeError,
            (LinearSchedule(0, 1, 5), LinearSchedule(0, 1, 6)),
            "Argument `factor` must be a finite number >= 0. "
            "Received: factor=LinearSchedule(initial_value=0.0, end_value=1.0, "
            "steps=6, begin=0) (of type LinearSchedule)",
        ),
        (
            ValueError,
            (LinearSchedule(0, 1, 5), -2.0),
            "Argument `factor` must be a finite number >= 0. "
            "Received: factor=-2.0",
        ),
    ],
)
def test_a_scaled_schedule_names_a_wrong_argument(kind, arguments, message):
    with pytest.raises(kind) as error:
        ScaledSchedule(*arguments)
    assert str(error.value) == message


def test_a_scaled_schedule_shows_its_schedule_and_factor():
    assert repr(0.5 * LinearSchedule(0, 1, 5)) == (
        "ScaledSchedule(schedule=LinearSchedule(initial_value=0.0, "
        "end_value=1.0, steps=5, begin=0), factor=0.5)"
    )
