"""What a search for a strength found."""

import csv
import dataclasses
import math
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes

from l2keras import _tables, plots
from l2keras.tuning.folds import Fold


@dataclasses.dataclass(frozen=True, eq=False)
class TuningResult:
    """What `tune_strength` found: every loss of every replica, and the choice.

    The losses are data losses, without any penalty: what a strength does to the
    penalized loss says nothing about how good it is. A replica that was not
    trained to its end, or whose loss is no number any more, has NaN from there.

    Attributes:
        strengths: The strengths, rising, of shape (strengths,).
        validation_loss: After each epoch, on the rows held out. Shape
            (strengths, folds, epochs).
        train_loss: The mean over each epoch's batches, of the same shape.
        metrics: The compiled metrics by name, as arrays of the same shape:
            `accuracy` on the batches trained on, `val_accuracy` on the rows
            held out.
        folds: The rows of each fold: pairs of index arrays.
        one_by_one: Why the replicas could not be trained together, or `None` if
            they could.

    Example:

    >>> import l2keras, numpy as np
    >>> loss = np.array([[[0.5, 0.4], [0.5, 0.5]], [[0.5, 0.3], [0.5, 0.4]]])
    >>> result = l2keras.TuningResult(np.array([0.1, 1.0]), loss, loss, {}, [])
    >>> result.best_strength, result.best_epoch
    (1.0, 2)
    """

    strengths: np.ndarray
    validation_loss: np.ndarray
    train_loss: np.ndarray
    metrics: Mapping[str, np.ndarray]
    folds: Sequence[Fold]
    one_by_one: str | None = None

    @property
    def mean_loss(self) -> np.ndarray:
        """The mean validation loss over the folds, (strengths, epochs)."""
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
    def best_strength(self) -> float:
        """The strength whose mean loss is lowest, at its best epoch."""
        return float(self.strengths[self._best[0]])

    @property
    def best_epoch(self) -> int:
        """After how many epochs that is: what to hand to `fit(epochs=)`."""
        return self._best[1] + 1

    @property
    def one_standard_error_strength(self) -> float:
        """The strongest strength that is not clearly worse than the best one.

        Its mean loss, at its own best epoch, is within one standard error of
        the best (Breiman et al., *Classification and Regression Trees*, 1984,
        section 3.4.3).
        """
        best = self._best
        limit = self.mean_loss[best] + self.standard_error[best]
        within = self._lowest <= limit
        return float(self.strengths[np.flatnonzero(within)[-1]])

    @property
    def _lowest(self) -> np.ndarray:
        """The mean loss of each strength at its best epoch."""
        return self._judged.min(axis=1)

    @property
    def _judged(self) -> np.ndarray:
        """The mean loss, with infinity where there is none."""
        return np.nan_to_num(self.mean_loss, nan=np.inf)

    @property
    def _best(self) -> tuple[int, int]:
        losses = self._judged
        if np.isinf(losses).all():
            raise ValueError(
                "There is no strength to choose: none was trained in all folds."
            )
        strength, epoch = np.unravel_index(losses.argmin(), losses.shape)
        return int(strength), int(epoch)

    def summary(self, print_fn: Callable[[str], Any] | None = None) -> None:
        """Prints a table with a line for each strength, at its best epoch."""
        validation = {
            name: values
            for name, values in self.metrics.items()
            if name.startswith("val_")
        }
        table = _tables.table(
            left=[],
            right=[
                "Strength",
                "Epoch",
                "Loss",
                "Standard error",
                "Choice",
                *validation,
            ],
        )
        for index, strength in enumerate(self.strengths):
            epoch = int(self._judged[index].argmin())
            table.add_row(
                f"{strength:.4g}",
                str(epoch + 1),
                f"{self.mean_loss[index, epoch]:.5g}",
                f"{self.standard_error[index, epoch]:.2g}",
                self._choice(strength),
                *(
                    f"{values[index, :, epoch].mean():.4g}"
                    for values in validation.values()
                ),
            )
        console = _tables.console(width=100)
        with console.capture() as captured:
            console.print(table)
        (print_fn or print)(_tables.text(captured.get()))

    def _choice(self, strength: float) -> str:
        choice = []
        if strength == self.best_strength:
            choice.append("best")
        if strength == self.one_standard_error_strength:
            choice.append("one standard error")
        return ", ".join(choice)

    def path(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns mean loss and standard error of each strength at its best."""
        epochs = self._judged.argmin(axis=1)
        index = np.arange(len(self.strengths)), epochs
        return self.mean_loss[index], self.standard_error[index]

    def plot(self, ax: "Axes | None" = None) -> "Axes":
        """Draws them, see `l2keras.plot_strength_path`."""
        return plots.plot_strength_path(self, ax)

    def to_csv(self, path: str | pathlib.Path) -> None:
        """Writes a row for each strength, fold and epoch."""
        columns = {
            "train_loss": self.train_loss,
            "validation_loss": self.validation_loss,
            **self.metrics,
        }
        with pathlib.Path(path).open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["strength", "fold", "epoch", *columns])
            for s, f, e in np.ndindex(self.validation_loss.shape):
                writer.writerow(
                    [
                        self.strengths[s],
                        f,
                        e + 1,
                        *(values[s, f, e] for values in columns.values()),
                    ]
                )
