"""The metric that holds the parts of the loss."""

from typing import Any

import keras
from keras import ops

from l2keras._keras import trainer_hooks
from l2keras._keras.backend import backend
from l2keras._types import Tensor


class LossParts(keras.metrics.Metric):
    """Means over batches of several numbers, reported under their names.

    One variable has it all, since each costs time at each step on JAX: the sums
    of the numbers weighted by batch size, and below them the sums unweighted. A
    last column has the sums of the weights.

    Within a training step the result is all means, under names that no step's
    own logs have: `logs_of_step` renames those that are shown. Elsewhere the
    result is the means that are shown, which may be none.

    Args:
        names: List of the numbers' names.
        trackers: List of the metrics of the model's `loss`, if a custom
            training step updates them. Such a step may take the mean of the
            batches without regard to their sizes, as in Keras's guides, and
            then the parts are such means too.

    Attributes:
        names: As given.
        shown: The names that are shown, or `None` while a step is running.
    """

    def __init__(
        self, names: list[str], trackers: list[keras.metrics.Metric]
    ) -> None:
        super().__init__(name="loss_parts", dtype="float32")
        self.names = names
        self.shown: frozenset[str] | None = frozenset()
        # In a function, as Keras would count their variables here as well.
        self._trackers = lambda: trackers
        self.sums = self.add_variable(
            (2, len(names) + 1), "zeros", dtype="float32", name="sums"
        )

    def add(self, numbers: list[Tensor], size: Tensor) -> None:
        """Adds the numbers of one batch of so many samples."""
        batch = backend.stack_detached([*numbers, 1.0])
        # Of a static shape it is a Python number, else an integer tensor.
        size = (
            float(size) if isinstance(size, int) else ops.cast(size, "float32")
        )
        backend.add_to(self.sums, batch, size)

    def is_tracked(self) -> bool:
        """Tells whether the step being compiled was given the sums.

        Not so on JAX in a training step that calls `compute_loss` without a
        scope: sums that are added then would be lost.
        """
        return trainer_hooks.is_readable(self.sums)

    def update_state(self, *args: Any, **kwargs: Any) -> None:
        """Does nothing: custom training steps update every metric they find."""

    def result(self) -> dict[str, Any]:
        """The means so far by name, NaN if there was no batch."""
        shown = self.shown
        if shown is None:
            return {f"{self.name}/{k}": v for k, v in self._means().items()}
        if not shown:
            return {}
        return {k: v for k, v in self._means().items() if k in shown}

    def logs_of_step(self, logs: dict[str, Any]) -> dict[str, Any]:
        """The logs of a step, with the means that are shown and no others."""
        found = dict(logs)
        # Custom steps put each result under its metric's name.
        found.update(found.pop(self.name, {}))
        means = {
            name: found.pop(f"{self.name}/{name}")
            for name in self.names
            if f"{self.name}/{name}" in found
        }
        shown = self.shown or ()
        return found | {k: v for k, v in means.items() if k in shown}

    def _means(self) -> dict[str, Tensor]:
        sums = self.sums.value
        weighted, plain = sums[0], sums[1]
        for tracker in self._trackers():
            count = getattr(tracker, "count", None)
            if count is not None and trainer_hooks.is_readable(count):
                # It has counted the batches, and not the samples.
                is_plain = ops.equal(count.value, plain[-1])
                weighted = ops.where(is_plain, plain, weighted)
        means = ops.unstack(weighted[:-1] / weighted[-1], len(self.names))
        return dict(zip(self.names, means, strict=True))
