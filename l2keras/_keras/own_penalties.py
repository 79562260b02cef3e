"""What Keras's own `L1` and `L1L2` return.

Keras calls them itself and passes l2keras by. Python looks `__call__` up on the
class, so it is replaced there, once in a process.
"""

import functools
from collections.abc import Callable
from typing import Any, TypeAlias

import keras

from l2keras._types import Tensor

Call: TypeAlias = Callable[[Any, Tensor], Tensor]


def replace(instead: Callable[[Call, Any, Tensor], Tensor]) -> None:
    """Has Keras's own `L1` and `L1L2` return what a function does.

    It is called with what Keras calls, the regularizer, and the weights.
    """
    for kind in (keras.regularizers.L1, keras.regularizers.L1L2):
        original = kind.__call__
        if not hasattr(original, "__wrapped__"):
            kind.__call__ = _replaced(original, instead)


def _replaced(
    original: Call, instead: Callable[[Call, Any, Tensor], Tensor]
) -> Call:
    @functools.wraps(original)
    def call(regularizer: Any, x: Tensor) -> Tensor:
        return instead(original, regularizer, x)

    return call
