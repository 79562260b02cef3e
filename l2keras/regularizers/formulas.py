"""What the formulas of a regularizer return, which may be a stranger's."""

from typing import Any

from keras import ops

from l2keras._types import Tensor


def penalty(regularizer: Any, weights: Tensor) -> Tensor:
    """Returns `regularizer.penalty(weights)` in the type of the weights.

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
    value = _like(weights, value)
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


def proximal(
    regularizer: Any, weights: Tensor, threshold: Tensor | float
) -> Tensor:
    """Returns `regularizer.proximal(weights, threshold)`, in the same type.

    Raises:
        TypeError: If the formula returns nothing.
        ValueError: If it returns something of another shape.
    """
    value = regularizer.proximal(weights, threshold)
    name = f"`{type(regularizer).__name__}.proximal`"
    if value is None:
        raise TypeError(f"{name} must return the weights after the step.")
    value = _like(weights, value)
    if tuple(value.shape) != tuple(weights.shape):
        raise ValueError(
            f"{name} must return the weights after the step, in their shape. "
            f"Received: shape {tuple(value.shape)} for weights of shape "
            f"{tuple(weights.shape)}"
        )
    return value


def _like(weights: Tensor, value: Any) -> Tensor:
    """Returns a value as a tensor of the weights' type."""
    if getattr(value, "dtype", None) == weights.dtype:
        return value
    return ops.cast(ops.convert_to_tensor(value), weights.dtype)
