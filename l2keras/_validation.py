"""Checks of arguments: each message has the condition and the value."""

import math
import numbers
from typing import Any

import keras
import numpy as np


def is_number(value: Any) -> bool:
    """Tells whether `value` is one real number: Python's, NumPy's, or 0-d."""
    if isinstance(value, bool | np.bool_ | type):
        return False
    if isinstance(value, numbers.Real):
        return True
    # Tensors and variables of every backend, and NumPy's 0-d arrays.
    if getattr(value, "shape", None) is None or tuple(value.shape) != ():
        return False
    try:
        dtype = keras.backend.standardize_dtype(value.dtype)
    except ValueError:  # Strings and objects, in arrays.
        return False
    return dtype.startswith(("float", "bfloat", "int", "uint"))


def check_number(value: Any, name: str, kind: str = "") -> float:
    """Returns `value` as a Python float if it is finite and >= 0.

    Args:
        value: The value of the argument.
        name: The argument's name, for the message.
        kind: Further kinds that are allowed, such as `" or a schedule"`.

    Raises:
        TypeError: If `value` is not a real number.
        ValueError: If it is negative, infinite or NaN.
    """
    message = (
        f"Argument `{name}` must be a finite number >= 0{kind}. "
        f"Received: {name}={value!r}"
    )
    if not is_number(value):
        raise TypeError(f"{message} (of type {type(value).__name__})")
    try:
        number = float(
            value
            if isinstance(value, numbers.Real)
            else keras.ops.convert_to_numpy(value)
        )
    except OverflowError:  # An integer beyond all floats.
        raise ValueError(message) from None
    if not math.isfinite(number) or number < 0:
        raise ValueError(message)
    return number


def check_positive(value: Any, name: str) -> float:
    """Returns `value` as a Python float if it is finite and > 0.

    Raises:
        TypeError: If `value` is not a real number.
        ValueError: If it is zero, negative, infinite or NaN.
    """
    try:
        number = check_number(value, name)
    except (TypeError, ValueError) as error:
        raise type(error)(str(error).replace(">= 0", "> 0", 1)) from None
    if number == 0.0:
        raise ValueError(
            f"Argument `{name}` must be a finite number > 0. "
            f"Received: {name}={value!r}"
        )
    return number


# Optimizers count in 32 bits on JAX and PyTorch.
LAST_STEP = 2**31 - 1


def check_step(value: Any, name: str, minimum: int = 0) -> int:
    """Returns `value` as a Python int if it is a step that can be counted to.

    Raises:
        TypeError: If `value` is not a number.
        ValueError: If it is too small or too large or has a fraction.
    """
    step = check_integer(value, name, minimum)
    if step > LAST_STEP:
        raise ValueError(
            f"Argument `{name}` must be less than 2**31, since optimizers "
            f"count no further. Received: {name}={value!r}"
        )
    return step


def check_integer(value: Any, name: str, minimum: int) -> int:
    """Returns `value` as a Python int if it is a whole number >= `minimum`.

    Raises:
        TypeError: If `value` is not a number.
        ValueError: If it is too small or has a fraction.
    """
    # Not before it is needed: Keras 3.10 cannot print a mirrored variable.
    message = "Argument `{0}` must be an integer >= {1}. Received: {0}={2!r}"
    if not is_number(value):
        kind = type(value).__name__
        raise TypeError(
            f"{message.format(name, minimum, value)} (of type {kind})"
        )
    number = float(keras.ops.convert_to_numpy(value))
    if not number.is_integer() or number < minimum:
        raise ValueError(message.format(name, minimum, value))
    return int(number)
