"""A penalty of how far weights are from where they started."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import keras
import numpy as np
import numpy.typing as npt
from keras import ops

from l2keras import _validation
from l2keras._keras.tracked_state import State
from l2keras._types import StrengthLike, Tensor
from l2keras.regularizers.base import (
    Regularizer,
    terms_of,
    warn_unless_loadable,
)
from l2keras.regularizers.terms import Term

Step: TypeAlias = Callable[[Tensor, Tensor], Tensor]


class StartValues(State):
    """Values like a weight's: its start, or the importance of its elements."""

    def read(self) -> npt.NDArray[Any]:
        """The values, outside compiled code, in float32 or float64."""
        tensor = ops.convert_to_tensor(self.state)
        if keras.backend.standardize_dtype(tensor.dtype) != "float64":
            tensor = ops.cast(tensor, "float32")
        # A copy, since PyTorch's arrays change with the variable.
        return np.array(ops.convert_to_numpy(tensor))


class Origin(NamedTuple):
    """The origin of a distance, and how much each element counts.

    Attributes:
        start: A number, or a tensor like the weights.
        importance: A tensor like the weights, or `None` if all count as one.
    """

    start: Tensor | float
    importance: Tensor | None = None

    def distance(self, weights: Tensor) -> Tensor:
        """The distance of weights, times the root of the importance."""
        distance = weights - _like(weights, self.start)
        if self.importance is None:
            return distance
        return distance * ops.sqrt(_like(weights, self.importance))

    def step(
        self, weights: Tensor, threshold: Tensor | float, step: Step
    ) -> Tensor:
        """The weights after a proximal step of their distance.

        With `v` the distance times the root of the importance, the threshold
        of `v` is that of the weights times the importance.

        Args:
            weights: Tensor in float32 or float64.
            threshold: As of `Regularizer.proximal`.
            step: The step of the distance, given its threshold.
        """
        start = _like(weights, self.start)
        if self.importance is None:
            return start + step(weights - start, threshold)
        importance = _like(weights, self.importance)
        some = importance > 0
        importance = ops.where(some, importance, 1.0)
        root = ops.sqrt(importance)
        after = step(root * (weights - start), threshold * importance)
        return ops.where(some, start + after / root, weights)


def _like(weights: Tensor, values: Tensor | float) -> Tensor | float:
    """Values in the type of weights."""
    return (
        values if isinstance(values, float) else ops.cast(values, weights.dtype)
    )


