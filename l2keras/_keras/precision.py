"""Types of numbers that are wide enough, at no cost where they are so."""

from typing import Any

import keras

from l2keras._types import Tensor


def to_float32(value: Tensor) -> Tensor:
    """Returns `value` as a float32 tensor, at no cost if it is one.

    `ops.cast` returns the tensor then as well, but takes PyTorch, which
    compiles nothing away, as long as an addition.
    """
    if (
        hasattr(value, "dtype")
        and not isinstance(value, keras.Variable)
        and keras.backend.standardize_dtype(value.dtype) == "float32"
    ):
        return value
    return keras.ops.cast(value, "float32")


def as_step(value: Any) -> Tensor:
    """Returns a step as an integer tensor if it is one, and else as float32.

    Float32 holds no integers beyond 2**24 but even ones.
    """
    if isinstance(value, int) and abs(value) >= 2**31:
        return to_float32(value)
    tensor = keras.ops.convert_to_tensor(value)
    if "int" in keras.backend.standardize_dtype(tensor.dtype):
        return tensor
    return to_float32(tensor)


def at_least_float32(value: Tensor) -> Tensor:
    """Returns `value` in a type that sums do not overflow or coarsen."""
    dtype = keras.backend.standardize_dtype(value.dtype)
    if dtype in ("float32", "float64"):
        return value
    return keras.ops.cast(value, "float32")
