"""Regularizers: a penalty times a strength, and the strength may be a schedule.

They go wherever Keras takes a regularizer: `kernel_regularizer=`,
`bias_regularizer=`, `activity_regularizer=`, `add_weight(regularizer=)`, ...
Keras adds what they return to the loss.

Conventions, which textbooks differ in: a penalty is a sum over the weights and
not a mean, without a factor of 1/2. Frozen weights pay none, and a weight that
several layers share pays once.
"""

import inspect
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Self

import keras
import numpy as np
from keras import ops

from l2keras import _validation
from l2keras._keras import backends
from l2keras._types import Strength, Tensor
from l2keras.strengths import checking
from l2keras.strengths.clock import Clock, Scale


def _arguments(cls: type) -> list[str]:
    """Returns the names of the constructor's arguments."""
    parameters = list(inspect.signature(cls).parameters.values())
    for parameter in parameters:
        if parameter.kind in (
            inspect.Parameter.VAR_POSITIONAL,
            inspect.Parameter.VAR_KEYWORD,
        ):
            raise TypeError(
                f"The constructor of `{cls.__name__}` must name its arguments, "
                f"so that they can be saved. Received: `{parameter}`"
            )
    return [parameter.name for parameter in parameters]


@keras.saving.register_keras_serializable(package="l2keras")
class Regularizer(keras.regularizers.Regularizer):
    """Base class: a subclass writes one formula, `penalty(self, weights)`.

    The base multiplies it by the strength, follows the schedule, sums in
    float32 where the weights are float16 or bfloat16, and saves and reloads.
    A subclass with arguments of its own stores each under its name and hands
    the strength to `super().__init__`; `get_config` then finds them all.

    Args:
        strength: Finite number >= 0, or a schedule: a callable from the
            optimizer's step (a float32 tensor of shape `()`) to one, that Keras
            can save. Defaults to `0.01`.

    Attributes:
        strength: As given.
        scale: Number >= 0 that multiplies the strength, 1.0 unless
            `l2keras.set_scale` or `l2keras.PenaltyScheduler` set it.

    Raises:
        TypeError: If `strength` is neither a number nor a schedule.
        ValueError: If it is negative or not finite, or a schedule that returns
            such a number, or one that Keras cannot save.

    Example:

    >>> @keras.saving.register_keras_serializable(package="my_package")
    ... class Cubic(Regularizer):
    ...     def penalty(self, weights):
    ...         return ops.sum(ops.abs(weights) ** 3)
    >>> float(Cubic(0.5)(ops.array([1.0, -2.0])))
    4.5
    """

    _strength_name = "strength"
    _clock: Clock | None = None

    def __init__(self, strength: Strength = 0.01) -> None:
        self._strength = checking.check(strength, self._strength_name)
        self._scale: float | Scale = 1.0
        if callable(self._strength):
            # Made here, in the user's distribution scope if there is one, and
            # before any tracing: a variable made in a compiled step is lost.
            self._clock = Clock()

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        parameters = inspect.signature(cls).parameters
        if taken := {"step", "scale"} & set(parameters):
            raise TypeError(
                f"The constructor of `{cls.__name__}` must not have an "
                f"argument `{min(taken)}`: the config holds the state of that "
                "name."
            )

    @property
    def strength(self) -> Strength:
        return self._strength

    @property
    def scale(self) -> float:
        if isinstance(self._scale, Scale):
            return float(self._scale.read())
        return self._scale

    def penalty(self, weights: Tensor) -> Tensor:
        """Returns the penalty at unit strength: the subclass's formula.

        Args:
            weights: Tensor of any shape, in float32 or float64.

        Returns:
            Tensor of shape `()` and the same type, >= 0.
        """
        raise NotImplementedError(
            f"Class `{type(self).__name__}` must define "
            "`penalty(self, weights)`, the penalty at unit strength."
        )

    def __call__(self, weights: Tensor) -> Tensor:
        """Returns strength times penalty.

        Args:
            weights: Tensor or variable of any shape and floating type.

        Returns:
            Tensor of shape `()`: float64 if the weights are, else float32, or
            `keras.config.floatx()` if that is narrower still.
        """
        return _as_loss(self._value(_widen(weights)))

    def _value(self, weights: Tensor) -> Tensor:
        """Returns strength times penalty, in the type of the weights."""
        value = _times(self._strength_now(), self.penalty(weights))
        if self._clock is not None and not self._clock.driven:
            value = self._clock.watch(value, self)
        return value

    def _strength_now(self) -> Tensor | float:
        """Returns what multiplies the penalty at the current step."""
        strength = self._strength
        if callable(strength):
            assert self._clock is not None
            strength = backends.to_float32(strength(self._clock.now()))
        return _times(_current(self._scale), strength)

    def _is_off(self) -> bool:
        """Tells whether the penalty is zero for good."""
        return isinstance(self._scale, float) and (
            self._scale == 0.0
            or (isinstance(self._strength, float) and self._strength == 0.0)
        )

    def _terms(self) -> Iterator["Regularizer"]:
        """Yields the regularizers that have a strength of their own."""
        yield self

    def _nested(self) -> Iterator["Regularizer"]:
        """Yields the regularizer, and those that it is made of."""
        yield self

    def _strengths(self) -> list[tuple[str, Tensor | float]]:
        """Returns the name and current strength of each term."""
        return [(type(self).__name__, self._strength_now())]

    def __add__(self, other: Any) -> "Sum":
        if not callable(other) or isinstance(other, type):
            return NotImplemented
        return Sum([*_summands(self), *_summands(other)])

    def __radd__(self, other: Any) -> "Sum":
        if not callable(other) or isinstance(other, type):
            return NotImplemented
        return Sum([*_summands(other), *_summands(self)])

    def __repr__(self) -> str:
        arguments = (
            f"{name}={getattr(self, name)!r}"
            for name in _arguments(type(self))
            if hasattr(self, name)
        )
        return f"{type(self).__name__}({', '.join(arguments)})"

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments, and the state if there is any.

        The state is the `step` of a scheduled regularizer and a `scale` other
        than 1, so that a reloaded model evaluates to the same loss.
        """
        config = {}
        for name in _arguments(type(self)):
            if not hasattr(self, name):
                raise AttributeError(
                    f"Class `{type(self).__name__}` must store its argument "
                    f"`{name}` as `self.{name}`, or define `get_config`: it "
                    "could not be saved."
                )
            config[name] = keras.saving.serialize_keras_object(
                getattr(self, name)
            )
        if "regularizers" not in config:  # They have a step of their own each.
            for term in self._terms():
                if term._clock is not None:
                    config["step"] = term._clock.read()
        if self.scale != 1.0:
            config["scale"] = self.scale
        return config

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Returns the regularizer that `get_config` described.

        Raises:
            ValueError: If a key is missing or unknown.
        """
        arguments = dict(config)
        step = arguments.pop("step", None)
        scale = arguments.pop("scale", 1.0)
        expected = _arguments(cls)
        if missing := [key for key in expected if key not in arguments]:
            raise ValueError(
                f"The config of `{cls.__name__}` must have the keys "
                f"{expected}. Missing: {missing}. Received: config={config!r}"
            )
        if unknown := [key for key in arguments if key not in expected]:
            raise ValueError(
                f"The config of `{cls.__name__}` must have no keys but "
                f"{expected}. Unknown: {unknown}. A newer version of "
                f"`{cls.__module__.partition('.')[0]}` may have written it. "
                f"Received: config={config!r}"
            )
        regularizer = cls(
            **{
                key: keras.saving.deserialize_keras_object(value)
                for key, value in arguments.items()
            }
        )
        regularizer._scale = _validation.check_number(scale, "scale")
        if step is not None:
            step = _validation.check_integer(step, "step", minimum=0)
            for term in regularizer._terms():
                if term._clock is not None:
                    term._clock = Clock(step)
        return regularizer

    def __getstate__(self) -> dict[str, Any]:
        # Copies and pickles take the values of variables, not the variables.
        state = {**self.__dict__, "_scale": self.scale}
        if self._clock is not None:
            state["_clock"] = self._clock.read()
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if "_clock" in state:
            self._clock = Clock(state["_clock"])


