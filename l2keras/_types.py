"""Names for the things that Keras leaves untyped."""

from collections.abc import Callable
from typing import Any, TypeAlias

Tensor: TypeAlias = Any
"""A tensor of whichever backend Keras runs on, or anything it converts."""

Schedule: TypeAlias = Callable[[Tensor], Tensor]
"""A function from the optimizer's step (float32, shape `()`) to a strength."""

StrengthLike: TypeAlias = float | Schedule
"""What a user gives for a strength: a number >= 0, or a schedule of one."""
