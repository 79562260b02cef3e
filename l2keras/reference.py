"""The penalties in NumPy and float64.

They define the regularizers of this package: the tests compare every class with
these functions. They also serve where there is no Keras at all.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt


def _float64(weights: Any) -> list[npt.NDArray[np.float64]]:
    """One array, or a list or tuple of arrays, as a list of arrays."""
    if isinstance(weights, list | tuple):
        return [np.asarray(array, np.float64) for array in weights]
    return [np.asarray(weights, np.float64)]


def l1_regularization(weights: Any, lambda_reg: float = 0.01) -> float:
    """Returns `lambda_reg * sum |w|`, over one array or a list of arrays.

    Example:

    >>> l1_regularization(np.array([[1.0, -2.0], [0.5, 0.0]]), 0.01)
    0.035
    """
    return float(
        lambda_reg * sum(np.abs(array).sum() for array in _float64(weights))
    )


def l2_regularization(weights: Any, lambda_reg: float = 0.01) -> float:
    """Returns `lambda_reg * sum w**2`, over one array or a list of arrays.

    No factor of 1/2, and a sum rather than a mean, as in Keras.

    Example:

    >>> kernel = np.array([[1.0, -2.0], [0.5, 0.0]])
    >>> l2_regularization([kernel, np.array([-1.0, 3.0])], 0.01)
    0.1525
    """
    return float(
        lambda_reg * sum(np.square(array).sum() for array in _float64(weights))
    )


def group_lasso(
    weights: Any,
    strength: float = 0.01,
    axis: int | Sequence[int] = -1,
    scale_by_size: bool = False,
) -> float:
    """Returns `strength * sum_g c_g * ||w_g||_2` for the slices along `axis`.

    Args:
        weights: One array.
        strength: Number >= 0.
        axis: The axis, or axes: one group for each index along them.
        scale_by_size: Whether `c_g` is the square root of the number of
            weights in the group, rather than 1.

    Example:

    >>> group_lasso([[3.0, 0.0], [4.0, 0.0]], strength=0.5)
    2.5
    """
    weights = np.asarray(weights, np.float64)
    axes = np.atleast_1d(axis)
    if not np.all((-weights.ndim <= axes) & (axes < weights.ndim)):
        raise ValueError(
            f"Argument `axis` must be an axis of weights of shape "
            f"{weights.shape}. Received: axis={axis!r}"
        )
    kept = {a % weights.ndim for a in axes}
    rest = tuple(a for a in range(weights.ndim) if a not in kept)
    norms = np.sqrt(np.square(weights).sum(axis=rest))
    size = weights.size / norms.size if scale_by_size else 1.0
    return float(strength * np.sqrt(size) * norms.sum())


def mcp(weights: Any, strength: float, gamma: float) -> float:
    """Returns `strength * sum p(|w|)`, the minimax concave penalty.

    `p(x)` is `x - x**2 / (2 * gamma)` up to `gamma`, and `gamma / 2` beyond.

    Example:

    >>> mcp(np.array([0.0, 1.0, -3.0]), 0.5, gamma=2.0)  # (0.75 + 1) / 2
    0.875
    """
    return float(
        strength
        * sum(_mcp(np.abs(each), gamma).sum() for each in _float64(weights))
    )


def _mcp(sizes: Any, gamma: float) -> Any:
    return np.where(sizes <= gamma, sizes - sizes**2 / (2 * gamma), gamma / 2)


def scad(weights: Any, strength: float, gamma: float, a: float = 3.7) -> float:
    """Returns the smoothly clipped absolute deviation.

    As Fan & Li have it, with `lambda = gamma / a`, but for the factor: it is
    `strength / lambda` times theirs.

    Example:

    >>> scad(np.array([0.5, -9.0]), 0.5, gamma=4.0, a=4.0)  # (0.5 + 2.5) / 2
    1.5
    """
    lam = gamma / a

    def theirs(x: Any) -> Any:
        bent = (2 * a * lam * x - x**2 - lam**2) / (2 * (a - 1))
        flat = lam**2 * (a + 1) / 2
        return np.where(x <= lam, lam * x, np.where(x <= gamma, bent, flat))

    return float(
        strength
        / lam
        * sum(theirs(np.abs(each)).sum() for each in _float64(weights))
    )


def group_mcp(
    weights: Any,
    strength: float,
    gamma: float,
    axis: int | Sequence[int] = -1,
) -> float:
    """Returns `strength * sum_g p(||w_g||_2)`, with the `p` of `mcp`.

    Example:

    >>> group_mcp([[3.0, 0.0], [4.0, 1.0]], 0.5, gamma=2.0)  # (1 + 0.75) / 2
    0.875
    """
    norms = np.sqrt(np.square(_matrix(weights, axis)).sum(axis=0))
    return float(strength * _mcp(norms, gamma).sum())


def orthogonal(
    weights: Any, strength: float = 0.01, axis: int | Sequence[int] = -1
) -> float:
    """Returns `strength * ||w.T @ w - I||_F**2` for columns along `axis`.

    Or that of `w @ w.T`, if there are more columns than rows.

    Example:

    >>> orthogonal([[0.0, 2.0], [1.0, 0.0]], 0.5)  # 0.5 * (4 - 1)**2
    4.5
    """
    matrix = _matrix(weights, axis)
    if matrix.shape[1] > matrix.shape[0]:
        matrix = matrix.T
    excess = matrix.T @ matrix - np.eye(matrix.shape[1])
    return float(strength * np.square(excess).sum())


def spectral_norm(
    weights: Any,
    strength: float = 0.01,
    target: float = 0.0,
    axis: int | Sequence[int] = -1,
) -> float:
    """Returns `strength * (s - target)**2`, `s` the largest singular value.

    Example:

    >>> round(spectral_norm([[0.0, 3.0], [1.0, 0.0]], 0.5), 6)
    4.5
    """
    values = np.linalg.svd(_matrix(weights, axis), compute_uv=False)
    return float(strength * (max(values, default=0.0) - target) ** 2)


def hoyer_square(
    weights: Any, strength: float = 0.01, normalized: bool = False
) -> float:
    """Returns `strength * (sum |w|)**2 / sum w**2`, and 0 of zeros.

    With `normalized=True` it is divided by the number of weights.

    Example:

    >>> hoyer_square([[3.0, 0.0], [-4.0, 0.0]], 1.0)  # 49 / 25
    1.96
    """
    weights = np.asarray(weights, np.float64)
    squares = np.square(weights).sum()
    if not squares:
        return 0.0
    value = np.abs(weights).sum() ** 2 / squares
    return float(strength * value / (weights.size if normalized else 1))


def smoothness(
    weights: Any, strength: float = 0.01, axis: int | Sequence[int] = 0
) -> float:
    """Returns `strength * sum (w[i + 1] - 2 * w[i] + w[i - 1])**2`.

    Along each of the axes.

    Example:

    >>> smoothness([1.0, 2.0, 3.0, 6.0], 0.5)  # 0.5 * (0 + 2**2)
    2.0
    """
    weights = np.asarray(weights, np.float64)
    return float(
        strength
        * sum(
            np.square(np.diff(weights, n=2, axis=each)).sum()
            for each in {each % weights.ndim for each in np.atleast_1d(axis)}
            if weights.shape[each] > 2
        )
    )


def kl_sparsity(
    outputs: Any, strength: float = 0.01, target: float = 0.05
) -> float:
    """Returns `strength * n * sum_j KL(target, mean_j)` of `n` examples.

    Of Bernoulli distributions, with the means over all axes but the last.

    Example:

    >>> outputs = np.array([[0.1, 0.5], [0.1, 0.5]])
    >>> round(kl_sparsity(outputs, 0.5, target=0.1), 4)
    0.3681
    """
    outputs = np.asarray(outputs, np.float64)
    m = outputs.reshape(-1, outputs.shape[-1]).mean(axis=0)
    divergence = target * np.log(target / m) + (1 - target) * np.log(
        (1 - target) / (1 - m)
    )
    return float(strength * len(outputs) * divergence.sum())


def orthogonal_activity(outputs: Any, strength: float = 0.01) -> float:
    """Returns the sum of `orthogonal` over the matrices of the last two axes.

    Rows of `n * n` numbers become square matrices.

    Example:

    >>> orthogonal_activity([[0.0, 2.0, 1.0, 0.0]], 0.5)
    4.5
    """
    outputs = np.asarray(outputs, np.float64)
    if outputs.ndim == 2:
        side = round(outputs.shape[1] ** 0.5)
        outputs = outputs.reshape(-1, side, side)
    matrices = outputs.reshape(-1, *outputs.shape[-2:])
    return float(sum(orthogonal(each, strength) for each in matrices))


def _matrix(weights: Any, axis: int | Sequence[int]) -> Any:
    """The weights as a matrix with a column for each index of `axis`."""
    weights = np.asarray(weights, np.float64)
    columns = sorted({each % weights.ndim for each in np.atleast_1d(axis)})
    rows = [each for each in range(weights.ndim) if each not in columns]
    shape = [
        np.prod([weights.shape[axis] for axis in axes], dtype=int)
        for axes in (rows, columns)
    ]
    return weights.transpose(*rows, *columns).reshape(shape)
