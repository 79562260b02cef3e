"""Penalties of the outputs of a layer, for `activity_regularizer=`.

The first axis is that of the examples, and each returns a sum over them, which
Keras divides by the size of the batch. (Since 3.11; before, Keras takes the
sum.)
"""

import math

import keras
from keras import ops

from l2keras import _validation
from l2keras._types import StrengthLike, Tensor
from l2keras.regularizers.base import Regularizer
from l2keras.regularizers.whole import distance_from_orthogonal


@keras.saving.register_keras_serializable(package="l2keras")
class KLSparsity(Regularizer):
    """Makes units active for a target share of the examples.

    For hidden codes of which each input should use few. It is for outputs
    between 0 and 1: of a sigmoid, or of a ReLU that is bounded, such as
    `ops.minimum(ops.relu(x), 1)`. With `m_j` the mean output of unit `j` over
    the batch, and over all positions if there are such, and `r` the target,
    the penalty of a batch of `n` examples is

        strength * n * sum_j r * log(r / m_j) + (1 - r) * log((1 - r) / (1 - m_j))

    Keras divides by `n`, as it does for every `activity_regularizer`. Means
    beyond `1e-7` and `1 - 1e-7` are taken for these, without a gradient. The
    mean is that of the batch, so small batches are a noisy guide.

    Reference:
        Ng, *Sparse autoencoder*, CS294A lecture notes, Stanford (2011).

    Args:
        strength: Finite number >= 0, or a schedule. Defaults to `0.01`.
        target: Number between 0 and 1. Defaults to `0.05`.

    Raises:
        TypeError: If `strength` is neither a number nor a schedule, or
            `target` no number.
        ValueError: If `strength` is negative or not finite, or a schedule that
            returns such a number, or one that Keras cannot save; or if
            `target` is not between 0 and 1.

    Example:

    >>> outputs = ops.array([[0.1, 0.5], [0.1, 0.5]])
    >>> round(float(KLSparsity(0.5, target=0.1)(outputs)), 4)
    0.3681
    """  # noqa: E501

    def __init__(
        self, strength: StrengthLike = 0.01, target: float = 0.05
    ) -> None:
        super().__init__(strength)
        self.target = _validation.check_positive(target, "target")
        if self.target >= 1:
            raise ValueError(
                "Argument `target` must be a number between 0 and 1. "
                f"Received: target={target!r}"
            )

    def penalty(self, weights: Tensor) -> Tensor:
        axes = tuple(range(len(weights.shape) - 1))
        means = ops.clip(ops.mean(weights, axis=axes), _LEAST, 1 - _LEAST)
        target = self.target
        kept = target * (math.log(target) - ops.log(means))
        rest = (1 - target) * (math.log(1 - target) - ops.log(1 - means))
        examples = ops.cast(ops.shape(weights)[0], means.dtype)
        return examples * ops.sum(kept + rest)


# The least distance of a mean from zero and one.
_LEAST = 1e-7


@keras.saving.register_keras_serializable(package="l2keras")
class OrthogonalActivity(Regularizer):
    """Makes matrices that a layer returns orthogonal, one for each example.

    As PointNet does with the transformations that it learns for its inputs.
    Outputs of shape `(examples, ..., rows, columns)` are matrices; those of
    shape `(examples, n * n)` become square ones. The penalty is

        strength * sum over the matrices a of ||a @ a.T - I||_F**2

    and with `a.T @ a` where that is smaller. Keras divides it by the number of
    examples, as it does for every `activity_regularizer`. `Orthogonal` does the
    same for a kernel.

    Reference:
        Qi et al., *PointNet: Deep Learning on Point Sets for 3D Classification
        and Segmentation*, CVPR 2017, equation (2).

    Args:
        strength: Finite number >= 0, or a schedule. Defaults to `0.01`.

    Raises:
        TypeError: If `strength` is neither a number nor a schedule.
        ValueError: If it is negative or not finite, or a schedule that returns
            such a number, or one that Keras cannot save. When called: if the
            outputs are no matrices.

    Example:

    >>> outputs = ops.array([[0.0, 2.0, 1.0, 0.0]])  # One example.
    >>> float(OrthogonalActivity(0.5)(outputs))
    4.5
    """

    def penalty(self, weights: Tensor) -> Tensor:
        shape = tuple(weights.shape)
        if len(shape) == 2:
            side = math.isqrt(shape[1])
            if side**2 == shape[1]:
                weights = ops.reshape(weights, (-1, side, side))
        if len(weights.shape) < 3:
            raise ValueError(
                "`OrthogonalActivity` needs outputs of shape `(examples, ..., "
                "rows, columns)`, or `(examples, n * n)`. Received: outputs "
                f"of shape {shape}"
            )
        return ops.sum(distance_from_orthogonal(weights))
