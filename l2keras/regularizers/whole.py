"""Penalties of a weight as a whole: of the matrix it is, or of its course."""

from collections.abc import Sequence

import keras
from keras import ops

from l2keras import _validation
from l2keras._types import StrengthLike, Tensor
from l2keras.regularizers.axes import AxisRegularizer
from l2keras.regularizers.base import Regularizer


@keras.saving.register_keras_serializable(package="l2keras")
class Orthogonal(AxisRegularizer):
    """Makes the columns of a kernel orthogonal, and of length 1.

    So that units do not learn the same, and signals and gradients keep their
    size. The kernel, of any rank, is taken for a matrix `w` with a column for
    each index of `axis`, and the penalty is

        strength * ||w.T @ w - I||_F**2

    If there are more columns than rows, they cannot all be orthogonal, and the
    rows are made so: `w @ w.T` in place of `w.T @ w`. (The two differ by a
    constant, so the sum of both, the "double soft" form, has twice the
    gradient.) The penalty of zeros is not zero, but the number of columns.

    The matrix of a convolution is not the convolution as an operator: its
    filters become orthogonal, and that is all.

    Reference:
        Bansal, Chen & Wang, *Can we gain more from orthogonality
        regularizations in training deep networks?*, NeurIPS 2018, equations
        (1) and (2).

    Args:
        strength: Finite number >= 0, or a schedule. Defaults to `0.01`.
        axis: Integer or list of integers: the axes whose indices name the
            columns. Defaults to `-1`, the units or filters.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If `strength` is negative or not finite, or a schedule that
            returns such a number, or one that Keras cannot save. When called:
            if the weights have no axis `axis`.

    Example:

    >>> float(Orthogonal(0.5)(ops.array([[0.0, 2.0], [1.0, 0.0]])))
    4.5
    """

    def __init__(
        self, strength: StrengthLike = 0.01, axis: int | Sequence[int] = -1
    ) -> None:
        super().__init__(strength, axis)

    def penalty(self, weights: Tensor) -> Tensor:
        matrix = self.matrix(weights)
        if None not in matrix.shape:
            return ops.sum(distance_from_orthogonal(matrix))
        # Of the side whose size is known, with the constant by which the two
        # differ.
        if matrix.shape[1] is None:
            matrix = ops.transpose(matrix)
        size = int(matrix.shape[1])
        gram = ops.matmul(ops.transpose(matrix), matrix)
        excess = gram - ops.eye(size, dtype=gram.dtype)
        surplus = ops.maximum(size - ops.shape(matrix)[0], 0)
        return ops.sum(ops.square(excess)) - ops.cast(surplus, gram.dtype)


@keras.saving.register_keras_serializable(package="l2keras")
class SpectralNorm(AxisRegularizer):
    """Keeps the largest singular value of a kernel small, or near a target.

    It is how much the kernel can lengthen a vector. With target 0 a network
    becomes less sensitive to its inputs; with target 1 layers keep the ability
    to learn where training goes on for long, on data that change. The kernel,
    of any rank, is taken for a matrix with a column for each index of `axis`,
    and with `s` its largest singular value the penalty is

        strength * (s - target)**2

    `s` is exact: the root of the largest eigenvalue of the Gram matrix of the
    smaller side, which costs of the order of its size cubed at each step. Where
    several singular values are the largest, the gradient is that of one of
    them; the gradient of zeros is zero.

    The matrix of a convolution is not the convolution as an operator, whose
    norm can be larger, up to the root of the number of positions that a filter
    sees.

    Reference:
        Yoshida & Miyato, *Spectral Norm Regularization for Improving the
        Generalizability of Deep Learning*, 2017: target 0. Lewandowski et al.,
        *Learning Continually by Spectral Regularization*, ICLR 2025: towards 1,
        there of a power of `s`.

    Args:
        strength: Finite number >= 0, or a schedule. Defaults to `0.01`.
        target: Finite number >= 0. Defaults to `0.0`.
        axis: Integer or list of integers: the axes whose indices name the
            columns. Defaults to `-1`, the units or filters.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If `strength` is negative or not finite, or a schedule that
            returns such a number, or one that Keras cannot save; or if another
            argument is out of its range. When called: if the weights have no
            axis `axis`.

    Example:

    >>> kernel = ops.array([[0.0, 3.0], [1.0, 0.0]])
    >>> round(float(SpectralNorm(0.5)(kernel)), 4)
    4.5
    """

    def __init__(
        self,
        strength: StrengthLike = 0.01,
        target: float = 0.0,
        axis: int | Sequence[int] = -1,
    ) -> None:
        super().__init__(strength, axis)
        self.target = _validation.check_number(target, "target")

    def penalty(self, weights: Tensor) -> Tensor:
        matrix = self.matrix(weights)
        # TensorFlow does not know the size of a batch while tracing.
        rows, columns = matrix.shape
        if columns is None or (rows is not None and rows < columns):
            matrix = ops.transpose(matrix)
        left, right = _singular_vectors(ops.stop_gradient(matrix))
        # Its gradient is that of the singular value, without those of the
        # vectors, which are infinite where singular values are equal.
        value = ops.sum(left * (matrix @ right))
        return ops.square(value - self.target)


