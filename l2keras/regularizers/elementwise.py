"""Penalties of single weights, summed."""

import keras
from keras import ops

from l2keras._types import StrengthLike, Tensor
from l2keras.regularizers.base import Regularizer, Sum


@keras.saving.register_keras_serializable(package="l2keras")
class L1(Regularizer):
    """Pushes single weights to zero: the lasso penalty.

    The penalty of weights `w` is

        l1 * sum |w|

    Its gradient pushes towards zero, and is 0 at zero. No weight comes to lie
    exactly there by it: for zeros that are exact train with
    `l2keras.Proximal`.

    Reference:
        Tibshirani, *Regression Shrinkage and Selection via the Lasso*, JRSS B
        58 (1996).

    Args:
        l1: Finite number >= 0, or a schedule. Defaults to `0.01`.

    Raises:
        TypeError: If `l1` is neither a number nor a schedule.
        ValueError: If `l1` is negative or not finite, or a schedule that
            returns such a number, or one that Keras cannot save.

    Example:

    >>> float(L1(0.5)(ops.array([[1.0, -2.0], [3.0, 0.0]])))
    3.0
    """

    _strength_name = "l1"

    def __init__(self, l1: StrengthLike = 0.01) -> None:
        super().__init__(0.01 if l1 is None else l1)  # As Keras does.

    @property
    def l1(self) -> StrengthLike:
        return self.strength

    def penalty(self, weights: Tensor) -> Tensor:
        # Not `ops.abs`: on JAX its gradient at zero is 1.
        return ops.sum(weights * ops.stop_gradient(ops.sign(weights)))

    def proximal(self, weights: Tensor, threshold: Tensor | float) -> Tensor:
        return ops.sign(weights) * ops.maximum(
            ops.abs(weights) - threshold, 0.0
        )


@keras.saving.register_keras_serializable(package="l2keras")
class L2(Regularizer):
    """Keeps weights small: the ridge penalty.

    The penalty of weights `w` is

        l2 * sum w**2

    with no factor of 1/2, so that its gradient is `2 * l2 * w`: under plain
    SGD, PyTorch's `weight_decay` is `2 * l2`.

    Reference:
        Hoerl & Kennard, *Ridge Regression: Biased Estimation for Nonorthogonal
        Problems*, Technometrics 12 (1970).

    Args:
        l2: Finite number >= 0, or a schedule. Defaults to `0.01`.

    Raises:
        TypeError: If `l2` is neither a number nor a schedule.
        ValueError: If `l2` is negative or not finite, or a schedule that
            returns such a number, or one that Keras cannot save.

    Example:

    >>> float(L2(0.5)(ops.array([[1.0, -2.0], [3.0, 0.0]])))
    7.0
    """

    _strength_name = "l2"

    def __init__(self, l2: StrengthLike = 0.01) -> None:
        super().__init__(0.01 if l2 is None else l2)  # As Keras does.

    @property
    def l2(self) -> StrengthLike:
        return self.strength

    def penalty(self, weights: Tensor) -> Tensor:
        return ops.sum(ops.square(weights))


@keras.saving.register_keras_serializable(package="l2keras")
class L1L2(Sum):
    """Pushes weights to zero and keeps the rest small: the elastic net.

    The penalty of weights `w` is

        l1 * sum |w| + l2 * sum w**2

    Reference:
        Zou & Hastie, *Regularization and variable selection via the elastic
        net*, JRSS B 67 (2005), equation (3).

    Args:
        l1: Finite number >= 0, or a schedule. Defaults to `0.0`.
        l2: Finite number >= 0, or a schedule. Defaults to `0.0`.

    Raises:
        TypeError: If one is neither a number nor a schedule.
        ValueError: If one is negative or not finite, or a schedule that
            returns such a number, or one that Keras cannot save.

    Example:

    >>> float(L1L2(l1=0.5, l2=0.25)(ops.array([1.0, -3.0])))
    4.5
    """

    _holds_regularizers = False  # Its arguments are the strengths.

    def __init__(self, l1: StrengthLike = 0.0, l2: StrengthLike = 0.0) -> None:
        # As Keras does.
        super().__init__(
            [L1(0.0 if l1 is None else l1), L2(0.0 if l2 is None else l2)]
        )

    @property
    def l1(self) -> StrengthLike:
        return self.regularizers[0].strength

    @property
    def l2(self) -> StrengthLike:
        return self.regularizers[1].strength
