"""Penalties of groups of weights, which go to zero together."""

import math
from collections.abc import Callable, Sequence

import keras
import numpy as np
from keras import ops

from l2keras._types import StrengthLike, Tensor
from l2keras.regularizers.base import Regularizer


@keras.saving.register_keras_serializable(package="l2keras")
class GroupLasso(Regularizer):
    """Pushes whole groups of weights to zero together.

    The weights with the same index along `axis` are one group. For a `Dense`
    kernel of shape `(inputs, units)` the default groups are the weights into
    each unit, so that units, not single weights, are switched off; `axis=0`
    switches off inputs. The penalty is

        strength * sum_g c_g * ||w_g||_2

    where `c_g` is 1, or with `scale_by_size=True` the square root of the number
    of weights in the group, which makes groups of different layers comparable.
    A group that is all zero has gradient zero. No group comes to be so by the
    gradient: for zeros that are exact train with `l2keras.Proximal`.

    Reference:
        Yuan & Lin, *Model selection and estimation in regression with grouped
        variables*, JRSS B 68 (2006): there with `scale_by_size=True`.

    Args:
        strength: Finite number >= 0, or a schedule. Defaults to `0.01`.
        axis: Integer or list of integers: the axes whose indices name the
            groups. Defaults to `-1`.
        scale_by_size: Boolean, whether to weight each group by the square root
            of its size. Defaults to `False`.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If `strength` is negative or not finite, or a schedule that
            returns such a number, or one that Keras cannot save. When called:
            if the weights have no axis `axis`.

    Example:

    >>> kernel = ops.array([[3.0, 0.0], [4.0, 0.0]])
    >>> float(GroupLasso(0.5)(kernel)), float(GroupLasso(0.5, axis=0)(kernel))
    (2.5, 3.5)
    """

    def __init__(
        self,
        strength: StrengthLike = 0.01,
        axis: int | Sequence[int] = -1,
        scale_by_size: bool = False,
    ) -> None:
        super().__init__(strength)
        axes = axis if isinstance(axis, list | tuple) else [axis]
        if not axes or not all(
            isinstance(each, int | np.integer) and not isinstance(each, bool)
            for each in axes
        ):
            raise TypeError(
                "Argument `axis` must be an integer or a list of integers. "
                f"Received: axis={axis!r}"
            )
        if not isinstance(scale_by_size, bool):
            raise TypeError(
                "Argument `scale_by_size` must be a boolean. "
                f"Received: scale_by_size={scale_by_size!r}"
            )
        whole: list[int] = [int(each) for each in axes]  # type: ignore[arg-type]
        self.axis: int | list[int] = (
            whole if isinstance(axis, list | tuple) else whole[0]
        )
        self.scale_by_size = scale_by_size

    def penalty(self, weights: Tensor) -> Tensor:
        rest = self._summed_axes(weights)
        squares = (
            ops.sum(ops.square(weights), axis=rest)
            if rest
            else (ops.square(weights))
        )
        # The slope of the square root at 0 is infinite, and infinity times
        # zero is NaN: the root is taken of 1 there, and the result not used.
        some = squares > 0
        norms = ops.where(some, ops.sqrt(ops.where(some, squares, 1.0)), 0.0)
        total = ops.sum(norms)
        if self.scale_by_size:
            groups = ops.maximum(ops.size(norms), 1)
            size = ops.cast(ops.size(weights), total.dtype)
            total = total * ops.sqrt(size / ops.cast(groups, total.dtype))
        return total

    def proximal(self, weights: Tensor, threshold: Tensor | float) -> Tensor:
        """Returns `argmin_u sum (u - w)**2 / (2 t) + sum_g c_g ||u_g||_2`.

        With one threshold `t` for all weights a group of norm `n` is multiplied
        by `max(1 - c t / n, 0)`. With one for each weight it is zero if
        `||w / t|| <= c`, and else

            u_i = w_i s / (s + c t_i)

        where `s`, the norm of `u`, solves `sum (w_i / (s + c t_i))**2 = 1`.
        """
        rest = self._summed_axes(weights)
        if self.scale_by_size:
            threshold = (
                threshold
                * math.prod(weights.shape[axis] for axis in rest) ** 0.5
            )

        def total(values: Tensor) -> Tensor:
            return ops.sum(values, axis=rest, keepdims=True) if rest else values

        if len(getattr(threshold, "shape", ())) == 0:
            norm = ops.sqrt(total(ops.square(weights)))
            # Asked so that what is not a number stays so: a training that
            # diverges must not look like one that found zeros.
            off = norm <= threshold
            return ops.where(
                off,
                0.0,
                weights * (1 - threshold / ops.where(off, 1.0, norm)),
            )
        return _group_proximal(weights, threshold, total)

    def group_axes(self, shape: Sequence[int]) -> frozenset[int]:
        """The axes whose indices name the groups, counted from the first.

        Args:
            shape: The shape of the weights.

        Raises:
            ValueError: If they have no axis `axis`.
        """
        axes = self.axis if isinstance(self.axis, list) else [self.axis]
        ndim = len(shape)
        if not all(-ndim <= axis < ndim for axis in axes):
            raise ValueError(
                f"{self!r} needs weights that have axis {self.axis}. "
                f"Received: weights of shape {tuple(shape)}"
            )
        return frozenset(axis % ndim for axis in axes)

    def _summed_axes(self, weights: Tensor) -> tuple[int, ...]:
        """The axes of the weights that run inside of a group."""
        kept = self.group_axes(weights.shape)
        axes = range(len(weights.shape))
        return tuple(axis for axis in axes if axis not in kept)


# So small that float32 still holds the inverse, and so large that it holds no
# larger square.
_TINY, _HUGE = 1e-30, 1e38

# After these the norm of a group is right to a millionth where the thresholds
# in it are apart by factors of a hundred; the zeros are exact without them.
_NEWTON_STEPS = 4


def _group_proximal(
    weights: Tensor, thresholds: Tensor, total: Callable[[Tensor], Tensor]
) -> Tensor:
    """Returns the proximal step of groups whose weights have thresholds each.

    The norm `s` is found by Newton's method on `1 / sqrt(F(s)) - 1`, which is
    concave and nearly straight, `F` being the sum that must be 1. So a start
    below the root stays below it and climbs.

    Args:
        weights: Tensor of any shape.
        thresholds: Tensor >= 0 of the same shape.
        total: Sums over each group.
    """
    thresholds = ops.maximum(thresholds, _TINY)

    def newton(s: Tensor | float) -> tuple[Tensor, Tensor]:
        """Returns `F` and the step to the next `s`."""
        inverse = 1 / (s + thresholds)
        parts = ops.square(weights * inverse)
        value = ops.maximum(total(parts), _TINY)
        slope = ops.maximum(total(parts * inverse), _TINY)
        return value, value * (ops.sqrt(value) - 1) / slope

    # Two bounds from below: Newton's first step from zero, good for groups that
    # are nearly off; and by Jensen's inequality the norm less the thresholds'
    # mean, good for those that are far from it.
    at_zero, s = newton(0.0)
    off = at_zero <= 1
    s = ops.where(at_zero < _HUGE, s, 0.0)
    squares = ops.square(weights)
    square = ops.maximum(total(squares), _TINY)
    mean = total(squares * thresholds) / square
    s = ops.maximum(ops.maximum(s, ops.sqrt(square) - mean), 0.0)
    for _ in range(_NEWTON_STEPS):
        s = s + ops.maximum(newton(s)[1], 0.0)
    return ops.where(off, 0.0, weights * (s / (s + thresholds)))
