"""The proximal step of a whole regularizer: those of its terms, in order.

The step of a sum is not that of its summands one after another, but in the
cases here: several `L1` are one; and `L1` first, and then one group penalty,
is right whichever thresholds the weights have. (Yuan, Liu & Ye, *Efficient
Methods for Overlapping Group Lasso*, NeurIPS 2011, show it for one threshold.
The signs are those of the weights all along, which is what the proof needs.)
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import keras
from keras import ops

from l2keras._types import Tensor
from l2keras.regularizers import formulas
from l2keras.regularizers.base import Regularizer, terms_of
from l2keras.regularizers.elementwise import L1
from l2keras.regularizers.grouped import GroupLasso
from l2keras.strengths.strength import Strength

_l1 = L1()


class ProximalTerm(NamedTuple):
    """A strength, and the proximal step that it makes longer.

    Attributes:
        strength: How strongly, with all the scales that apply to it.
        step: Function from weights, in float32 or float64, and threshold, to
            the weights after the step.
        regularizer: What it is the step of.
    """

    strength: Strength
    step: Callable[[Tensor, Tensor | float], Tensor]
    regularizer: Any


def proximal_terms(regularizer: Any) -> list[ProximalTerm]:
    """Returns the terms that have a proximal step, in the order of the steps.

    Smooth ones, such as `L2`, are not among them.

    Raises:
        ValueError: If there is no step for the sum of them.
    """
    first: list[ProximalTerm] = []
    then: list[ProximalTerm] = []
    for term in terms_of(regularizer):
        kind = type(term.regularizer)
        if kind in (keras.regularizers.L1, keras.regularizers.L1L2):
            # A number, or a tensor where Keras has it so.
            l1 = float(ops.convert_to_numpy(term.regularizer.l1))
            first.append(
                ProximalTerm(
                    term.strength.scaled(l1),
                    _l1.proximal,
                    term.regularizer,
                )
            )
        elif isinstance(term.regularizer, Regularizer) and (
            term.regularizer.has_proximal
        ):
            (first if kind.proximal is L1.proximal else then).append(
                ProximalTerm(
                    term.strength,
                    functools.partial(formulas.proximal, term.regularizer),
                    term.regularizer,
                )
            )
    _check_sum([each for each in first if not each.strength.is_zero], then)
    return first + then


def _check_sum(first: list[ProximalTerm], then: list[ProximalTerm]) -> None:
    kinds = [type(each.regularizer) for each in then]
    if len(then) > 1 and all(
        kind.proximal is GroupLasso.proximal for kind in kinds
    ):
        raise ValueError(
            "A weight must not be in groups of two kinds, which overlap: there "
            "is no proximal step for both at once. Keep one of them. Received: "
            f"{' + '.join(repr(each.regularizer) for each in then)}"
        )
    if len(then) > 1 or (
        first and then and kinds[0].proximal is not GroupLasso.proximal
    ):
        raise ValueError(
            "The proximal step of a sum is known for `L1` and one `GroupLasso` "
            "only. Write a regularizer with the penalty and the proximal step "
            "of the sum, or keep one of them. Received: "
            f"{' + '.join(repr(each.regularizer) for each in first + then)}"
        )
