"""The penalties in NumPy and float64.

They define the regularizers of this package: the tests compare every class with
these functions. They also serve where there is no Keras at all.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt


def _float64(weights: Any) -> list[npt.NDArray[np.float64]]:
    """Returns one array, or a list or tuple of arrays, as a list of arrays."""
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