@keras.saving.register_keras_serializable(package="l2keras")
class HoyerSquare(Regularizer):
    """Makes weights or activities sparse, whatever their scale.

    The penalty is smallest, 1, where a single one is not zero, and largest,
    their number, where all are of one size:

        strength * (sum |w|)**2 / sum w**2

    It does not make weights smaller, and its pull on a weight grows as all of
    them become small: add `L2` where nothing else sets their scale. The
    penalty of zeros is 0, and so is its gradient.

    Reference:
        Yang, Wen & Li, *DeepHoyer: Learning sparser neural network with
        differentiable scale-invariant sparsity measures*, ICLR 2020, equation
        (3).

    Args:
        strength: Finite number >= 0, or a schedule. Defaults to `0.01`.
        normalized: Whether to divide by the number of weights, which makes
            layers of different sizes comparable. Penalties of activities
            are divided by the batch size by Keras in any case. Defaults to
            `False`.

    Raises:
        TypeError: If `strength` is neither a number nor a schedule, or
            `normalized` no boolean.
        ValueError: If `strength` is negative or not finite, or a schedule that
            returns such a number, or one that Keras cannot save.

    Example:

    >>> float(HoyerSquare(0.5)(ops.array([[3.0, 0.0], [-3.0, 0.0]])))  # 36 / 18
    1.0
    """

    def __init__(
        self, strength: StrengthLike = 0.01, normalized: bool = False
    ) -> None:
        super().__init__(strength)
        if not isinstance(normalized, bool):
            raise TypeError(
                "Argument `normalized` must be a boolean. "
                f"Received: normalized={normalized!r}"
            )
        self.normalized = normalized

    def penalty(self, weights: Tensor) -> Tensor:
        # Not `ops.abs`: on JAX its gradient at zero is 1.
        size = ops.sum(weights * ops.stop_gradient(ops.sign(weights)))
        squares = ops.sum(ops.square(weights))
        some = squares > 0
        value = ops.where(
            some, ops.square(size) / ops.where(some, squares, 1.0), 0.0
        )
        if self.normalized:
            number = ops.maximum(ops.size(weights), 1)
            value = value / ops.cast(number, value.dtype)
        return value


@keras.saving.register_keras_serializable(package="l2keras")
class Smoothness(AxisRegularizer):
    """Makes weights vary smoothly along some axes.

    For filters, embeddings of positions, or any weights whose neighbours
    should be alike. Straight courses pay nothing; the second differences along
    each axis of `axis` pay

        strength * sum_i (w[i + 1] - 2 * w[i] + w[i - 1])**2

    An axis with fewer than three indices pays nothing.

    Reference:
        Whittaker, *On a new method of graduation*, Proceedings of the Edinburgh
        Mathematical Society 41 (1923); Hodrick & Prescott, *Postwar U.S.
        business cycles*, Journal of Money, Credit and Banking 29 (1997).

    Args:
        strength: Finite number >= 0, or a schedule. Defaults to `0.01`.
        axis: Integer or list of integers: the axes along which to be smooth.
            Defaults to `0`. For the kernel of a `Conv2D` give `[0, 1]`.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If `strength` is negative or not finite, or a schedule that
            returns such a number, or one that Keras cannot save. When called:
            if the weights have no axis `axis`.

    Example:

    >>> float(Smoothness(0.5)(ops.array([1.0, 2.0, 3.0, 6.0])))
    2.0
    """

    def __init__(
        self, strength: StrengthLike = 0.01, axis: int | Sequence[int] = 0
    ) -> None:
        super().__init__(strength, axis)

    def penalty(self, weights: Tensor) -> Tensor:
        total = ops.zeros((), dtype=weights.dtype)
        for axis in sorted(self.named_axes(weights.shape)):
            w = ops.moveaxis(ops.convert_to_tensor(weights), axis, 0)
            bends = w[2:] - 2 * w[1:-1] + w[:-2]
            total = total + ops.sum(ops.square(bends))
        return total


def distance_from_orthogonal(matrices: Tensor) -> Tensor:
    """The squares of a matrix's Gram matrix less `I`, of the smaller side.

    Args:
        matrices: Tensor of shape `(..., rows, columns)`.

    Returns:
        Tensor of shape `(..., side, side)`.
    """
    rows, columns = matrices.shape[-2:]
    turned = ops.swapaxes(matrices, -1, -2)
    gram = turned @ matrices if columns <= rows else matrices @ turned
    return ops.square(gram - ops.eye(min(rows, columns), dtype=gram.dtype))


def _singular_vectors(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """The first singular vectors of a matrix, as matrices of one column.

    By the Gram matrix of its columns. Of zeros, the left one is zero.
    """
    if not matrix.shape[1]:
        return ops.zeros_like(matrix[:, :1]), ops.zeros((0, 1), matrix.dtype)
    # PyTorch raises an error for what is not finite. The value is not finite
    # all the same, since it is computed of the weights.
    finite = ops.where(ops.isfinite(matrix), matrix, ops.zeros_like(matrix))
    # Squares of small elements would be zero in float32.
    scaled = _divided(finite, ops.max(ops.abs(finite)))
    # Not `ops.matmul`, which gives float32 of float64. Eigenvalues ascend.
    _, vectors = ops.linalg.eigh(ops.transpose(scaled) @ scaled)
    right = ops.stop_gradient(vectors[:, -1:])
    left = scaled @ right
    return _divided(left, ops.sqrt(ops.sum(ops.square(left)))), right


def _divided(tensor: Tensor, size: Tensor) -> Tensor:
    """A tensor divided by its size, unless that is zero."""
    return tensor / ops.where(size > 0, size, ops.ones_like(size))
