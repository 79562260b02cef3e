"""A strength that stands for many: each replica reads its own."""

from typing import Any

import keras
import numpy as np

from l2keras import _validation
from l2keras._types import Tensor
from l2keras.strengths.strength import Strength


class NoValueError(TypeError):
    """Raised when the one value of a strength is asked for that has many."""


class TunedStrength(Strength):
    """What a search hands to `build_model` in place of a number.

    While replicas are trained together it has the value of the replica that is
    being computed, which under compilation is a symbol for all of them. It can
    be multiplied and divided by numbers.

    Args:
        cell: Where the value is, shared by all that comes of one strength.
        factor: What the value is multiplied by.
    """

    def __init__(self, cell: "Cell", factor: float = 1.0) -> None:
        super().__init__(factor, "strength")
        self.cell = cell
        self.factor = factor
        self.value = self  # As it was given: it has no number.

    @property
    def is_scheduled(self) -> bool:
        return False

    @property
    def is_zero(self) -> bool:
        return any(each is not self and each == 0.0 for each in self.scales)

    def _unscaled(self, step: Tensor) -> Tensor:
        value = keras.ops.convert_to_tensor(self.cell.value, "float32")
        return value if self.factor == 1.0 else value * self.factor

    def _reading(self, weights: Any) -> tuple[Tensor, None]:
        return self.at(0), None

    def __mul__(self, other: Any) -> "TunedStrength":
        try:
            factor = _validation.check_number(other, "factor")
        except (TypeError, ValueError) as error:
            raise type(error)(
                "A strength can be multiplied and divided by finite numbers "
                f">= 0 only. Received: {other!r}"
            ) from None
        return TunedStrength(self.cell, self.factor * factor)

    __rmul__ = __mul__

    def __truediv__(self, other: Any) -> "TunedStrength":
        return self * (1.0 / other)

    def __array_ufunc__(
        self, ufunc: Any, method: str, *inputs: Any, **options: Any
    ) -> "TunedStrength":
        # NumPy asks for this, as in `np.float64(2) * strength`.
        others = [each for each in inputs if each is not self]
        if ufunc is np.multiply and method == "__call__" and len(others) == 1:
            return self * others[0]
        return self._refuse()

    def _refuse(self, *args: Any) -> Any:
        raise NoValueError(
            "The strength stands for all the strengths at once, so it has no "
            "value. Multiply it, divide it, and hand it to a regularizer."
        )

    # Whatever else could be done with a number.
    __float__ = __int__ = __bool__ = __index__ = _refuse
    __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = _refuse
    __add__ = __radd__ = __sub__ = __rsub__ = __pow__ = __rpow__ = _refuse
    __rtruediv__ = __floordiv__ = __mod__ = __neg__ = __abs__ = _refuse
    __format__ = _refuse

    def __hash__(self) -> int:
        return id(self)

    def __deepcopy__(self, memo: Any) -> "TunedStrength":
        return self.scaled()

    def __repr__(self) -> str:
        times = "" if self.factor == 1.0 else f"{self.factor:g} * "
        key = "" if self.cell.key is None else f" {self.cell.key!r}"
        return f"{times}<tuned strength{key}>"


class Cell:
    """Holds the value that a tuned strength has at the moment.

    Args:
        key: By what `build_model` asks for it, `None` if there is but one.
    """

    def __init__(self, key: str | None = None) -> None:
        self.key = key
        self.value: Any = 0.0
