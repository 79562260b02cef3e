"""The proximal steps of groups of weights, with a threshold for each weight.

The norm of a group after its step is the root of an equation, which Newton's
method finds.
"""

from collections.abc import Callable, Sequence
from typing import TypeAlias

from keras import ops

from l2keras._types import Tensor

Total: TypeAlias = Callable[[Tensor], Tensor]


def total_over(axes: Sequence[int]) -> Total:
    """The function that sums over the groups, and keeps their axes."""

    def total(values: Tensor) -> Tensor:
        return ops.sum(values, axis=axes, keepdims=True) if axes else values

    return total


def norms(weights: Tensor, axes: Sequence[int]) -> Tensor:
    """The norms over some axes, with gradient zero where they are zero."""
    squares = ops.square(weights)
    if axes:
        squares = ops.sum(squares, axis=axes)
    # The slope of the square root at 0 is infinite, and infinity times zero is
    # NaN: the root is taken of 1 there, and the result not used.
    some = squares > 0
    return ops.where(some, ops.sqrt(ops.where(some, squares, 1.0)), 0.0)


# So small that float32 still holds the inverse, and so large that it holds no
# larger square.
_TINY, _HUGE = 1e-30, 1e38

# After these the norm of a group is right to a millionth where the thresholds
# in it are apart by factors of a hundred; the zeros are exact without them.
_NEWTON_STEPS = 4

# The equation of a concave penalty is less straight.
_CONCAVE_NEWTON_STEPS = 8


def proximal(weights: Tensor, thresholds: Tensor, total: Total) -> Tensor:
    """The proximal step of the sum of the groups' norms.

    Args:
        weights: Tensor of any shape.
        thresholds: Tensor >= 0 of the same shape.
        total: Sums over each group.
    """
    thresholds = ops.maximum(thresholds, _TINY)
    is_off, s = _root(weights, thresholds, total, _NEWTON_STEPS)
    return ops.where(is_off, 0.0, weights * (s / (s + thresholds)))


def concave_proximal(
    weights: Tensor, thresholds: Tensor, total: Total, gamma: float
) -> Tensor:
    """The proximal step of `GroupMCP`.

    The derivative of the cost along `s`, the norm that is left, has the sign of
    `1 - F(s)`, and `F` is convex. So between 0 and `gamma` the cost is least
    at 0 or at the smallest root, and beyond it where nothing changes.

    Args:
        weights: Tensor of any shape.
        thresholds: Tensor >= 0 of the same shape.
        total: Sums over each group.
        gamma: The norm from which on there is no pull.
    """
    thresholds = ops.maximum(thresholds, _TINY)
    is_off, s = _root(
        weights,
        thresholds,
        total,
        _CONCAVE_NEWTON_STEPS,
        slopes=1 - thresholds / gamma,
        most=gamma,
    )
    s = ops.where(is_off, 0.0, s)
    pull = 1 - s / gamma
    inverse = 1 / (s + thresholds * pull)
    # There it costs `pull**2 / 2` times the difference of these more than where
    # nothing changes.
    moved = total(ops.square(weights * inverse) * thresholds)
    is_free = ops.logical_and(
        total(ops.square(weights)) > gamma**2, moved >= gamma
    )
    stepped = ops.where(is_off, 0.0, weights * (s * inverse))
    return ops.where(is_free, weights, stepped)


def _root(
    weights: Tensor,
    thresholds: Tensor,
    total: Total,
    steps: int,
    slopes: Tensor | float = 1.0,
    most: float | None = None,
) -> tuple[Tensor, Tensor]:
    """Whether groups are zero after the step, and else their norms.

    The norm is the smallest root `s` of

        F(s) = sum_i (w_i / (t_i + s slopes_i))**2 = 1

    found by Newton's method on `1 / sqrt(F(s)) - 1`, which is concave and
    nearly straight. So a start below the root stays below it and climbs.

    Args:
        weights: Tensor of any shape.
        thresholds: Tensor > 0 of the same shape.
        total: Sums over each group.
        steps: How many of Newton's.
        slopes: At most 1.
        most: An upper bound of the root, where there may be none.
    """

    def newton(s: Tensor | float) -> tuple[Tensor, Tensor]:
        """`F` and the step to the next `s`."""
        inverse = 1 / (thresholds + s * slopes)
        parts = ops.square(weights * inverse)
        value = ops.maximum(total(parts), _TINY)
        slope = ops.maximum(total(parts * inverse * slopes), _TINY)
        return value, value * (ops.sqrt(value) - 1) / slope

    def at_most(s: Tensor) -> Tensor:
        return s if most is None else ops.minimum(s, most)

    # Two bounds from below: Newton's first step from zero, good for groups that
    # are nearly off; and by Jensen's inequality the norm less the thresholds'
    # mean, good for those that are far from it.
    at_zero, s = newton(0.0)
    off = at_zero <= 1
    s = ops.where(at_zero < _HUGE, s, 0.0)
    squares = ops.square(weights)
    square = ops.maximum(total(squares), _TINY)
    mean = total(squares * thresholds) / square
    s = at_most(ops.maximum(ops.maximum(s, ops.sqrt(square) - mean), 0.0))
    for _ in range(steps):
        s = at_most(s + ops.maximum(newton(s)[1], 0.0))
    return off, s
