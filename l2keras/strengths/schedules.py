"""Schedules: strengths that are functions of the optimizer's step.

Anything that Keras can save and that maps a step to a number >= 0 is a
schedule: each of `keras.optimizers.schedules` as it is, and a function
registered with `keras.saving.register_keras_serializable`. Here are the shapes
that Keras lacks: they start at any step, and rise as well as fall.

They are Keras learning-rate schedules too, so an optimizer takes them as well.
In a search their values may be placeholders, whose numbers are in variables.
"""

import itertools
import math
from collections.abc import Sequence
from typing import Any, Self

import keras
from keras import ops

from l2keras import _validation
from l2keras._keras import precision
from l2keras._types import Schedule, Tensor
from l2keras.strengths.placeholder import (
    PlaceholderStrength,
    check_number_or_placeholder,
)
from l2keras.strengths.strength import Strength, placeholders_in, value_at


class _Schedule(keras.optimizers.schedules.LearningRateSchedule):
    """Base class: a schedule with a product, a `repr` and a config."""

    # A float32 is no exact step beyond 2**24.
    counts_in_integers = True

    # NumPy leaves `np.float64(2) * schedule` to `__rmul__`.
    __array_ufunc__ = None

    _arguments: tuple[str, ...] = ()

    @property
    def placeholders(self) -> list[PlaceholderStrength]:
        """The placeholders among the values."""
        values = [getattr(self, key) for key in self._arguments]
        return [
            placeholder
            for value in keras.tree.flatten(values)
            for placeholder in placeholders_in(value)
        ]

    def __mul__(self, factor: Any) -> "ScaledSchedule":
        return ScaledSchedule(self, factor)

    __rmul__ = __mul__

    def __truediv__(self, divisor: Any) -> "ScaledSchedule":
        return ScaledSchedule(self, 1.0 / divisor)

    def __repr__(self) -> str:
        arguments = (f"{key}={getattr(self, key)!r}" for key in self._arguments)
        return f"{type(self).__name__}({', '.join(arguments)})"

    def get_config(self) -> dict[str, Any]:
        return {
            key: keras.saving.serialize_keras_object(getattr(self, key))
            for key in self._arguments
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        return cls(
            **{
                key: keras.saving.deserialize_keras_object(value)
                for key, value in config.items()
            }
        )


class _Ramp(_Schedule):
    """Base class: a way from one value to another, by `_progress`."""

    _arguments = ("initial_value", "end_value", "steps", "begin")

    def __init__(
        self,
        initial_value: float,
        end_value: float,
        steps: int,
        begin: int = 0,
    ) -> None:
        self.initial_value = check_number_or_placeholder(
            initial_value, "initial_value"
        )
        self.end_value = check_number_or_placeholder(end_value, "end_value")
        self.steps = _validation.check_step(steps, "steps", minimum=1)
        self.begin = _validation.check_step(begin, "begin", minimum=0)

    def __call__(self, step: Tensor) -> Tensor:
        elapsed = precision.as_step(step)
        if self.begin:  # PyTorch takes its time for each operation.
            elapsed = ops.maximum(elapsed - self.begin, 0)
        progress = self._progress(elapsed)
        # Weighted so that both ends are met exactly, not only nearly.
        initial_value = _number_now(self.initial_value)
        end_value = _number_now(self.end_value)
        return initial_value * (1 - progress) + end_value * progress

    def _progress(self, elapsed: Tensor) -> Tensor:
        """The position between the values, 0 to 1, after so many steps."""
        raise NotImplementedError

    def _share(self, elapsed: Tensor) -> Tensor:
        """The fraction `elapsed / steps`, at most 1."""
        # The end is compared, since XLA multiplies by the reciprocal, and
        # `steps * (1 / steps)` need not be 1.
        share = precision.to_float32(elapsed) / self.steps
        return ops.where(elapsed >= self.steps, 1.0, share)


@keras.saving.register_keras_serializable(package="l2keras")
class LinearSchedule(_Ramp):
    """Goes from one value to another along a straight line.

    With `t = (step - begin) / steps`, held within 0 and 1, the value is

        (1 - t) * initial_value + t * end_value

    Args:
        initial_value: Number >= 0, the value up to step `begin`.
        end_value: Number >= 0, the value from step `begin + steps` on.
        steps: Positive integer, the number of optimizer steps between them.
        begin: Integer >= 0, the step at which the change begins.

    Raises:
        TypeError: If an argument is not a number.
        ValueError: If an argument is out of range.

    Example:

    >>> warm_up = LinearSchedule(0.0, 0.5, steps=100, begin=50)
    >>> [float(warm_up(step)) for step in (0, 50, 100, 150, 1000)]
    [0.0, 0.0, 0.25, 0.5, 0.5]
    """

    def _progress(self, elapsed: Tensor) -> Tensor:
        return self._share(elapsed)


@keras.saving.register_keras_serializable(package="l2keras")
class CosineSchedule(_Ramp):
    """Goes from one value to another along half a cosine wave, up or down.

    With `t = (step - begin) / steps`, held within 0 and 1, the value is

        initial_value + (end_value - initial_value) * (1 - cos(pi * t)) / 2

    Vision transformers raise their weight decay from 0.04 to 0.4 in this way.

    Reference:
        Caron et al., *Emerging Properties in Self-Supervised Vision
        Transformers*, ICCV 2021, section 3.2.

    Args:
        initial_value: Number >= 0, the value up to step `begin`.
        end_value: Number >= 0, the value from step `begin + steps` on.
        steps: Positive integer, the number of optimizer steps between them.
        begin: Integer >= 0, the step at which the change begins.

    Raises:
        TypeError: If an argument is not a number.
        ValueError: If an argument is out of range.

    Example:

    >>> schedule = CosineSchedule(0.0, 0.5, steps=100)
    >>> [round(float(schedule(step)), 4) for step in (0, 25, 50, 100, 200)]
    [0.0, 0.0732, 0.25, 0.5, 0.5]
    """

    def _progress(self, elapsed: Tensor) -> Tensor:
        return (1 - ops.cos(math.pi * self._share(elapsed))) / 2


@keras.saving.register_keras_serializable(package="l2keras")
class CyclicSchedule(_Ramp):
    """Goes to and fro between two values along straight lines, without end.

    The value is `initial_value` at step `begin`, `end_value` after `steps` more
    steps, and `initial_value` again after as many.

    Reference:
        Smith, *Cyclical Learning Rates for Training Neural Networks*, WACV
        2017, section 3.1 (the triangular policy), there for learning rates.

    Args:
        initial_value: Number >= 0, the value up to step `begin`.
        end_value: Number >= 0, the value at the turning points.
        steps: Positive integer, the optimizer steps of each half of a cycle.
        begin: Integer >= 0, the step at which the first cycle begins.

    Raises:
        TypeError: If an argument is not a number.
        ValueError: If an argument is out of range.

    Example:

    >>> schedule = CyclicSchedule(0.0, 0.5, steps=10)
    >>> [float(schedule(step)) for step in (0, 5, 10, 15, 20, 25)]
    [0.0, 0.25, 0.5, 0.25, 0.0, 0.25]
    """

    def _progress(self, elapsed: Tensor) -> Tensor:
        # In whole steps as long as possible: they are exact.
        if 2 * self.steps <= _validation.LAST_STEP:
            elapsed = ops.mod(elapsed, 2 * self.steps)
        return 1 - self._share(ops.abs(self.steps - elapsed))


@keras.saving.register_keras_serializable(package="l2keras")
class JoinedSchedule(_Schedule):
    """Follows one schedule after another.

    Each schedule counts its steps from the boundary at which it takes over, so
    its definition does not depend on its place.

    Args:
        schedules: List of schedules; a number stands for a constant one.
        boundaries: List of positive integers, rising: `boundaries[i]` is the
            first step of `schedules[i + 1]`. One fewer than the schedules.

    Raises:
        TypeError: If an entry of `schedules` is neither a number nor callable.
        ValueError: If the lengths do not fit or the boundaries do not rise.

    Example:

    >>> schedule = JoinedSchedule(
    ...     [0.0, LinearSchedule(0.0, 0.5, steps=100), 0.125],
    ...     boundaries=[50, 200],
    ... )
    >>> [float(schedule(step)) for step in (0, 49, 100, 150, 199, 200)]
    [0.0, 0.0, 0.25, 0.5, 0.5, 0.125]
    """

    _arguments = ("schedules", "boundaries")

    def __init__(
        self,
        schedules: Sequence[float | Schedule],
        boundaries: Sequence[int],
    ) -> None:
        for name, value in (
            ("schedules", schedules),
            ("boundaries", boundaries),
        ):
            if not isinstance(value, list | tuple):
                raise TypeError(
                    f"Argument `{name}` must be a list. "
                    f"Received: {name}={value!r}"
                )
        self.schedules = [
            Strength.of(schedule, f"schedules[{index}]").value
            for index, schedule in enumerate(schedules)
        ]
        self.boundaries = [
            _validation.check_step(boundary, f"boundaries[{index}]", minimum=1)
            for index, boundary in enumerate(boundaries)
        ]
        if len(self.schedules) != len(self.boundaries) + 1:
            raise ValueError(
                "Argument `boundaries` must have one entry fewer than "
                f"`schedules`. Received: boundaries={boundaries!r} of length "
                f"{len(self.boundaries)}, and schedules of length "
                f"{len(self.schedules)}"
            )
        if any(a >= b for a, b in itertools.pairwise(self.boundaries)):
            raise ValueError(
                "Argument `boundaries` must rise from entry to entry. "
                f"Received: boundaries={boundaries!r}"
            )

    def __call__(self, step: Tensor) -> Tensor:
        step = precision.as_step(step)
        value = _value_at(self.schedules[0], step)
        for boundary, schedule in zip(
            self.boundaries, self.schedules[1:], strict=True
        ):
            # Both branches of `where` are computed, and no schedule need be
            # defined before its first step.
            since = ops.maximum(step - boundary, 0)
            value = ops.where(
                step < boundary, value, _value_at(schedule, since)
            )
        return value


@keras.saving.register_keras_serializable(package="l2keras")
class ScaledSchedule(_Schedule):
    """Multiplies another schedule by a number.

        factor * schedule(step)

    `0.01 * schedule` and `schedule / 100` make one of a schedule of l2keras.
    Those of `keras.optimizers.schedules` know no products and are given by
    name, also in a search, where `factor` is the strength that `build_model` is
    handed: `L2(ScaledSchedule(ExponentialDecay(1.0, 500, 0.5), strength))`.

    Args:
        schedule: The schedule.
        factor: Finite number >= 0.

    Raises:
        TypeError: If `schedule` is no schedule, or `factor` no number.
        ValueError: If `factor` is negative or not finite, or the schedule
            returns such a number, or Keras cannot save it.

    Example:

    >>> schedule = 0.5 * LinearSchedule(0.0, 1.0, steps=100)
    >>> [float(schedule(step)) for step in (0, 50, 100)]
    [0.0, 0.25, 0.5]
    """

    _arguments = ("schedule", "factor")

    def __init__(self, schedule: Schedule, factor: float) -> None:
        if not callable(schedule):
            raise TypeError(
                "Argument `schedule` must be a schedule. "
                f"Received: schedule={schedule!r}"
            )
        self.schedule = Strength(schedule, "schedule").value
        self.factor = check_number_or_placeholder(factor, "factor")

    def __call__(self, step: Tensor) -> Tensor:
        value = _value_at(self.schedule, precision.as_step(step))
        return _number_now(self.factor) * value


def is_never_negative(schedule: Schedule) -> bool:
    """Whether a schedule is known to return finite numbers >= 0 only.

    The schedules of l2keras do, since their values were checked.
    """
    if type(schedule) is JoinedSchedule:
        return all(
            is_never_negative(part)
            for part in schedule.schedules
            if callable(part)
        )
    if type(schedule) is ScaledSchedule:
        return is_never_negative(schedule.schedule)
    return type(schedule) in (LinearSchedule, CosineSchedule, CyclicSchedule)


def _value_at(schedule: float | Schedule, step: Tensor) -> Tensor:
    value = (
        value_at(schedule, step)
        if callable(schedule)
        else _number_now(schedule)
    )
    return precision.to_float32(value)


def _number_now(value: float | PlaceholderStrength) -> Tensor | float:
    """The number, or the tensor behind a placeholder, in compiled code too."""
    return value.now() if isinstance(value, PlaceholderStrength) else value
