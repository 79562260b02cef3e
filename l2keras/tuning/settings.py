"""The arguments of a search, checked; and how its models are built."""

import pathlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import keras
import numpy as np

from l2keras.tuning.folds import Fold, order_of

# From the strengths of one candidate, in the order of `Settings.keys`.
BuildModel: TypeAlias = Callable[[Sequence[Any]], keras.Model]


class Settings(NamedTuple):
    """The arguments of a search, checked.

    Attributes:
        candidates: What is compared, of shape (candidates, strengths): each
            model is built with the strengths of one row.
        keys: By what `build_model` asks for the strengths, `None` if it gets
            one that has no name.
        folds: The rows of each fold.
        epochs: Number of epochs.
        batch_size: Number of rows in a batch.
        shuffle: Whether each epoch sees the rows in another order.
        seed: Of initial weights and orders of rows.
        at_once: How many replicas are trained together, if that was given.
        n_jobs: How many processes train, as it was given.
        backup_dir: Where the search is kept while it runs, if anywhere.
        verbose: 1 for a progress bar, 0 for none.
    """

    candidates: np.ndarray
    keys: tuple[str, ...] | None
    folds: list[Fold]
    epochs: int
    batch_size: int
    shuffle: bool
    seed: int
    at_once: int | None
    n_jobs: int | None
    backup_dir: pathlib.Path | None
    verbose: int

    @property
    def shape(self) -> tuple[int, int, int]:
        """The numbers of candidates, folds and epochs."""
        return len(self.candidates), len(self.folds), self.epochs

    def name_of(self, candidate: int) -> str:
        """Returns how a candidate is told from others in messages."""
        values = [f"{value:.4g}" for value in self.candidates[candidate]]
        if self.keys is None:
            return f"strength {values[0]}"
        pairs = zip(self.keys, values, strict=True)
        return ", ".join(f"{key} {value}" for key, value in pairs)

    def training_order(self, fold: int, epoch: int) -> np.ndarray:
        """Returns the rows to train on in the order in which they are seen."""
        return order_of(self.folds[fold], fold, epoch, self.shuffle, self.seed)
