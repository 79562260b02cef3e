"""How far a search has come."""

from typing import NamedTuple

import numpy as np

from l2keras.tuning.chunks import Chunk
from l2keras.tuning.learning_curves import LearningCurves
from l2keras.tuning.settings import Settings
from l2keras.tuning.tasks import Task


class Way(NamedTuple):
    """How replicas are trained.

    Attributes:
        trainer: The name of the class of the trainer.
        at_once: How many replicas are trained together.
        why_one_by_one: Why no more than one, if not for the memory.
    """

    trainer: str
    at_once: int
    why_one_by_one: str | None


class Progress:
    """How far a search has come.

    Attributes:
        curves: What it found.
        done: Which replicas are trained to their end: (candidates, folds).
        way: How they are trained, `None` before the first epoch.
        unfinished: The chunk that was broken off, and is not yet gone on with.
    """

    def __init__(self, settings: Settings) -> None:
        self.curves = LearningCurves.of_shape(settings.shape)
        self.done = np.zeros(settings.shape[:2], dtype=bool)
        self.way: Way | None = None
        self.unfinished: Task | None = None

    def is_done(self, chunk: Chunk) -> bool:
        return bool(self.done[np.ix_(chunk.candidates, chunk.folds)].all())

    def task_of(self, chunk: Chunk, way: Way) -> Task:
        """Returns what is to be trained of a chunk."""
        if (
            self.unfinished is None
            or self.way is None
            or self.way.trainer != way.trainer
            or self.unfinished.chunk != chunk
        ):
            return Task(chunk, 0, [])
        return self.unfinished

    def begin(self, way: Way) -> None:
        """Notes that replicas are trained in this way from now on.

        What a chunk that was broken off had come to is forgotten, unless its
        trainer went on from there.
        """
        self.way = way
        if self.unfinished is not None:
            chunk = self.unfinished.chunk
            for candidate in chunk.candidates:
                for fold in chunk.folds:
                    if not self.done[candidate, fold]:
                        self.curves.forget(candidate, fold)
        self.unfinished = None

    def go_on(self, way: Way) -> None:
        """Notes that the chunk that was broken off is in training again."""
        self.way = way

    def count(self, chunk: Chunk, epochs: int) -> None:
        """Notes how many epochs a chunk was trained."""
        if self.unfinished is not None and self.unfinished.chunk == chunk:
            self.unfinished = None
        if epochs == self.curves.train_loss.shape[-1]:
            self.done[np.ix_(chunk.candidates, chunk.folds)] = True
