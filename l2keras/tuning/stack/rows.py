"""The rows of an epoch, cut into batches."""

from typing import NamedTuple, Self

import numpy as np


class Rows(NamedTuple):
    """The rows of each batch of an epoch, for each fold.

    Attributes:
        full: Integers of shape (folds, batches, batch size).
        rest: Integers of shape (folds, rows of the last, smaller batch).
        number: How many of the full batches there are to go over.
    """

    full: np.ndarray
    rest: np.ndarray
    number: int

    @classmethod
    def of(cls, rows: np.ndarray, batch_size: int) -> Self:
        """Rows of shape (folds, rows), cut as `fit` does."""
        folds, number = rows.shape
        whole = number - number % batch_size
        full = rows[:, :whole].reshape(folds, -1, batch_size)
        return cls(full, rows[:, whole:], full.shape[1])

    def first(self, number: int) -> Self:
        """Those of so many full batches, and of the smaller one.

        Of one full batch at least, if there is no smaller one.
        """
        if not self.rest.shape[1]:
            number = max(number, 1)
        return self._replace(number=min(number, self.number))

    def flat(self) -> np.ndarray:
        """The rows to go over, of shape (folds, rows)."""
        full = self.full[:, : self.number].reshape(len(self.full), -1)
        return np.concatenate([full, self.rest], axis=1)
