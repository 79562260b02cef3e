"""What a search finds: losses and metrics of each replica, epoch by epoch."""

import re
from typing import NamedTuple

import numpy as np

from l2keras.tuning.chunks import Chunk
from l2keras.tuning.grid.stack import Means


class LearningCurves(NamedTuple):
    """Arrays of shape (candidates, folds, epochs), NaN where nothing is yet."""

    validation_loss: np.ndarray
    train_loss: np.ndarray
    metrics: dict[str, np.ndarray]

    @classmethod
    def of_shape(cls, shape: tuple[int, int, int]) -> "LearningCurves":
        return cls(np.full(shape, np.nan), np.full(shape, np.nan), {})

    def record(
        self, chunk: Chunk, epoch: int, train: Means, validation: Means
    ) -> None:
        """Writes the means of an epoch to where they belong."""
        candidates, folds = np.ix_(chunk.candidates, chunk.folds)
        where = candidates, folds, epoch
        self.train_loss[where] = train.data_loss.T
        self.validation_loss[where] = validation.data_loss.T
        values = {
            **train.metrics,
            **{f"val_{k}": each for k, each in validation.metrics.items()},
        }
        names = self._rename(list(values))
        for name, each in zip(names, values.values(), strict=True):
            if name not in self.metrics:
                self.metrics[name] = np.full(self.train_loss.shape, np.nan)
            self.metrics[name][where] = each.T

    def forget(self, candidate: int, fold: int) -> None:
        """Leaves nothing of a replica."""
        for each in (
            self.validation_loss,
            self.train_loss,
            *self.metrics.values(),
        ):
            each[candidate, fold] = np.nan

    def _rename(self, names: list[str]) -> list[str]:
        """Returns the names under which the metrics are kept.

        Keras counts up the names of metrics and layers that were given none, so
        they differ from one model to the next. They are matched by their places
        then, and the numbers that differ are left out.
        """
        known = list(self.metrics)
        if not known or known == names or len(known) != len(names):
            return names
        common = [
            _without_counts(*pair) for pair in zip(known, names, strict=True)
        ]
        if None in common:
            return names
        kept: list[str] = []
        for name in common:
            assert name is not None
            number, unique = 0, name
            while unique in kept:  # As Keras names the second of its kind.
                number += 1
                unique = f"{name}_{number}"
            kept.append(unique)
        arrays = list(self.metrics.values())
        self.metrics.clear()
        self.metrics.update(zip(kept, arrays, strict=True))
        return kept


def _without_counts(one: str, other: str) -> str | None:
    """Returns what two names have in common but for their numbers.

    `None` if they differ in more than numbers.

    >>> _without_counts("head_1_auc_5", "head_1_auc_7")
    'head_1_auc'
    """
    first, second = one.split("_"), other.split("_")
    common = []
    while first or second:
        if first[:1] == second[:1]:
            common.append(first.pop(0))
            del second[0]
        else:
            numbers = [
                words.pop(0)
                for words in (first, second)
                if words and re.fullmatch("[0-9]+", words[0])
            ]
            if not numbers:
                return None
    return "_".join(common)