@keras.saving.register_keras_serializable(package="l2keras")
class Sum(Regularizer):
    """Applies several regularizers to the same weights, and adds them up.

    A layer takes only one regularizer for its kernel; `a + b` is `Sum([a, b])`.

    Args:
        regularizers: List of regularizers: this package's, Keras's own, or any
            callable that Keras takes for one.

    Raises:
        TypeError: If `regularizers` is not a list of callables.
        ValueError: If it is empty.

    Example:

    >>> both = L2(0.5) + GroupLasso(1.0)
    >>> both
    Sum(regularizers=[L2(l2=0.5), GroupLasso(strength=1.0, axis=-1, scale_by_size=False)])
    >>> float(both(ops.array([[3.0, 0.0], [4.0, 0.0]])))
    17.5
    """  # noqa: E501

    def __init__(self, regularizers: Sequence[Callable[[Tensor], Tensor]]):
        if not isinstance(regularizers, list | tuple):
            raise TypeError(
                "Argument `regularizers` must be a list of regularizers. "
                f"Received: regularizers={regularizers!r}"
            )
        if not regularizers:
            raise ValueError(
                "Argument `regularizers` must have at least one entry. "
                f"Received: regularizers={regularizers!r}"
            )
        for index, each in enumerate(regularizers):
            if not callable(each) or isinstance(each, type):
                raise TypeError(
                    f"Argument `regularizers[{index}]` must be a regularizer, "
                    "as an instance and not as a class. "
                    f"Received: regularizers[{index}]={each!r}"
                )
        self.regularizers = list(regularizers)
        self._scale = 1.0

    @property
    def strength(self) -> Strength:
        raise AttributeError(
            f"`{type(self).__name__}` has no strength of its own. Its "
            "`regularizers` have one each."
        )

    def _value(self, weights: Tensor) -> Tensor:
        total = ops.zeros((), dtype=weights.dtype)
        for each in self.regularizers:
            if not isinstance(each, Regularizer):
                total = total + ops.cast(each(weights), weights.dtype)
            elif not each._is_off():
                total = total + each._value(weights)
        return _times(_current(self._scale), total)

    def _is_off(self) -> bool:
        return self._scale == 0.0

    def _terms(self) -> Iterator[Regularizer]:
        for each in self.regularizers:
            if isinstance(each, Regularizer):
                yield from each._terms()

    def _nested(self) -> Iterator[Regularizer]:
        yield self
        for each in self.regularizers:
            if isinstance(each, Regularizer):
                yield from each._nested()

    def _strengths(self) -> list[tuple[str, Tensor | float]]:
        return [
            (name, _times(_current(self._scale), strength))
            for each in self.regularizers
            if isinstance(each, Regularizer)
            for name, strength in each._strengths()
        ]


