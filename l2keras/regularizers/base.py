"""Regularizers: a penalty times a strength, and the strength may be a schedule.

They go wherever Keras takes a regularizer: `kernel_regularizer=`,
`bias_regularizer=`, `activity_regularizer=`, `add_weight(regularizer=)`, ...
Keras adds their values to the loss.

Conventions, which textbooks differ in: a penalty is a sum over the weights and
not a mean, without a factor of 1/2. Frozen weights pay none, and a weight that
several layers share pays once.
"""

import functools
import inspect
import warnings
import weakref
from collections.abc import Callable, Sequence
from typing import Any, Self

import keras
from keras import ops

from l2keras import _validation
from l2keras._types import StrengthLike, Tensor
from l2keras.regularizers import proximal_steps
from l2keras.regularizers.terms import Term, checked_penalty
from l2keras.strengths.strength import Scale, Strength, number, shown


def warn_unless_loadable(regularizer: Any) -> None:
    """Warns if Keras saves a regularizer and cannot find its class again.

    Once for each class, or function. No error, since `load_model` takes
    `custom_objects`.
    """
    kind: Any = (
        regularizer if inspect.isfunction(regularizer) else type(regularizer)
    )
    if kind in _known or kind.__module__.startswith("keras."):
        return
    name = keras.saving.get_registered_name(kind)
    if keras.saving.get_registered_object(name) is not kind:
        warnings.warn(
            f"`{kind.__name__}` is not registered, so a model that is saved "
            "with it can be loaded only with `custom_objects`. Put "
            '`@keras.saving.register_keras_serializable(package="my_package")` '
            "above it.",
            stacklevel=3,
        )
    _known.add(kind)


# Classes and functions that are registered, or were warned of.
_known: weakref.WeakSet[Any] = weakref.WeakSet()


def _not_constructed(regularizer: Any, argument: str) -> AttributeError:
    return AttributeError(
        f"The constructor of `{type(regularizer).__name__}` must call "
        f"`super().__init__({argument})`."
    )


