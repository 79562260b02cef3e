"""Warnings of proximal steps that have no effect, or do harm."""

import warnings
from collections.abc import Callable

import keras
from keras import ops

from l2keras._types import Tensor
from l2keras.weights.normalized import normalized_kernels
from l2keras.weights.paths import Weight

# How often a training is doubled to find how long it would have to be.
_MOST_DOUBLINGS = 30


def warn_of_normalized(model: keras.Model, weights: list[Weight]) -> None:
    """Warns of kernels whose scale a batch normalization cancels."""
    found = normalized_kernels(model, weights)
    if found:
        weight, gamma = found[0]
        kernels = ", ".join(repr(kernel.path) for kernel, _ in found)
        warnings.warn(
            f"A batch normalization follows straight after {kernels}, and "
            "cancels the scale of the kernel: a penalty makes it smaller at no "
            "cost to the data loss, until whole units are zero, needed ones "
            "too. "
            f"Penalize its scale instead: `{gamma}` in place of "
            f"{weight.path!r}, by `BatchNormalization(gamma_regularizer="
            "l2keras.L1(...))`, which switches off the same units.",
            stacklevel=2,
        )


def warn_if_nothing_is_zero(
    path: str,
    weights: Tensor,
    stepped: Callable[[Tensor, float], Tensor],
    updates: int,
) -> None:
    """Warns if the steps of a training were too short for any zero.

    That is, if no weight is zero, nor would be if all steps were taken at once.
    Weights that are not finite, as after a training that diverged, have no
    zeros for other reasons.

    Args:
        path: The path of the weights.
        weights: Their values.
        stepped: Function from weights, and the number of steps to take at
            once, to the weights after them.
        updates: The number of steps of the training.
    """

    def some_are_zero(values: Tensor) -> bool:
        return bool((ops.convert_to_numpy(values) == 0).any())

    if not bool(ops.convert_to_numpy(ops.all(ops.isfinite(weights)))):
        return
    if some_are_zero(weights) or some_are_zero(stepped(weights, updates)):
        return
    longer = next(
        (
            f"about {2**power:,}x"
            for power in range(1, _MOST_DOUBLINGS)
            if some_are_zero(stepped(weights, updates * 2.0**power))
        ),
        f"more than {2**_MOST_DOUBLINGS:,}x",
    )
    warnings.warn(
        f"No weight of {path!r} is zero: the sum of the thresholds of "
        f"{updates:,} proximal steps is {longer} too small. Train longer, or "
        "raise the strength or the learning rate.",
        stacklevel=2,
    )
