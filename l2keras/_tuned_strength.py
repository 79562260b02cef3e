"""A strength that stands for many: each replica reads its own."""

from typing import Any

import keras

from l2keras import _validation
from l2keras._types import Tensor


class NoValueError(TypeError):
    """Raised when the one value of a strength is asked for that has many."""


class TunedStrength:
    """What `tune_strength` hands to `build_model` in place of a number.

    While replicas are trained together it has the value of the replica that is
    being computed, which under compilation is a symbol for all of them. It can
    be multiplied and divided by numbers.

    Args:
        cell: Where the value is, shared by all that comes of one strength.
        factor: What the value is multiplied by.
    """

    # Else NumPy would take `np.float64(2) * strength` apart.
    __array_ufunc__ = None

    def __init__(self, cell: "Cell", factor: float = 1.0) -> None:
        self.cell = cell
        self.factor = factor

    def __call__(self, step: Tensor) -> Tensor:
        value = keras.ops.convert_to_tensor(self.cell.value, "float32")
        return value if self.factor == 1.0 else value * self.factor

    def __mul__(self, other: Any) -> "TunedStrength":
        factor = _validation.check_number(other, "factor of the strength")
        return TunedStrength(self.cell, self.factor * factor)

    __rmul__ = __mul__

    def __truediv__(self, other: Any) -> "TunedStrength":
        return self * (1.0 / other)

    def __float__(self) -> float:
        raise NoValueError(
            "The strength stands for all the strengths at once, so it has no "
            "value. Multiply it, divide it, and hand it to a regularizer."
        )

    def __bool__(self) -> bool:
        return bool(float(self))

    def __deepcopy__(self, memo: Any) -> "TunedStrength":
        return self

    def __repr__(self) -> str:
        times = "" if self.factor == 1.0 else f"{self.factor:g} * "
        return f"{times}<tuned strength>"


class Cell:
    """Holds the value that a tuned strength has at the moment."""

    value: Any = 0.0
