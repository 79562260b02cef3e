"""Penalties of groups of weights, which go to zero together."""

from collections.abc import Sequence

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
    A group that is all zero has gradient zero.

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
        axes = self.axis if isinstance(self.axis, list) else [self.axis]
        ndim = len(weights.shape)
        if not all(-ndim <= axis < ndim for axis in axes):
            raise ValueError(
                f"{self!r} needs weights that have axis {self.axis}. "
                f"Received: weights of shape {tuple(weights.shape)}"
            )
        kept = {axis % ndim for axis in axes}
        rest = tuple(axis for axis in range(ndim) if axis not in kept)
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
