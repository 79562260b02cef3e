"""What a strength may be: a number >= 0, or a schedule that can be saved."""

import inspect
from typing import Any

import keras
from keras import ops

from l2keras import _validation
from l2keras._keras import backends
from l2keras._types import Schedule, Strength
from l2keras.strengths.tuned import TunedStrength

# A schedule is tried at these, so that most mistakes show at once.
_PROBED_STEPS = (0, 1, 1_000, 1_000_000)


def check(strength: Any, name: str) -> Strength:
    """Returns a strength as a float, or as the schedule that it is.

    Raises:
        TypeError: If it is neither a number nor callable.
        ValueError: If it is negative or not finite, or a schedule that
            returns such a number, or one that Keras cannot save.
    """
    if not callable(strength) or isinstance(
        strength, type | keras.Regularizer | keras.Layer
    ):
        return _validation.check_number(strength, name, " or a schedule")
    if isinstance(strength, TunedStrength):
        return strength  # It is checked before it is made, and never saved.
    _check_saves(strength, name)
    for step in _PROBED_STEPS:
        # As the clock gives it.
        value = strength(ops.cast(step, "float32"))
        if backends.is_symbolic(value):
            break  # A layer is being built inside a compiled function.
        check_value(value, strength, name, step)
    return strength


def check_value(value: Any, schedule: Schedule, name: str, step: int) -> float:
    """Returns what a schedule gave at a step as a float.

    Raises:
        TypeError: If it is not one real number.
        ValueError: If it is negative or not finite.
    """
    try:
        return _validation.check_number(value, name)
    except (TypeError, ValueError) as error:
        raise type(error)(
            f"A schedule must return a finite number >= 0 at each step. "
            f"Received: {name}={schedule!r}, which returned {value!r} at step "
            f"{step}"
        ) from None


def _check_saves(schedule: Schedule, name: str) -> None:
    """Raises a ValueError unless Keras can save and reload the schedule."""
    cure = (
        "Keras cannot save and reload it with a model. Use one of "
        "`keras.optimizers.schedules` or of l2keras, or define a function at "
        "the top level of a module and put "
        '`@keras.saving.register_keras_serializable(package="my_package")` '
        f"above it. Received: {name}={schedule!r}"
    )
    if inspect.isfunction(schedule) and schedule.__name__ == "<lambda>":
        raise ValueError(f"A schedule must not be a lambda: {cure}")
    try:
        config = keras.saving.serialize_keras_object(schedule)
        again = keras.saving.deserialize_keras_object(config)
    except (TypeError, ValueError, NotImplementedError, AttributeError) as e:
        raise ValueError(f"A schedule must be registered: {cure}") from e
    if not callable(again):
        raise ValueError(f"A schedule must be registered: {cure}")
