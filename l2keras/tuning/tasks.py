"""What is to be trained, and what comes back: the same for all who train."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, Protocol

import numpy as np

from l2keras.tuning.chunks import Chunk
from l2keras.tuning.grid.stack import Means
from l2keras.tuning.trainer import Trainer


class Task(NamedTuple):
    """A chunk that is to be trained to its end.

    Attributes:
        chunk: The replicas.
        epochs: How many epochs they are trained already.
        state: What their trainer goes on from, if any.
    """

    chunk: Chunk
    epochs: int
    state: list[np.ndarray]


class Trained(NamedTuple):
    """What an epoch of a chunk came to.

    Attributes:
        chunk: The replicas.
        epoch: Which epoch, from zero.
        train: The means of its batches.
        validation: The means of the rows held out, after it.
        state: Returns what the chunk can be gone on with from here; `None` if
            that is not known here.
    """

    chunk: Chunk
    epoch: int
    train: Means
    validation: Means
    state: Callable[[], list[np.ndarray]] | None


class WorkersError(RuntimeError):
    """Raised when there is nobody to train, which no other way would change."""


class Engine(Protocol):
    """Has tasks done, by whom and in what order is its own business."""

    def run(self, tasks: Sequence[Task]) -> Iterator[Trained]:
        """Yields every epoch of all tasks, those of a chunk in their order."""


class InTurn:
    """Trains one chunk after another, here.

    Args:
        trainer: Trains them.
        epochs: How many epochs there are in all.
    """

    def __init__(self, trainer: Trainer, epochs: int) -> None:
        self._trainer = trainer
        self._epochs = epochs

    def run(self, tasks: Sequence[Task]) -> Iterator[Trained]:
        trainer = self._trainer
        for task in tasks:
            for epoch in range(task.epochs, self._epochs):
                if epoch == task.epochs:
                    trainer.begin(task.chunk)
                    if task.epochs:
                        trainer.restore(task.state)
                means = trainer.epoch(task.chunk, epoch)
                yield Trained(task.chunk, epoch, *means, trainer.state)
