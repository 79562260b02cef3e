"""Penalties of groups of weights, which go to zero together."""

import math
from collections.abc import Sequence

import keras
from keras import ops

from l2keras import _validation
from l2keras._types import StrengthLike, Tensor
from l2keras.regularizers import concave, group_steps
from l2keras.regularizers.axes import AxisRegularizer


@keras.saving.register_keras_serializable(package="l2keras")
class GroupLasso(AxisRegularizer):
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
        super().__init__(strength, axis)
        if not isinstance(scale_by_size, bool):
            raise TypeError(
                "Argument `scale_by_size` must be a boolean. "
                f"Received: scale_by_size={scale_by_size!r}"
            )
        self.scale_by_size = scale_by_size

    def penalty(self, weights: Tensor) -> Tensor:
        norms = group_steps.norms(weights, self.other_axes(weights.shape))
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
        rest = self.other_axes(weights.shape)
        if self.scale_by_size:
            threshold = (
                threshold
                * math.prod(weights.shape[axis] for axis in rest) ** 0.5
            )
        total = group_steps.total_over(rest)
        if len(getattr(threshold, "shape", ())) == 0:
            norm = ops.sqrt(total(ops.square(weights)))
            # So compared that NaN stays NaN: a training that diverges must
            # not look like one that found zeros.
            off = norm <= threshold
            return ops.where(
                off,
                0.0,
                weights * (1 - threshold / ops.where(off, 1.0, norm)),
            )
        return group_steps.proximal(weights, threshold, total)


@keras.saving.register_keras_serializable(package="l2keras")
class GroupMCP(AxisRegularizer):
    """Takes whole groups of weights to zero, and leaves large ones alone.

    `GroupLasso` makes every group smaller, the needed ones too. Here the pull
    on a group of weights grows weaker the larger its norm is, and is none from
    `gamma` on. With the groups of `GroupLasso`, the penalty is

        strength * sum_g p(||w_g||_2)
        p(n) = n - n**2 / (2 * gamma)   where n <= gamma
               gamma / 2                beyond

    For zeros that are exact train with `l2keras.Proximal`. The penalty is not
    convex: where training ends may depend on where it begins.

    Reference:
        Breheny & Huang, *Group descent algorithms for nonconvex penalized
        linear and logistic regression models with grouped predictors*,
        Statistics and Computing 25 (2015). Their `gamma` is this one over the
        strength.

    Args:
        strength: Finite number >= 0, or a schedule.
        gamma: Finite number > 0: the norm from which on a group is left alone.
            There is no default, since it depends on how large the groups that
            are needed become.
        axis: Integer or list of integers: the axes whose indices name the
            groups. Defaults to `-1`.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If `strength` is negative or not finite, or a schedule that
            returns such a number, or one that Keras cannot save; if `gamma` is
            not finite or not positive. When called: if the weights have no
            axis `axis`.

    Example:

    >>> kernel = ops.array([[3.0, 0.0], [4.0, 1.0]])
    >>> float(GroupMCP(0.5, gamma=2.0)(kernel))  # 0.5 * (2 / 2 + 1 - 1 / 4)
    0.875
    """

    def __init__(
        self,
        strength: StrengthLike,
        gamma: float,
        axis: int | Sequence[int] = -1,
    ) -> None:
        super().__init__(strength, axis)
        self.gamma = _validation.check_positive(gamma, "gamma")

    def penalty(self, weights: Tensor) -> Tensor:
        norms = group_steps.norms(weights, self.other_axes(weights.shape))
        return ops.sum(concave.mcp(norms, self.gamma))

    def proximal(self, weights: Tensor, threshold: Tensor | float) -> Tensor:
        """Returns `argmin_u sum (u - w)**2 / (2 t) + sum_g p(||u_g||_2)`.

        With one threshold for all weights the norm of a group takes the step
        of `MCP`. With one for each weight, `t_i`, the group is zero, or as it
        was, or

            u_i = w_i s / (s + t_i (1 - s / gamma))

        where `s`, the norm of `u`, is the smallest that solves `sum (u_i /
        s)**2 = 1`: whichever costs least.
        """
        total = group_steps.total_over(self.other_axes(weights.shape))
        if len(getattr(threshold, "shape", ())) == 0:
            norm = ops.sqrt(total(ops.square(weights)))
            after = concave.mcp_step(norm, threshold, self.gamma)
            off = after <= 0
            return ops.where(
                off, 0.0, weights * (after / ops.where(off, 1.0, norm))
            )
        return group_steps.concave_proximal(
            weights, threshold, total, self.gamma
        )
