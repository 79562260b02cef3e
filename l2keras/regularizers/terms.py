"""Terms: what a regularizer is the sum of."""

from collections.abc import Callable
from typing import Any, NamedTuple

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
