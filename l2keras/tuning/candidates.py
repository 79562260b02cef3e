"""The losses of candidates in all folds, and which candidate is best."""

import csv
import math
import pathlib
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from l2keras import _tables


class CandidateLosses:
    """What can be said of candidates by their losses alone.

    Attributes:
        validation_loss: Of shape (candidates, folds, epochs), NaN where there
            is none.
        train_loss: The same.
        metrics: Arrays of the same shape, by name.
    """

    validation_loss: np.ndarray
    train_loss: np.ndarray
    metrics: Mapping[str, np.ndarray]

    @property
    def mean_loss(self) -> np.ndarray:
        """The mean validation loss over the folds, (candidates, epochs)."""
        return self.validation_loss.mean(axis=1)

    @property
    def standard_error(self) -> np.ndarray:
        """The standard error of `mean_loss`, of the same shape."""
        folds = self.validation_loss.shape[1]
        # A replica that diverged has no error, and NumPy need not say so.
        with np.errstate(invalid="ignore", over="ignore"):
            deviation = self.validation_loss.std(axis=1, ddof=1)
        return deviation / math.sqrt(folds)

    @property
    def best_epoch(self) -> int:
        """After how many epochs it is best: what to hand to `fit(epochs=)`."""
        return self._best[1] + 1

    def path(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns mean loss and standard error, each at its best epoch."""
        epochs = self._judged.argmin(axis=1)
        index = np.arange(len(epochs)), epochs
        return self.mean_loss[index], self.standard_error[index]

    @property
    def _judged(self) -> np.ndarray:
        """The mean loss, with infinity where there is none."""
        return np.nan_to_num(self.mean_loss, nan=np.inf)

    @property
    def _lowest(self) -> np.ndarray:
        """The mean loss of each candidate at its best epoch."""
        return self._judged.min(axis=1)

    @property
    def _best(self) -> tuple[int, int]:
        """The candidate and the epoch, from zero, of the lowest mean loss."""
        losses = self._judged
        if np.isinf(losses).all():
            raise ValueError(
                "There is no strength to choose: none was trained in all folds."
            )
        candidate, epoch = np.unravel_index(losses.argmin(), losses.shape)
        return int(candidate), int(epoch)

    def _table(
        self, columns: Mapping[str, Sequence[str]], choices: Sequence[str]
    ) -> str:
        """Returns a table with a line for each candidate, at its best epoch.

        Args:
            columns: What a candidate is, by the heading.
            choices: What is said of each.
        """
        validation = {
            name: values
            for name, values in self.metrics.items()
            if name.startswith("val_")
        }
        table = _tables.table(
            left=[],
            right=[
                *columns,
                "Epoch",
                "Loss",
                "Standard error",
                "Choice",
                *validation,
            ],
        )
        for index, choice in enumerate(choices):
            epoch = int(self._judged[index].argmin())
            table.add_row(
                *(values[index] for values in columns.values()),
                str(epoch + 1),
                f"{self.mean_loss[index, epoch]:.5g}",
                f"{self.standard_error[index, epoch]:.2g}",
                choice,
                *(
                    f"{values[index, :, epoch].mean():.4g}"
                    for values in validation.values()
                ),
            )
        console = _tables.console(width=100)
        with console.capture() as captured:
            console.print(table)
        return _tables.text(captured.get())

    def _write(
        self,
        path: str | pathlib.Path,
        headings: Sequence[str],
        values_of: Callable[[int], Sequence[Any]],
    ) -> None:
        """Writes a row for each candidate, fold and epoch.

        Args:
            path: Of the file.
            headings: Of what a candidate is.
            values_of: Function from a candidate to what it is.
        """
        columns = {
            "train_loss": self.train_loss,
            "validation_loss": self.validation_loss,
            **self.metrics,
        }
        with pathlib.Path(path).open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow([*headings, "fold", "epoch", *columns])
            for c, f, e in np.ndindex(self.validation_loss.shape):
                writer.writerow(
                    [
                        *values_of(c),
                        f,
                        e + 1,
                        *(values[c, f, e] for values in columns.values()),
                    ]
                )


def warn_of_lost(
    result: CandidateLosses, interrupted: bool, name_of: Callable[[int], str]
) -> None:
    """Warns of replicas without a loss at their end.

    Args:
        result: Of the search.
        interrupted: Whether Ctrl-C ended it.
        name_of: Function from a candidate to what it is called.
    """
    lost = ~np.isfinite(result.validation_loss[:, :, -1])
    if interrupted:
        warnings.warn(
            f"The search was interrupted: {lost.sum()} of {lost.size} replicas "
            "were not trained to their end.",
            stacklevel=4,
        )
    elif lost.any():
        which = ", ".join(
            map(name_of, np.flatnonzero(lost.any(axis=1)).tolist())
        )
        warnings.warn(
            f"The loss of {lost.sum()} of {lost.size} replicas is not finite, "
            f"at the strengths {which}. The others are not affected. A lower "
            "learning rate may help.",
            stacklevel=4,
        )
