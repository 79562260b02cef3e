"""Axes that a penalty is told of: whose indices name groups, or columns."""

import math
from collections.abc import Sequence

import numpy as np
from keras import ops

from l2keras._types import StrengthLike, Tensor
from l2keras.regularizers.base import Regularizer


class AxisRegularizer(Regularizer):
    """Base of the regularizers that take an `axis`.

    Args:
        strength: Finite number >= 0, or a schedule.
        axis: Integer or list of integers.

    Attributes:
        axis: As given, of Python's integers.
    """

    def __init__(
        self, strength: StrengthLike = 0.01, axis: int | Sequence[int] = -1
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
        whole: list[int] = [int(each) for each in axes]  # type: ignore[arg-type]
        self.axis: int | list[int] = (
            whole if isinstance(axis, list | tuple) else whole[0]
        )

    def named_axes(self, shape: Sequence[int]) -> frozenset[int]:
        """The axes that `axis` names, counted from the first.

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

    def other_axes(self, shape: Sequence[int]) -> tuple[int, ...]:
        """The axes that `axis` does not name."""
        named = self.named_axes(shape)
        return tuple(axis for axis in range(len(shape)) if axis not in named)

    def matrix(self, weights: Tensor) -> Tensor:
        """The weights as a matrix with a column for each index of `axis`."""
        shape = tuple(weights.shape)
        sides = self.other_axes(shape), sorted(self.named_axes(shape))
        sizes = [[shape[axis] for axis in axes] for axes in sides]
        return ops.reshape(
            ops.transpose(weights, [*sides[0], *sides[1]]),
            # TensorFlow does not know the size of a batch while tracing.
            [-1 if None in each else math.prod(each) for each in sizes],
        )
