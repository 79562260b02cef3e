"""Concave penalties of single weights: zeros, and no pull on large weights."""

import keras
from keras import ops

from l2keras import _validation
from l2keras._types import StrengthLike, Tensor
from l2keras.regularizers.base import Regularizer


@keras.saving.register_keras_serializable(package="l2keras")
class MCP(Regularizer):
    """Takes weights to zero, and leaves large ones alone.

    `L1` makes every weight smaller, the needed ones too. Here the pull grows
    weaker the larger a weight is, and is none from `gamma` on: the minimax
    concave penalty

        strength * sum p(|w|)
        p(x) = x - x**2 / (2 * gamma)   where x <= gamma
               gamma / 2                beyond

    For zeros that are exact train with `l2keras.Proximal`. The penalty is not
    convex: where training ends may depend on where it begins.

    Reference:
        Zhang, *Nearly unbiased variable selection under minimax concave
        penalty*, Annals of Statistics 38 (2010). The `gamma` there, and in
        skglm, is this one over the strength.

    Args:
        strength: Finite number >= 0, or a schedule.
        gamma: Finite number > 0: the size from which on a weight is left
            alone. There is no default, since it depends on how large the
            weights that are needed become.

    Raises:
        TypeError: If `strength` is neither a number nor a schedule, or `gamma`
            no number.
        ValueError: If `strength` is negative or not finite, or a schedule that
            returns such a number, or one that Keras cannot save; or if `gamma`
            is not finite or not positive.

    Example:

    >>> float(MCP(0.5, gamma=2.0)(ops.array([0.0, 1.0, -3.0])))
    0.875
    """

    def __init__(self, strength: StrengthLike, gamma: float) -> None:
        super().__init__(strength)
        self.gamma = _validation.check_positive(gamma, "gamma")

    def penalty(self, weights: Tensor) -> Tensor:
        return ops.sum(mcp(_sizes(weights), self.gamma))

    def proximal(self, weights: Tensor, threshold: Tensor | float) -> Tensor:
        """Returns `argmin_u sum (u - w)**2 / (2 t) + p(|u|)`.

        Where `t < gamma`, weights up to `t` become zero, those beyond `gamma`
        stay, and in between the step is `L1`'s, over `1 - t / gamma`.
        Elsewhere weights up to `sqrt(t * gamma)` become zero, and the others
        stay.
        """
        return ops.sign(weights) * mcp_step(
            ops.abs(weights), threshold, self.gamma
        )


@keras.saving.register_keras_serializable(package="l2keras")
class SCAD(Regularizer):
    """Takes weights to zero as `L1` does, and leaves large ones alone.

    As `MCP` does, but weights up to `gamma / a` are pulled in full: the
    smoothly clipped absolute deviation

        strength * sum p(|w|)
        p'(x) = 1                             where x <= gamma / a
                (gamma - x) / (gamma - gamma / a)   up to gamma
                0                             beyond

    For zeros that are exact train with `l2keras.Proximal`. The penalty is not
    convex: where training ends may depend on where it begins.

    Reference:
        Fan & Li, *Variable selection via nonconcave penalized likelihood and
        its oracle properties*, JASA 96 (2001). The penalty there, of `lambda`
        and `a`, is this one of strength `lambda` and `gamma = a * lambda`.

    Args:
        strength: Finite number >= 0, or a schedule.
        gamma: Finite number > 0: the size from which on a weight is left
            alone. There is no default, since it depends on how large the
            weights that are needed become.
        a: Finite number > 1. Defaults to `3.7`, that of the paper.

    Raises:
        TypeError: If `strength` is neither a number nor a schedule, or another
            argument no number.
        ValueError: If `strength` is negative or not finite, or a schedule that
            returns such a number, or one that Keras cannot save; or if another
            argument is out of its range.

    Example:

    >>> float(SCAD(0.5, gamma=4.0, a=4.0)(ops.array([0.5, -9.0])))
    1.5
    """

    def __init__(
        self, strength: StrengthLike, gamma: float, a: float = 3.7
    ) -> None:
        super().__init__(strength)
        self.gamma = _validation.check_positive(gamma, "gamma")
        self.a = _validation.check_positive(a, "a")
        if self.a <= 1:
            raise ValueError(
                f"Argument `a` must be a finite number > 1. Received: a={a!r}"
            )

    def penalty(self, weights: Tensor) -> Tensor:
        sizes = _sizes(weights)
        gamma, full = self.gamma, self.gamma / self.a
        beyond = sizes - full
        bent = sizes - ops.square(beyond) / (2 * (gamma - full))
        flat = (gamma + full) / 2
        return ops.sum(
            ops.where(sizes < full, sizes, ops.where(sizes < gamma, bent, flat))
        )

    def proximal(self, weights: Tensor, threshold: Tensor | float) -> Tensor:
        """Returns `argmin_u sum (u - w)**2 / (2 t) + p(|u|)`.

        With `c = gamma / a`, and where `t < gamma - c`, the step is `L1`'s up
        to `c + t`; weights beyond `gamma` stay; and in between it is `(w
        (gamma - c) - t gamma) / (gamma - c - t)`. For longer steps, all is as
        `L1` has it up to the size where to stay costs as much.
        """
        gamma, full = self.gamma, self.gamma / self.a
        bend = gamma - full
        sizes = ops.abs(weights)
        t = ops.cast(threshold, weights.dtype)
        is_short = t < bend
        stays = ops.where(
            is_short,
            gamma,
            ops.where(
                t < full + gamma,
                (full + gamma + t) / 2,
                ops.sqrt(t * (full + gamma)),
            ),
        )
        between = (sizes * bend - t * gamma) / ops.where(
            is_short, bend - t, 1.0
        )
        stepped = ops.where(
            ops.logical_and(is_short, sizes > full + t),
            between,
            ops.maximum(sizes - t, 0.0),
        )
        return ops.sign(weights) * ops.where(sizes > stays, sizes, stepped)


def mcp(sizes: Tensor, gamma: float) -> Tensor:
    """The penalty `MCP` of sizes, each alone."""
    bent = sizes - ops.square(sizes) / (2 * gamma)
    return ops.where(sizes < gamma, bent, gamma / 2)


def mcp_step(sizes: Tensor, threshold: Tensor | float, gamma: float) -> Tensor:
    """The sizes after the proximal step of `MCP`."""
    t = ops.cast(threshold, sizes.dtype)
    is_short = t < gamma
    off = ops.where(is_short, t, ops.sqrt(t * gamma))
    between = (sizes - t) / ops.where(is_short, 1 - t / gamma, 1.0)
    stepped = ops.where(
        ops.logical_and(is_short, sizes < gamma), between, sizes
    )
    # So compared that NaN stays NaN.
    return ops.where(sizes <= off, 0.0, stepped)


def _sizes(weights: Tensor) -> Tensor:
    # Not `ops.abs`: on JAX its gradient at zero is 1.
    return weights * ops.stop_gradient(ops.sign(weights))
