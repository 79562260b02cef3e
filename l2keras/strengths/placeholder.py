"""The placeholder that a search hands to `build_model` in place of a number."""

import weakref
from typing import Any, Self

import keras
import numpy as np
from keras import ops

from l2keras import _validation
from l2keras._keras.tracked_state import State
from l2keras._types import Tensor
from l2keras.strengths.strength import Strength


class NoValueError(TypeError):
    """Raised when the number behind a placeholder is asked for."""


class StrengthVariable(State):
    """The variable that a placeholder reads: one number, set from outside.

    Args:
        key: The name by which `build_model` finds the strength, `None` if there
            is only one.
    """

    def __init__(self, key: str | None = None) -> None:
        super().__init__(0.0, dtype="float32", name="strength")
        self.key = key
        _variables[id(self)] = self


# For layers that make others from their config, such as `Bidirectional`.
_variables: weakref.WeakValueDictionary[int, StrengthVariable] = (
    weakref.WeakValueDictionary()
)


@keras.saving.register_keras_serializable(package="l2keras")
class PlaceholderStrength(Strength):
    """A strength whose number is in a variable of the model.

    With it one compiled model serves all the strengths of a search. It can be
    multiplied and divided by numbers, multiplied by schedules of l2keras, and
    be given to them, to regularizers and to `DecoupledWeightDecay`.

    Args:
        variable: Holds the number.
        factor: Multiplies it.
    """

    def __init__(self, variable: StrengthVariable, factor: float = 1.0) -> None:
        super().__init__(factor, "strength")
        self.variable = variable
        self.factor = factor
        self.value = self  # As it was given: it has no number.

    @property
    def is_scheduled(self) -> bool:
        return False

    @property
    def is_zero(self) -> bool:
        return 0.0 in self.scales

    @property
    def placeholders(self) -> list["PlaceholderStrength"]:
        return [self]

    def _unscaled(self, step: Tensor) -> Tensor:
        value = ops.convert_to_tensor(self.variable.state)
        return value if self.factor == 1.0 else value * self.factor

    def __mul__(self, other: Any) -> "PlaceholderStrength":
        if getattr(other, "counts_in_integers", False):
            return NotImplemented  # A schedule of l2keras makes the product.
        try:
            factor = _validation.check_number(other, "factor")
        except (TypeError, ValueError) as error:
            raise type(error)(
                "A strength can be multiplied and divided by finite numbers "
                ">= 0, and multiplied by schedules of l2keras. "
                f"Received: {other!r}"
            ) from None
        return PlaceholderStrength(self.variable, self.factor * factor)

    __rmul__ = __mul__

    def __truediv__(self, other: Any) -> "PlaceholderStrength":
        return self * (1.0 / other)

    def __array_ufunc__(
        self, ufunc: Any, method: str, *inputs: Any, **options: Any
    ) -> "PlaceholderStrength":
        # NumPy asks for this, as in `np.float64(2) * strength`.
        others = [other for other in inputs if other is not self]
        if ufunc is np.multiply and method == "__call__" and len(others) == 1:
            return self * others[0]
        return self._refuse()

    def _refuse(self, *args: Any) -> Any:
        raise NoValueError(
            "The strength is a placeholder for all the strengths of a search, "
            "so it has no value. Multiply it, divide it, and hand it to a "
            "regularizer."
        )

    # All else that could be done with a number.
    __float__ = __int__ = __bool__ = __index__ = __complex__ = _refuse
    __round__ = __trunc__ = __floor__ = __ceil__ = _refuse
    __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = _refuse
    __add__ = __radd__ = __sub__ = __rsub__ = __pow__ = __rpow__ = _refuse
    __rtruediv__ = __floordiv__ = __mod__ = __neg__ = __pos__ = __abs__ = (
        _refuse
    )
    __rfloordiv__ = __rmod__ = __divmod__ = __rdivmod__ = _refuse
    __format__ = _refuse

    def __hash__(self) -> int:
        return id(self)

    def __deepcopy__(self, memo: Any) -> "PlaceholderStrength":
        return self.scaled()

    def get_config(self) -> dict[str, Any]:
        """The config, in which a number names the variable in this process."""
        return {"variable": id(self.variable), "factor": self.factor}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Another placeholder of the same variable.

        Raises:
            ValueError: If the search is over.
        """
        variable = _variables.get(config["variable"])
        if variable is None:
            raise ValueError(
                "A model of a search holds a placeholder for its strength and "
                "cannot be loaded. Build the model to save with a number: "
                "`build_model(result.best_strength)`."
            )
        return cls(variable, config["factor"])

    def __repr__(self) -> str:
        times = "" if self.factor == 1.0 else f"{self.factor:g} * "
        key = "" if self.variable.key is None else f" {self.variable.key!r}"
        return f"{times}<strength{key} of a search>"


def check_number_or_placeholder(
    value: Any, name: str
) -> float | PlaceholderStrength:
    """A finite number >= 0 as a float, a placeholder as it is."""
    if isinstance(value, PlaceholderStrength):
        return value
    return _validation.check_number(value, name)
