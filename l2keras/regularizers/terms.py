"""Terms: what a regularizer is the sum of."""

from collections.abc import Callable
from typing import Any, NamedTuple

from keras import ops

from l2keras._types import Tensor
from l2keras.strengths.strength import Strength


class Term(NamedTuple):
    """A strength and the penalty that it multiplies.

    Attributes:
        name: The name of the class that the formula is of.
        strength: How strongly, with all the scales that apply to it.
        penalty: Function from weights in float32 or float64 to a tensor of
            shape `()`, the penalty at unit strength.
        regularizer: What the formula is of.
    """

    name: str
    strength: Strength
    penalty: Callable[[Tensor], Tensor]
    regularizer: Any


def checked_penalty(regularizer: Any, weights: Tensor) -> Tensor:
    """The value of `regularizer.penalty(weights)`, in the weights' dtype.

    Raises:
        TypeError: If the formula returns nothing.
    """
    value = regularizer.penalty(weights)
    if value is None:
        raise TypeError(
            f"`{type(regularizer).__name__}.penalty` must return a number, a "
            "tensor of shape `()` such as `ops.sum(weights)`. Received: None"
        )
    return cast_like(weights, value)


def cast_like(weights: Tensor, value: Any) -> Tensor:
    """A value as a tensor of the weights' dtype."""
    if getattr(value, "dtype", None) == weights.dtype:
        return value
    return ops.cast(ops.convert_to_tensor(value), weights.dtype)
