"""What Keras's own `L1` and `L1L2` return.

Keras calls them itself and passes l2keras by. Python looks `__call__` up on the
class, so it is replaced there, once in a process.
"""

import functools
from collections.abc import Callable
from typing import Any, TypeAlias

import keras

from l2keras._types import Tensor

# What is to be returned for a regularizer and its weights: `None` for what
# Keras returns.
Instead: TypeAlias = Callable[[Any, Tensor], Tensor | None]


def replace(instead: Instead) -> None:
    """Has Keras's own `L1` and `L1L2` return what a function does."""
    for kind in (keras.regularizers.L1, keras.regularizers.L1L2):
        original = kind.__call__
        if not hasattr(original, "__wrapped__"):
            kind.__call__ = _replaced(original, instead)


def _replaced(
    original: Callable[[Any, Tensor], Tensor], instead: Instead
) -> Callable[[Any, Tensor], Tensor]:
    @functools.wraps(original)
    def call(regularizer: Any, x: Tensor) -> Tensor:
        value = instead(regularizer, x)
        return original(regularizer, x) if value is None else value

    return call