def _arguments(cls: type) -> list[str]:
    """The names of the constructor's arguments."""
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

    Where there is a second formula, that of the penalty's proximal step, a
    subclass may write `proximal(self, weights, threshold)` as well, and
    `l2keras.Proximal` makes its zeros exact.

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
    _scale: float | Scale = 1.0
    _has_proximal = False
    # Whether it is made of regularizers, which have strengths and steps of
    # their own.
    _holds_regularizers = False

    def __init__(self, strength: StrengthLike = 0.01) -> None:
        warn_unless_loadable(self)
        self._strength = Strength.of(strength, self._strength_name)

    @functools.cached_property  # Until the constructor sets it.
    def _strength(self) -> Strength:
        raise _not_constructed(self, "strength")

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        parameters = inspect.signature(cls).parameters
        if taken := {"step", "since", "scale"} & set(parameters):
            raise TypeError(
                f"The constructor of `{cls.__name__}` must not have an "
                f"argument `{min(taken)}`: the config holds the state of that "
                "name."
            )
        penalty, proximal = (
            next(base for base in cls.__mro__ if name in vars(base))
            for name in ("penalty", "proximal")
        )
        # Who derives from `L1` and writes another penalty has not the proximal
        # step of `L1`.
        cls._has_proximal = (
            proximal is not Regularizer
            and issubclass(proximal, penalty)
            and cls.__call__ is Regularizer.__call__
        )

    @property
    def strength(self) -> StrengthLike:
        return self._strength.value

    @property
    def scale(self) -> float:
        return number(self._scale)

    @property
    def terms(self) -> list[Term]:
        """The summands: strengths, each with its penalty."""
        return [
            Term(
                type(self).__name__,
                self._strength.scaled(self._scale),
                functools.partial(checked_penalty, self),
                self,
            )
        ]

    def set_scale(self, scale: float | Scale) -> None:
        """Sets the scale of the strength; `l2keras.set_scale` is for users.

        Args:
            scale: A number, or a state that can change in compiled code and
                that Keras is told to carry.
        """
        self._scale = scale

    @property
    def state_of_scale(self) -> Scale | None:
        """The state that holds the scale in compiled code, if there is one."""
        return self._scale if isinstance(self._scale, Scale) else None

    def penalty(self, weights: Tensor) -> Tensor:
        """The penalty at unit strength: the formula of the subclass.

        Args:
            weights: Tensor of any shape, in float32 or float64.

        Returns:
            Tensor of shape `()` and the same type, >= 0.
        """
        raise NotImplementedError(
            f"Class `{type(self).__name__}` must define "
            "`penalty(self, weights)`, the penalty at unit strength."
        )

    def proximal(self, weights: Tensor, threshold: Tensor | float) -> Tensor:
        """The proximal step of the penalty: the formula of a subclass.

            argmin_u  sum_i (u_i - w_i)**2 / (2 t_i) + penalty(u)

        Args:
            weights: Tensor of any shape, in float32 or float64.
            threshold: `t`, >= 0: a number, or a tensor of shape `()`, or one
                like the weights. The strength times the length of a step.

        Returns:
            Tensor like the weights.
        """
        raise NotImplementedError(
            f"Class `{type(self).__name__}` must define "
            "`proximal(self, weights, threshold)`, the proximal step of its "
            "penalty, to take one."
        )

    @property
    def has_proximal(self) -> bool:
        """Whether there is a proximal step, and it is that of its penalty."""
        return self._has_proximal

    def __call__(self, weights: Tensor) -> Tensor:
        """Strength times penalty.

        No gradient flows through a penalty whose proximal step is taken: see
        `proximal_steps`.

        Args:
            weights: Tensor or variable of any shape and floating type.

        Returns:
            Tensor of shape `()`: float64 if the weights are, else float32, or
            `keras.config.floatx()` if that is narrower still.
        """
        wide = _widen(weights)
        terms = self.terms
        penalty = proximal_steps.penalty_of(terms, weights)
        values = [
            term.strength.times(penalty(term, wide), self)
            for term in terms
            # A single one is computed all the same: its gradient must be
            # zero, and not missing.
            if len(terms) == 1 or not term.strength.is_zero
        ]
        if not values:
            values = [ops.zeros((), dtype=wide.dtype)]
        return _as_loss(sum(values[1:], start=values[0]))

    def __add__(self, other: Any) -> "Sum":
        if not callable(other) or isinstance(other, type):
            return NotImplemented
        return Sum([*_summands(self), *_summands(other)])

    def __radd__(self, other: Any) -> "Sum":
        if not callable(other) or isinstance(other, type):
            return NotImplemented
        return Sum([*_summands(other), *_summands(self)])

    def __repr__(self) -> str:
        arguments = [
            f"{name}={getattr(self, name)!r}"
            for name in _arguments(type(self))
            if hasattr(self, name)
        ]
        scale = shown(self._scale)
        if scale != "1.0":
            arguments.append(f"scale={scale}")
        return f"{type(self).__name__}({', '.join(arguments)})"

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments, and the state if there is any.

        The state is the `step` of a scheduled regularizer, with the optimizer's
        iterations `since` which it holds if it was set by hand, and a `scale`
        other than 1, so that a reloaded model evaluates to the same loss. Of a
        regularizer that two models share, the step is where that model was
        which asked for the penalty last; with the optimizer, each is saved with
        its own.
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
        if not self._holds_regularizers:
            for term in self.terms:
                if term.strength.is_scheduled:
                    config["step"] = term.strength.step
                    if term.strength.since is not None:
                        config["since"] = term.strength.since
        if self.scale != 1.0:
            config["scale"] = self.scale
        return config

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """The regularizer that `get_config` described.

        Raises:
            ValueError: If a key is missing or unknown.
        """
        arguments = dict(config)
        step = arguments.pop("step", None)
        since = arguments.pop("since", None)
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
        regularizer.set_scale(_validation.check_number(scale, "scale"))
        if step is not None:
            step = _validation.check_integer(step, "step", minimum=0)
            for term in regularizer.terms:
                term.strength.remember(step, since)
        return regularizer

    def __getstate__(self) -> dict[str, Any]:
        # Copies and pickles take the value of a variable, not the variable.
        state = {**self.__dict__, "_scale": self.scale}
        if "_strength" in state:
            state["_strength"] = self._strength.apart()
        return state


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

    >>> from l2keras import L2, GroupLasso
    >>> both = L2(0.5) + GroupLasso(1.0)
    >>> both
    L2(l2=0.5) + GroupLasso(strength=1.0, axis=-1, scale_by_size=False)
    >>> float(both(ops.array([[3.0, 0.0], [4.0, 0.0]])))
    17.5
    """

    _holds_regularizers = True

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
        warn_unless_loadable(self)
        self.regularizers = list(regularizers)

    @functools.cached_property  # Until the constructor sets it.
    def regularizers(self) -> list[Any]:
        raise _not_constructed(self, "regularizers")

    def __repr__(self) -> str:
        if type(self) is not Sum or shown(self._scale) != "1.0":
            return super().__repr__()
        return " + ".join(map(repr, self.regularizers))

    @property
    def strength(self) -> StrengthLike:
        raise AttributeError(
            f"`{type(self).__name__}` has no strength of its own. Its "
            "`regularizers` have one each."
        )

    @property
    def terms(self) -> list[Term]:
        return [
            term._replace(strength=term.strength.scaled(self._scale))
            for regularizer in self.regularizers
            for term in terms_of(regularizer)
        ]


def terms_of(regularizer: Any) -> list[Term]:
    """The terms of a regularizer, be it of l2keras or not.

    A callable that l2keras does not know is one term of strength 1.
    """
    if regularizer is None:
        return []
    if isinstance(regularizer, Regularizer):
        return regularizer.terms
    name = getattr(regularizer, "__name__", type(regularizer).__name__)

    def penalty(weights: Tensor) -> Tensor:
        value = ops.cast(regularizer(weights), weights.dtype)
        # Keras sums the value of a regularizer.
        return value if value.shape == () else ops.sum(value)

    return [Term(name, Strength(1.0), penalty, regularizer)]


def strengths_of(regularizer: Any) -> dict[str, Strength]:
    """The strengths in a regularizer, by the names of their terms.

    None for regularizers of others, whose strength is unknown.
    """
    found: dict[str, Strength] = {}
    for term in terms_of(regularizer):
        if not isinstance(term.regularizer, Regularizer):
            continue
        name, count = term.name, 1
        while name in found:
            count += 1
            name = f"{term.name}_{count}"
        found[name] = term.strength
    return found


def _widen(weights: Tensor) -> Tensor:
    """The weights in a type in which a sum neither overflows nor coarsens."""
    if not isinstance(weights, keras.Variable):
        # An array; or a tensor of PyTorch, on another device.
        weights = ops.convert_to_tensor(weights)
    if keras.backend.standardize_dtype(weights.dtype) in (
        "float32",
        "float64",
    ):
        return weights
    return ops.cast(weights, "float32")


def _as_loss(penalty: Tensor) -> Tensor:
    """A penalty in the type of Keras's other losses.

    They have type `floatx`, and TensorFlow adds nothing else to a float16.
    """
    floatx = keras.config.floatx()
    return ops.cast(penalty, floatx) if "16" in floatx else penalty


def _summands(regularizer: Any) -> list[Any]:
    if type(regularizer) is Sum and regularizer._scale == 1.0:
        return regularizer.regularizers
    return [regularizer]
