"""The metric that reports the parts of the loss."""

from collections.abc import Callable
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
    does. A training step of the user's own may put that into the logs as it is,
    where older versions of Keras take the numbers of a validation for those of
    the training. For such steps there is a metric for each number, but on JAX,
    where they hand each metric its own variables and no other's.

    Args:
        names: List of the numbers' names.
        as_dictionary: Whether one metric reports all of them.

    Attributes:
        names: As given.
        metrics: The metrics that Keras is to know of, this one first.
        is_weighted: Whether batches count by their size.
    """

    def __init__(self, names: list[str], as_dictionary: bool = True) -> None:
        super().__init__(
            name="loss_parts" if as_dictionary else names[0], dtype="float32"
        )
        self.names = names
        self._as_dictionary = as_dictionary
        others = [] if as_dictionary else names[1:]
        self._parts = [_Part(name, self.means) for name in others]
        self.is_weighted = True
        self.sums = self.add_variable(
            (2, len(names) + 1), "zeros", dtype="float32", name="sums"
        )

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        return [self, *self._parts]

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

    def result(self) -> dict[str, Tensor] | Tensor:
        """Returns the means so far by name, or the first of them."""
        means = self.means()
        return means if self._as_dictionary else means[self.names[0]]

    def means(self) -> dict[str, Tensor]:
        """Returns the means so far by name, NaN if there was no batch."""
        sums = self.sums.value[0 if self.is_weighted else 1]
        means = ops.unstack(sums[:-1] / sums[-1], len(self.names))
        return dict(zip(self.names, means, strict=True))


class _Part(keras.metrics.Metric):
    """Reports one of the further numbers of a `LossParts`."""

    def __init__(
        self, name: str, means: Callable[[], dict[str, Tensor]]
    ) -> None:
        super().__init__(name=name, dtype="float32")
        # Not the metric itself: Keras would count its variable here as well.
        self._means = means

    def update_state(self, *args: Any, **kwargs: Any) -> None:
        """Does nothing, see `LossParts`."""

    def result(self) -> Tensor:
        return self._means()[self.name]
