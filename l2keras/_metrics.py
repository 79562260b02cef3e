"""Metrics that report the numbers of a training step."""

from typing import Any

import keras
from keras import ops

from l2keras import _backend
from l2keras._types import Tensor


class Total(keras.metrics.Metric):
    """Sums of numbers over batches, each weighted by the batch's size.

    All sums and the weights' sum are in one variable: on JAX each variable of
    the state costs time at each step. The metric reports the first number;
    `Entry` reports the others.
    """

    def __init__(self, name: str, length: int) -> None:
        super().__init__(name=name, dtype="float32")
        self.sums = self.add_variable(
            (length + 1,), "zeros", dtype="float32", name="sums"
        )

    def add(self, numbers: list[Tensor], size: Tensor) -> None:
        """Adds the numbers of one batch."""
        batch = _backend.stack_detached([*numbers, 1.0])
        # Of a static shape it is a Python number, else an integer tensor.
        size = (
            float(size) if isinstance(size, int) else ops.cast(size, "float32")
        )
        self.sums.assign(self.sums.value + batch * size)

    def mean(self, index: int) -> Tensor:
        """Returns the mean of a number so far, NaN if there was no batch."""
        sums = self.sums.value
        return sums[index] / sums[-1]

    def update_state(self, *args: Any, **kwargs: Any) -> None:
        """Does nothing: custom training steps update every metric they find."""

    def result(self) -> Tensor:
        return self.mean(0)


class Entry(keras.metrics.Metric):
    """One of the further numbers of a `Total`."""

    def __init__(self, name: str, total: Total, index: int) -> None:
        super().__init__(name=name, dtype="float32")
        # Not as an attribute: Keras would count the total's variable as this
        # metric's too.
        self._read = lambda: total.mean(index)

    def update_state(self, *args: Any, **kwargs: Any) -> None:
        """Does nothing, see `Total`."""

    def result(self) -> Tensor:
        return self._read()
