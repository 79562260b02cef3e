"""Where proximal steps do not do what one hopes for."""

import warnings
from collections.abc import Callable

import keras
from keras import ops

from l2keras._types import Tensor
from l2keras.weights.normalized import normalized_kernels
from l2keras.weights.paths import Weight

# As much longer as it is asked whether a training would have to be.
_MOST_DOUBLINGS = 30


def warn_of_normalized(model: keras.Model, weights: list[Weight]) -> None:
    """Warns of kernels that proximal steps make small at no price."""
    found = normalized_kernels(model, weights)
    if found:
        weight, gamma = found[0]
        kernels = ", ".join(repr(each.path) for each, _ in found)
        warnings.warn(
            f"A batch normalization follows straight after {kernels}, and "
            "takes back what a penalty makes smaller there: the data loss "
            "does not notice until whole units are zero, needed ones too. "
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

    That is, if nothing is zero, nor would be if all steps were taken at once.
    Weights that are not finite, as where a training diverged, have no zeros for
    other reasons.

    Args:
        path: Of the weights.
        weights: Their values.
        stepped: Function from weights, and the number of steps to take at
            once, to the weights after them.
        updates: How many steps there were.
    """

    def some_are_zero(values: Tensor) -> bool:
        return bool((ops.convert_to_numpy(values) == 0).any())

    if not bool(ops.convert_to_numpy(ops.all(ops.isfinite(weights)))):
        return
    if some_are_zero(weights) or some_are_zero(stepped(weights, updates)):
        return
    longer = next(
        (
            f"about {2**power:,} times"
            for power in range(1, _MOST_DOUBLINGS)
            if some_are_zero(stepped(weights, updates * 2.0**power))
        ),
        f"more than {2**_MOST_DOUBLINGS:,} times",
    )
    warnings.warn(
        f"Nothing in {path!r} is zero, and the penalty was too weak for it: "
        f"{updates:,} proximal steps as long as these were take nothing to "
        f"zero, {longer} as many would. Train longer, or with a larger "
        "strength or learning rate.",
        stacklevel=2,
    )
