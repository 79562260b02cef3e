"""Metrics that report the numbers of a training step."""

import functools
from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from l2keras._keras import backends, trainer_hooks
from l2keras._types import Tensor


class Total(keras.metrics.Metric):
    """Sums of numbers over batches, each weighted by the batch's size.

    All sums and the weights' sum are in one variable: on JAX each variable of
    the state costs time at each step. The metric itself reports the first
    number, and further ones report the others.

    Args:
        names: List of the numbers' names.

    Attributes:
        metrics: List of metrics, one for each number.
    """

    def __init__(self, names: list[str]) -> None:
        super().__init__(name=names[0], dtype="float32")
        self.sums = self.add_variable(
            (len(names) + 1,), "zeros", dtype="float32", name="sums"
        )
        self._further = [
            _Entry(name, functools.partial(self.mean, index))
            for index, name in enumerate(names[1:], start=1)
        ]

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        return [self, *self._further]

    def add(self, numbers: list[Tensor], size: Tensor) -> None:
        """Adds the numbers of one batch."""
        batch = backends.stack_detached([*numbers, 1.0])
        # Of a static shape it is a Python number, else an integer tensor.
        size = (
            float(size) if isinstance(size, int) else ops.cast(size, "float32")
        )
        self.sums.assign(self.sums.value + batch * size)

    def mean(self, index: int) -> Tensor:
        """Returns the mean of a number so far, NaN if there was no batch."""
        sums = self.sums.value
        return sums[index] / sums[-1]

    def is_carried(self) -> bool:
        """Tells whether the step being compiled was given the sums.

        Not so on JAX in a training step that calls `compute_loss` without a
        scope: what is added then would be lost.
        """
        return trainer_hooks.is_readable(self.sums)

    def update_state(self, *args: Any, **kwargs: Any) -> None:
        """Does nothing: custom training steps update every metric they find."""

    def result(self) -> Tensor:
        return self.mean(0)


class _Entry(keras.metrics.Metric):
    """One of the further numbers of a `Total`."""

    def __init__(self, name: str, read: Callable[[], Tensor]) -> None:
        super().__init__(name=name, dtype="float32")
        # Not the total itself: Keras would count its variable here as well.
        self._read = read

    def update_state(self, *args: Any, **kwargs: Any) -> None:
        """Does nothing, see `Total`."""

    def result(self) -> Tensor:
        return self._read()
