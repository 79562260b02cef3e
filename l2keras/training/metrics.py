"""The metric that reports the parts of the loss."""

from typing import Any

import keras
from keras import ops

from l2keras._keras import backends, trainer_hooks
from l2keras._types import Tensor


class LossParts(keras.metrics.Metric):
    """Means over batches of several numbers, reported under their names.

    All is in one variable, since each costs time at each step on JAX: the sums
    of the numbers weighted by batch size, and below them the sums unweighted. A
    last column has the sums of the weights. Which of both are means in the way
    of the model's `loss` is known when that is updated.

    It returns a dictionary, as Keras's own metric of what is given to `compile`
    does: training steps that people write know how to handle that one.

    Args:
        names: List of the numbers' names.

    Attributes:
        names: As given.
        is_weighted: Whether batches count by their size.
    """

    def __init__(self, names: list[str]) -> None:
        super().__init__(name="loss_parts", dtype="float32")
        self.names = names
        self.is_weighted = True
        self.sums = self.add_variable(
            (2, len(names) + 1), "zeros", dtype="float32", name="sums"
        )

    def add(self, numbers: list[Tensor], size: Tensor) -> None:
        """Adds the numbers of one batch of so many samples."""
        batch = backends.stack_detached([*numbers, 1.0])
        # Of a static shape it is a Python number, else an integer tensor.
        size = (
            float(size) if isinstance(size, int) else ops.cast(size, "float32")
        )
        backends.add_to(self.sums, batch, size)

    def is_carried(self) -> bool:
        """Tells whether the step being compiled was given the sums.

        Not so on JAX in a training step that calls `compute_loss` without a
        scope: what is added then would be lost.
        """
        return trainer_hooks.is_readable(self.sums)

    def update_state(self, *args: Any, **kwargs: Any) -> None:
        """Does nothing: custom training steps update every metric they find."""

    def result(self) -> dict[str, Tensor]:
        """Returns the means so far by name, NaN if there was no batch."""
        sums = self.sums.value[0 if self.is_weighted else 1]
        means = ops.unstack(sums[:-1] / sums[-1], len(self.names))
        return dict(zip(self.names, means, strict=True))