@keras.saving.register_keras_serializable(package="l2keras")
class FromStart(Regularizer):
    """Pulls weights to where they started, and not to zero.

    For fine-tuning, where the pretrained weights are a better guess than zero
    (L2-SP); for training that goes on on other data, and must not forget
    (elastic weight consolidation), or must stay able to learn (L2-init). Any
    penalty may be the one of the distance: with `GroupLasso` under
    `l2keras.Proximal` whole units stay as they were, exactly. The penalty is

        penalty(sqrt(importance) * (w - start))

    with an importance of 1 unless `l2keras.set_start` gave another, so that
    `L2` pays `l2 * sum importance * (w - start)**2`.

    The start is the weight's value when the penalty is put on, by

        l2keras.apply_regularizers(model, default=FromStart(L2(0.01)))

    or when `l2keras.set_start(model)` is called, which a model needs after it
    was built where `FromStart` is the argument of a layer. It is saved in
    `.keras` files. It is no weight: it is not trained, not counted, and not in
    weight files; `clone_model` makes weights anew, and so leaves it out.

    Reference:
        Li, Grandvalet & Davoine, *Explicit Inductive Bias for Transfer Learning
        with Convolutional Networks*, ICML 2018. Kirkpatrick et al., *Overcoming
        catastrophic forgetting in neural networks*, PNAS 114 (2017). Kumar,
        Marklund & Van Roy, *Maintaining Plasticity in Continual Learning via
        Regenerative Regularization*, 2023.

    Args:
        regularizer: A regularizer, such as `l2keras.L2(0.01)`, which has the
            strength.
        start: `None`, for the weight's own values, or a finite number, such as
            `1.0` for the scales of normalizations. Defaults to `None`.

    Raises:
        TypeError: If `regularizer` is none, or `start` neither a number nor
            `None`.
        ValueError: If `start` is not finite. When called: if there is no start
            yet.

    Example:

    >>> import keras, l2keras
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    >>> pull = l2keras.FromStart(l2keras.L2(0.5))
    >>> done = l2keras.apply_regularizers(model, default=pull)
    >>> float(sum(model.losses))
    0.0
    >>> kernel, bias = model.get_weights()
    >>> model.set_weights([kernel + 1.0, bias])
    >>> round(float(sum(model.losses)), 3)
    6.0
    """

    _holds_regularizers = True

    def __init__(self, regularizer: Any, start: float | None = None) -> None:
        if not callable(regularizer) or isinstance(regularizer, type):
            raise TypeError(
                "Argument `regularizer` must be a regularizer, as an instance "
                "such as `l2keras.L2(0.01)`. "
                f"Received: regularizer={regularizer!r}"
            )
        if any(term.start is not None for term in terms_of(regularizer)):
            raise TypeError(
                "Argument `regularizer` must not have a `FromStart` in it. "
                f"Received: regularizer={regularizer!r}"
            )
        warn_unless_loadable(self)
        self.regularizer = regularizer
        self.start = None if start is None else _checked_start(start)
        self._values: StartValues | None = None
        self._importance: StartValues | None = None

    @property
    def strength(self) -> StrengthLike:
        raise AttributeError(
            "`FromStart` has no strength of its own. Its `regularizer` has one."
        )

    @property
    def terms(self) -> list[Term]:
        return [
            Term(
                f"{term.name}FromStart",
                term.strength.scaled(self._scale),
                functools.partial(self._penalty, term),
                term.regularizer,
                self,
            )
            for term in terms_of(self.regularizer)
        ]

    @property
    def follows_weight(self) -> bool:
        """Whether the start is a value of the weight, and not a number."""
        return self.start is None

    @property
    def states(self) -> list[State]:
        """The states that Keras has to track in compiled steps for it."""
        states = (self._values, self._importance)
        return [state for state in states if state is not None]

    def begin(self, values: Any, dtype: str) -> bool:
        """Sets the start. Returns whether a new state was made for it."""
        return self._set("_values", values, dtype, "start")

    def weigh(self, importance: Any, dtype: str) -> bool:
        """Sets the importance. Returns whether a new state was made."""
        return self._set("_importance", importance, dtype, "importance")

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """The start and the importance, those that there are, by name."""
        return {state.name: state.read() for state in self.states}

    def origin(self) -> Origin:
        """The start and the importance as they are now, in compiled code too.

        Raises:
            ValueError: If there is no start yet.
        """
        if self.start is None and self._values is None:
            raise ValueError(
                "`FromStart` has no start yet. Put it on by "
                "`l2keras.apply_regularizers`, or call "
                "`l2keras.set_start(model)` once the model is built; so also "
                f"after `clone_model`. Received: {self!r}"
            )
        start, importance = (
            None if state is None else ops.convert_to_tensor(state.state)
            for state in (self._values, self._importance)
        )
        return Origin(self.start if start is None else start, importance)

    def _set(self, attribute: str, values: Any, dtype: str, name: str) -> bool:
        state = getattr(self, attribute)
        if state is not None and tuple(state.state.shape) == np.shape(values):
            state.write(values)
            return False
        setattr(self, attribute, StartValues(values, dtype, name))
        return True

    def _penalty(self, term: Term, weights: Tensor) -> Tensor:
        return term.penalty(self.origin().distance(weights))

    def __getstate__(self) -> dict[str, Any]:
        # Copies and pickles take the values of states, not the states.
        state = super().__getstate__()
        for name in ("_values", "_importance"):
            held = state[name]
            if held is not None:
                dtype = keras.backend.standardize_dtype(held.state.dtype)
                state[name] = held.read(), dtype, held.name
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        for name in ("_values", "_importance"):
            if state[name] is not None:
                setattr(self, name, StartValues(*state[name]))


def _checked_start(start: Any) -> float:
    if not _validation.is_number(start):
        raise TypeError(
            "Argument `start` must be a finite number or None. "
            f"Received: start={start!r} (of type {type(start).__name__})"
        )
    number = float(ops.convert_to_numpy(start))
    if not np.isfinite(number):
        raise ValueError(
            "Argument `start` must be a finite number or None. "
            f"Received: start={start!r}"
        )
    return number
