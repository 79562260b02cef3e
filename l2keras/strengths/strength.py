"""The factor of a penalty: a number or a schedule, times scales.

One class, `Strength`, and in `placeholder` a subclass whose number is in a
variable, for searches. A subclass defines `_unscaled`, its value at a step. The
variables in it are among `states`, which Keras has to carry through compiled
steps. No other code needs to know the class.
"""

import copy
import inspect
import weakref
from typing import Any, Self

import keras
from keras import ops

from l2keras import _validation
from l2keras._keras import precision, trainer_hooks
from l2keras._keras.backend import backend
from l2keras._keras.call_stack import running_model
from l2keras._keras.tracked_state import State
from l2keras._types import Schedule, Tensor
from l2keras.strengths import step as steps
from l2keras.strengths.step import Clock, Reading
from l2keras.strengths.watch import Watch

# A schedule is called at these steps, so that most mistakes show at once.
_PROBED_STEPS = (0, 1, 1_000, 1_000_000)


class Scale(State):
    """A factor of the strengths of one regularizer, or of several."""

    def __init__(self, value: float = 1.0) -> None:
        super().__init__(value, dtype="float32", name="scale")


class Strength:
    """A number >= 0 or a schedule of one, times scales.

    Args:
        value: A finite number >= 0, or a schedule: a callable from the
            optimizer's step (a float32 tensor of shape `()`) to one, that Keras
            can save.
        name: The name in messages.

    Attributes:
        value: As given, a number as a Python float.
        name: As given.
        scales: The factors that are set from outside: numbers, or states that
            can change in compiled code.

    Raises:
        TypeError: If `value` is neither a number nor callable.
        ValueError: If it is negative or not finite, or a schedule that returns
            such a number, or one that Keras cannot save.
    """

    def __init__(self, value: Any, name: str = "strength") -> None:
        self.name = name
        self.value = self._checked(value)
        self.scales: tuple[float | Scale, ...] = ()
        self._memory = _Memory()

    @staticmethod
    def of(value: Any, name: str) -> "Strength":
        """The strength of a user's argument."""
        if isinstance(value, Strength):
            return value.scaled()
        return Strength(value, name)

    def _checked(self, value: Any) -> Any:
        """The value that was given, a number as a float."""
        if not callable(value) or isinstance(
            value, type | keras.Regularizer | keras.Layer
        ):
            return _validation.check_number(value, self.name, " or a schedule")
        _check_saves(value, self.name)
        for step in _PROBED_STEPS:
            returned = value_at(value, ops.convert_to_tensor(step))
            if backend.is_symbolic(returned):
                break  # A layer is being built inside a compiled function.
            _check_returned(returned, value, self.name, step)
        return value

    @property
    def is_scheduled(self) -> bool:
        """Whether it changes with the optimizer's step."""
        return callable(self.value)

    @property
    def is_zero(self) -> bool:
        """Whether it is zero for good."""
        return 0.0 in (self.value, *self.scales)

    @property
    def states(self) -> list[State]:
        """The states that Keras has to carry through compiled steps."""
        return [
            *(
                placeholder.variable
                for placeholder in placeholders_in(self.value)
            ),
            *(scale for scale in self.scales if isinstance(scale, State)),
        ]

    def scaled(self, *scales: float | Scale) -> Self:
        """The strength times scales, with the same memory of steps."""
        scales = tuple(scale for scale in scales if scale != 1.0)
        if not scales:
            return self  # Asked for at each step of PyTorch.
        other = copy.copy(self)
        other.scales = (*self.scales, *scales)
        return other

    def now(self) -> Tensor | float:
        """The value at the step that is being trained."""
        return self._read()[0]

    def times(self, penalty: Tensor, of: Any) -> Tensor:
        """The product with a penalty, in the penalty's type.

        It warns if a gradient passes through while the step stands still.

        Args:
            penalty: Tensor of shape `()`.
            of: The regularizer, for the message.
        """
        if backend.is_tracing():
            running = running_model()
            if running is not None:
                self._memory.models.add(running.model)
        strength, reading = self._read()
        value = multiplied(strength, penalty)
        if reading is None or not reading.problem:
            return value
        watch = reading.watch or self._memory.watch
        return watch.watched(value, of, reading.problem, reading.calls)

    @property
    def models(self) -> list[keras.Model]:
        """The models whose compiled steps hold the strength as a constant."""
        return list(self._memory.models)

    def number(self) -> float:
        """The value now, outside compiled code."""
        return float(ops.convert_to_numpy(self.now()))

    def number_at(self, step: int) -> float:
        """The value at a step, without scales.

        Raises:
            TypeError: If a schedule does not return one real number.
            ValueError: If it returns one that is negative or not finite.
        """
        if not self.is_scheduled:
            return float(self.value)
        returned = value_at(self.value, ops.convert_to_tensor(step))
        return _check_returned(returned, self.value, self.name, step)

    def at(self, step: Tensor) -> Tensor | float:
        """The value at a step, in compiled code too."""
        return self._times_scales(self._unscaled(step))

    @property
    def step(self) -> int | None:
        """The step at which it was read last; `None` unless it is scheduled."""
        return self._memory.step() if self.is_scheduled else None

    @property
    def since(self) -> int | None:
        """The optimizer's iterations when `step` was set by hand and holds."""
        return self._memory.since() if self.is_scheduled else None

    def remember(self, step: Clock | int, since: int | None = None) -> None:
        """Sets the step, or the clock, to read while no model is running.

        Args:
            step: The step, or the clock.
            since: If the step was set by hand, the optimizer's iterations at
                which it holds in a model that is running.
        """
        self._memory.put(step, since)  # Scaled copies share it.

    def _unscaled(self, step: Tensor) -> Tensor | float:
        """The value at a step, before it is scaled."""
        if not self.is_scheduled:
            return float(self.value)
        try:
            return precision.to_float32(value_at(self.value, step))
        except Exception as error:
            if backend.is_symbolic(step):
                error.add_note(
                    f"The schedule {self.value!r} was being compiled. It must "
                    "return a tensor that is computed of the step by "
                    "`keras.ops`, without Python's `if`, `float` or NumPy: "
                    "`ops.where(step < 1000, 0.0, 0.1)`."
                )
            raise

    def _read(self) -> tuple[Tensor | float, Reading | None]:
        """The value now, and the reading of the step, if it is scheduled."""
        if not self.is_scheduled:
            return self.at(0), None
        reading = steps.read()
        step = reading.step
        if step is None:
            step = ops.convert_to_tensor(self._memory.step())
        elif reading.clock is not None:
            step = self._memory.held(step, reading.clock)
            self._memory.clock = reading.clock
        return self.at(step), reading

    def _times_scales(self, value: Tensor | float) -> Tensor | float:
        for scale in self.scales:
            factor = (
                ops.convert_to_tensor(scale.state)
                if isinstance(scale, Scale)
                else scale
            )
            value = multiplied(factor, value)
        return value

    def apart(self) -> Self:
        """A copy with scales and a memory of its own."""
        other = copy.copy(self)
        other.__setstate__(self.__getstate__())
        return other

    def __getstate__(self) -> dict[str, Any]:
        # Copies and pickles take the values of variables, not the variables.
        return {
            **self.__dict__,
            "scales": tuple(number(scale) for scale in self.scales),
            "_memory": (self._memory.step(), self._memory.since()),
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._memory = _Memory(*state["_memory"])

    def __copy__(self) -> Self:
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        return other


class _Memory:
    """The step that a schedule read last: a number, or a clock.

    Args:
        number: The number.
        since: If it was set by hand, the iterations at which it holds.
    """

    def __init__(self, number: int = 0, since: int | None = None) -> None:
        self.clock: Clock | None = None
        self._number = number
        # Of a number that was set by hand before the model was saved.
        self._since = since
        self.models: weakref.WeakSet[keras.Model] = weakref.WeakSet()
        # For a penalty that no model computes.
        self.watch = Watch()

    def put(self, step: Clock | int, since: int | None) -> None:
        """Replaces it by a number, or a clock."""
        self._since = since
        if isinstance(step, Clock):
            self.clock = step
        else:
            self.clock, self._number = None, step

    def step(self) -> int:
        """The step as a number."""
        if self.clock is None:
            return self._number
        # A model that is exported is being traced.
        with backend.outside_trace():
            counted = self.clock.number() or 0
        holds = self.clock.by_hand is None and self._since == counted
        return self._number if holds else counted

    def since(self) -> int | None:
        """The iterations at which a step set by hand holds."""
        if self.clock is None:
            return self._since
        counted, since = self.clock.counted(), self._since
        if self.clock.by_hand is not None:
            since = int(self.clock.by_hand.read()[1])
        return since if counted == since else None

    def held(self, counted: Tensor, clock: Clock) -> Tensor:
        """The step set by hand while it holds, and else the counted one."""
        if self._since is None or clock.by_hand is not None:
            return counted
        is_held = ops.equal(counted, self._since)
        return ops.where(is_held, self._number, counted)


def placeholders_in(value: Any) -> list[Any]:
    """The placeholders in the value of a strength.

    A placeholder, and a schedule of l2keras, tell; nothing else has any.
    """
    return getattr(value, "placeholders", [])


def number(scale: float | Scale) -> float:
    """A scale as a number, outside compiled code."""
    return float(scale.read()) if isinstance(scale, Scale) else scale


def shown(scale: float | Scale) -> str:
    """The text of a scale, three dots where it has no value now.

    In compiled code it has none, nor while Keras's JAX trainer runs.
    """
    if isinstance(scale, Scale) and (
        not trainer_hooks.is_readable(scale.state)
        or backend.is_symbolic(ops.convert_to_tensor(scale.state))
    ):
        return "..."
    return repr(number(scale))


def multiplied(factor: Tensor | float, value: Tensor | float) -> Tensor | float:
    """The product in the type of `value`, and `value` itself for 1."""
    if isinstance(factor, float):
        return value if factor == 1.0 else factor * value
    if not isinstance(value, float) and factor.dtype != value.dtype:
        factor = ops.cast(factor, value.dtype)
    return factor * value


def value_at(schedule: Schedule, step: Tensor) -> Tensor:
    """The value of a schedule at a step.

    Those of l2keras count in integers, and others are given float32.
    """
    if not getattr(schedule, "counts_in_integers", False):
        step = precision.to_float32(step)
    return schedule(step)


def _check_returned(
    value: Any, schedule: Schedule, name: str, step: int
) -> float:
    """The value that a schedule returned at a step, as a float.

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