def _widen(weights: Tensor) -> Tensor:
    """Returns the weights in a type that a sum does not overflow or coarsen."""
    if isinstance(weights, np.ndarray) or not hasattr(weights, "dtype"):
        weights = ops.convert_to_tensor(weights)
    if keras.backend.standardize_dtype(weights.dtype) in (
        "float32",
        "float64",
    ):
        return weights
    return ops.cast(weights, "float32")


def _as_loss(penalty: Tensor) -> Tensor:
    """Returns a penalty in the type that Keras adds to its other losses.

    They have type `floatx`, and TensorFlow adds nothing else to a float16.
    """
    floatx = keras.config.floatx()
    return ops.cast(penalty, floatx) if "16" in floatx else penalty


def _current(scale: float | Scale) -> Tensor | float:
    """Returns a scale as something to multiply by, in compiled code too."""
    return (
        ops.convert_to_tensor(scale.state)
        if isinstance(scale, Scale)
        else scale
    )


def _times(factor: Tensor | float, value: Tensor | float) -> Tensor | float:
    """Returns the product in the type of `value`, and `value` itself for 1."""
    if isinstance(factor, float):
        return value if factor == 1.0 else factor * value
    if not isinstance(value, float) and factor.dtype != value.dtype:
        factor = ops.cast(factor, value.dtype)
    return factor * value


def _summands(regularizer: Any) -> list[Any]:
    if type(regularizer) is Sum and regularizer._scale == 1.0:
        return regularizer.regularizers
    return [regularizer]
