"""The proximal step of a whole regularizer: those of its terms, in order.

The step of a sum is not that of its summands one after another, but in the
cases here: terms of the same penalty are one term of the summed strength; and
`L1` first, and then one group penalty, is right whichever thresholds the
weights have. (Yuan, Liu & Ye, *Efficient Methods for Overlapping Group Lasso*,
NeurIPS 2011, show it for one threshold. The signs are those of the weights all
along, as the proof needs.)

Everything here is computed of tensors alone, without a branch on their values,
so that `jax.vmap`, `tf.vectorized_map` and `torch.func.vmap` map it over many
weights, each with thresholds of its own.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from l2keras._keras import precision
from l2keras._types import Tensor
from l2keras.regularizers.axes import AxisRegularizer
from l2keras.regularizers.base import Regularizer, terms_of
from l2keras.regularizers.elementwise import L1
from l2keras.regularizers.from_start import FromStart, Origin
from l2keras.regularizers.grouped import GroupLasso
from l2keras.regularizers.proximal_steps import has_proximal
from l2keras.regularizers.terms import cast_like
from l2keras.strengths.strength import Strength


class ProximalTerm(NamedTuple):
    """A penalty with a proximal step, and the strengths that it has.

    Attributes:
        regularizer: A regularizer with the penalty.
        strengths: One or more, which add up, with all the scales that apply.
        start: The `FromStart` that takes a start off the weights first, or
            `None`.
    """

    regularizer: Regularizer
    strengths: tuple[Strength, ...]
    start: FromStart | None = None

    def step(
        self,
        weights: Tensor,
        threshold: Tensor | float,
        origin: Origin | None = None,
    ) -> Tensor:
        """The weights after the step.

        Args:
            weights: Tensor in float32 or float64.
            threshold: The sum of the strengths, times the step's length.
            origin: That of `start`, where it has been read before.

        Raises:
            TypeError: If the regularizer's formula returns nothing.
            ValueError: If it returns something of another shape.
        """
        if self.start is None:
            return self._step(weights, threshold)
        origin = origin or self.start.origin()
        return origin.step(weights, threshold, self._step)

    def _step(self, weights: Tensor, threshold: Tensor | float) -> Tensor:
        value = self.regularizer.proximal(weights, threshold)
        name = f"`{type(self.regularizer).__name__}.proximal`"
        if value is None:
            raise TypeError(f"{name} must return the weights after the step.")
        value = cast_like(weights, value)
        if tuple(value.shape) != tuple(weights.shape):
            raise ValueError(
                f"{name} must return the weights after the step, in their "
                f"shape. Received: shape {tuple(value.shape)} for weights of "
                f"shape {tuple(weights.shape)}"
            )
        return value


def proximal_terms(
    regularizer: Any, shape: Sequence[int]
) -> list[ProximalTerm]:
    """The terms that take proximal steps, in the order of the steps.

    Smooth ones, such as `L2`, are not among them, and none whose strength is
    zero for good.

    Args:
        regularizer: A regularizer of weights, or `None`.
        shape: The shape of the weights.

    Raises:
        ValueError: If there is no step for the sum of them, or one is Keras's
            own `L1` or `L1L2`.
    """
    found: list[ProximalTerm] = []
    for term in terms_of(regularizer):
        _check_not_of_keras(term.regularizer)
        if not has_proximal(term) or term.strength.is_zero:
            continue
        for index, other in enumerate(found):
            if term.start is other.start and _is_same_penalty(
                term.regularizer, other.regularizer, shape
            ):
                strengths = (*other.strengths, term.strength)
                found[index] = other._replace(strengths=strengths)
                break
        else:
            found.append(
                ProximalTerm(term.regularizer, (term.strength,), term.start)
            )
    found.sort(key=lambda term: not _is_l1(term.regularizer))
    _check_one_start(regularizer, found)
    _check_sum([term.regularizer for term in found])
    return found


def stepped(
    terms: Sequence[ProximalTerm],
    weights: Tensor,
    thresholds: Iterable[Tensor],
    origins: Iterable[Origin | None] | None = None,
) -> Tensor:
    """The weights after the steps of all terms, each with its threshold.

    Args:
        terms: The terms.
        weights: The weights before.
        thresholds: A threshold for each term.
        origins: The origins of the terms' starts, where they were read before.
    """
    wide = precision.at_least_float32(weights)
    for term, threshold, origin in zip(
        terms, thresholds, origins or [None] * len(terms), strict=True
    ):
        wide = term.step(wide, ops.cast(threshold, wide.dtype), origin)
    return ops.cast(wide, weights.dtype)


def _is_l1(regularizer: Regularizer) -> bool:
    return type(regularizer).proximal is L1.proximal


def _is_groups(regularizer: Regularizer) -> bool:
    return type(regularizer).proximal is GroupLasso.proximal


def _is_same_penalty(
    one: Regularizer, other: Regularizer, shape: Sequence[int]
) -> bool:
    """Tells whether two penalties are the same at unit strength."""
    if _is_l1(one) and _is_l1(other):
        return True
    mine, others = _arguments(one, shape), _arguments(other, shape)
    return (
        type(one) is type(other)
        and mine.keys() == others.keys()
        and all(np.array_equal(mine[name], others[name]) for name in mine)
    )


def _arguments(
    regularizer: Regularizer, shape: Sequence[int]
) -> dict[str, Any]:
    """The attributes of a regularizer but for those of its strength."""
    found = dict(vars(regularizer))
    for name in ("_strength", "_scale"):
        found.pop(name, None)
    if isinstance(regularizer, AxisRegularizer):
        found["axis"] = regularizer.named_axes(shape)
    return found


def _check_not_of_keras(regularizer: Any) -> None:
    kind = type(regularizer)
    if kind not in (keras.regularizers.L1, keras.regularizers.L1L2):
        return
    arguments = {
        # Numbers, or tensors where Keras has them so.
        name: float(f"{float(ops.convert_to_numpy(value)):.6g}")
        for name, value in vars(regularizer).items()
        if name in ("l1", "l2")
    }
    if arguments["l1"] == 0:
        return
    own = ", ".join(f"{name}={value}" for name, value in arguments.items())
    raise ValueError(
        f"Keras's own `{kind.__name__}` has no proximal step: Keras takes its "
        f"gradient always. Use `l2keras.{kind.__name__}({own})` instead, as "
        "`kernel_regularizer=` of the layer, or, on a model that is built, by "
        "`l2keras.apply_regularizers`."
    )


def _check_one_start(regularizer: Any, terms: list[ProximalTerm]) -> None:
    if len({id(term.start) for term in terms}) > 1:
        raise ValueError(
            "There is no proximal step for a sum of penalties some of which "
            "are of the weights, and others of their distance from a start. "
            "Put all that make zeros into one `FromStart`, or none. "
            f"Received: {regularizer!r}"
        )


def _check_sum(regularizers: list[Regularizer]) -> None:
    groups = [each for each in regularizers if _is_groups(each)]
    others = [each for each in regularizers if not _is_l1(each)]
    if len(others) < 2 and len(groups) == len(others):
        return  # `L1`, if it is there, and one `GroupLasso`.
    if len(regularizers) == 1:
        return
    if len(groups) == len(others):
        problem = (
            "A weight must not be in groups of two kinds: there is no proximal "
            "step for both at once. Give them the same `axis` and "
            "`scale_by_size`, or keep one of them."
        )
    else:
        problem = (
            "The proximal step of a sum is known for `L1` and one `GroupLasso` "
            "only. Write a regularizer with the penalty and the proximal step "
            "of the sum, or keep one of them."
        )
    received = " + ".join(map(repr, regularizers))
    raise ValueError(f"{problem} Received: {received}")
