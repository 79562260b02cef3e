"""Terms, the summands of a regularizer."""

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
        regularizer: The regularizer that has the formula.
        start: The `FromStart` whose start is subtracted from the weights
            before the formula, or `None`.
    """

    name: str
    strength: Strength
    penalty: Callable[[Tensor], Tensor]
    regularizer: Any
    start: Any = None


def checked_penalty(regularizer: Any, weights: Tensor) -> Tensor:
    """The value of `regularizer.penalty(weights)`, in the weights' dtype.

    Raises:
        TypeError: If the formula returns nothing.
        ValueError: If it returns more than one number.
    """
    value = regularizer.penalty(weights)
    if value is None:
        raise TypeError(
            f"`{type(regularizer).__name__}.penalty` must return a number, a "
            "tensor of shape `()` such as `ops.sum(weights)`. Received: None"
        )
    value = cast_like(weights, value)
    # TensorFlow does not know the shapes that Python functions return.
    unknown = getattr(value.shape, "rank", 0) is None
    if not (value.shape == () or unknown):
        path = getattr(weights, "path", "")
        of = f" {path!r}" if path else ""
        raise ValueError(
            f"`{type(regularizer).__name__}.penalty` must return one number, a "
            "tensor of shape `()`, such as `ops.sum(weights)`. Received: shape "
            f"{tuple(value.shape)} for weights{of} of shape "
            f"{tuple(weights.shape)}"
        )
    return value


def cast_like(weights: Tensor, value: Any) -> Tensor:
    """A value as a tensor of the weights' dtype."""
    if getattr(value, "dtype", None) == weights.dtype:
        return value
    return ops.cast(ops.convert_to_tensor(value), weights.dtype)
