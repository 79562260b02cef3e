"""The learning curves of a search: a table that grows with the candidates."""

import re
from collections.abc import Sequence

import numpy as np

from l2keras.tuning.replicas import Chunk, Means


class LearningCurves:
    """Losses and metrics of each replica, epoch by epoch.

    Arrays have the shape (candidates, folds, epochs), and are NaN for epochs
    that were not trained yet.

    Args:
        keys: The number of strengths of a candidate.
        folds: The number of folds.
        epochs: The number of epochs.

    Attributes:
        candidates: The strengths, of shape (candidates, keys).
        validation_loss: The data loss on the rows held out.
        train_loss: The data loss on the batches trained on.
        metrics: The metrics by name, maybe with more axes.
        sizes: The vectors of `Sizes` at the end of training, of shape
            (candidates, folds, length).
        done: Which replicas are trained to their end, of shape
            (candidates, folds).
    """

    def __init__(self, keys: int, folds: int, epochs: int) -> None:
        self.candidates = np.zeros((0, keys))
        self.validation_loss = np.zeros((0, folds, epochs))
        self.train_loss = np.zeros((0, folds, epochs))
        self.metrics: dict[str, np.ndarray] = {}
        self._names: list[str] = []
        self.sizes = np.zeros((0, folds, 0))
        self.done = np.zeros((0, folds), bool)

    def name_metrics(self, names: Sequence[str]) -> None:
        """Sets the names of the metrics, in their order.

        By their places, as Keras counts up the names of metrics and layers that
        were given none: they differ from one model to the next.
        """
        self._names = list(names)

    def set_metrics(self, arrays: Sequence[np.ndarray]) -> None:
        """Sets the metrics, in their order."""
        self.metrics = dict(zip(self._names, arrays, strict=True))

    def set_length_of_sizes(self, length: int) -> None:
        """Sets how many numbers describe the size of a replica."""
        self.sizes = np.full((*self.sizes.shape[:2], length), np.nan)

    def indices(self, candidates: np.ndarray) -> np.ndarray:
        """The rows of candidates, which are added if they are not there."""
        return np.array([self._index(row) for row in candidates])

    def _index(self, candidate: np.ndarray) -> int:
        same = np.flatnonzero((self.candidates == candidate).all(axis=1))
        if len(same):
            return int(same[0])

        def longer(array: np.ndarray, value: float) -> np.ndarray:
            row = np.full((1, *array.shape[1:]), value, array.dtype)
            return np.concatenate([array, row])

        self.candidates = np.concatenate([self.candidates, candidate[None]])
        self.validation_loss = longer(self.validation_loss, np.nan)
        self.train_loss = longer(self.train_loss, np.nan)
        self.sizes = longer(self.sizes, np.nan)
        self.done = longer(self.done, False)
        for name, values in self.metrics.items():
            self.metrics[name] = longer(values, np.nan)
        return len(self.candidates) - 1

    def record(
        self,
        chunk: Chunk,
        epoch: int,
        train: Means,
        validation: Means,
        sizes: np.ndarray | None = None,
    ) -> None:
        """Writes the means of an epoch of a chunk to their places.

        Args:
            chunk: The replicas.
            epoch: The number of the epoch, from zero.
            train: The means of training.
            validation: The means of validation.
            sizes: After the last epoch, the vectors of `Sizes`, of shape
                (folds, candidates, length).
        """
        candidates, folds = self._places(chunk)
        place = candidates, folds, epoch
        self.train_loss[place] = train.data_loss.T
        self.validation_loss[place] = validation.data_loss.T
        values = {
            **train.metrics,
            **{f"val_{k}": mean for k, mean in validation.metrics.items()},
        }
        if [*map(_without_numbers, values)] != [
            *map(_without_numbers, self._names)
        ]:
            raise ValueError(
                "`build_model` must compile the same metrics for all "
                f"strengths. Received: {list(values)}, after {self._names}"
            )
        if not self.metrics:
            shape = self.train_loss.shape
            self.set_metrics(
                [
                    np.full((*shape, *mean.shape[2:]), np.nan)
                    for mean in values.values()
                ]
            )
        for array, mean in zip(
            self.metrics.values(), values.values(), strict=True
        ):
            array[place] = mean.swapaxes(0, 1)
        if sizes is not None:
            self.sizes[candidates, folds] = sizes.swapaxes(0, 1)
        if epoch + 1 == self.train_loss.shape[2]:
            self.done[candidates, folds] = True

    def is_done(self, chunk: Chunk) -> bool:
        """Whether all replicas of a chunk are trained to their end."""
        return bool(self.done[self._places(chunk)].all())

    def _places(self, chunk: Chunk) -> tuple[np.ndarray, np.ndarray]:
        """The indices of all replicas of a chunk."""
        rows = self.indices(chunk.candidates)
        return rows[:, None], np.array(chunk.folds)[None]

    def forget_undone(self) -> None:
        """Removes the numbers of replicas not trained to their end."""
        for array in (
            self.validation_loss,
            self.train_loss,
            self.sizes,
            *self.metrics.values(),
        ):
            array[~self.done] = np.nan


def _without_numbers(name: str) -> str:
    return re.sub(r"_?\d+", "", name)
