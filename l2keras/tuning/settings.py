"""The arguments of a search, checked."""

import pathlib
from typing import NamedTuple

import numpy as np

from l2keras.tuning.folds import Fold, order_of


class Settings(NamedTuple):
    """The arguments of `tune_strength`, checked."""

    strengths: np.ndarray
    folds: list[Fold]
    epochs: int
    batch_size: int
    shuffle: bool
    seed: int
    at_once: int | None
    backup_dir: pathlib.Path | None
    verbose: int

    @property
    def shape(self) -> tuple[int, int, int]:
        """The numbers of strengths, folds and epochs."""
        return len(self.strengths), len(self.folds), self.epochs

    def training_order(self, fold: int, epoch: int) -> np.ndarray:
        """Returns the rows to train on in the order in which they are seen."""
        return order_of(self.folds[fold], fold, epoch, self.shuffle, self.seed)
