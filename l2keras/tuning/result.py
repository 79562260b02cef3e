"""The result of a search: all losses, and the choice."""

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
    """The losses of every replica that `tune_strength` trained, and the choice.

    A candidate is one strength, or one for each key. The losses are data
    losses, without any penalty: what a strength does to the penalized loss says
    nothing about how good it is. A replica that was not trained to its end, or
    whose loss is not finite any more, has NaN from there.

    Attributes:
        strengths: The candidates: of shape (candidates,), rising; or, if there
            are keys, (candidates, keys), in the order in which they were tried.
        validation_loss: After each epoch, on the rows held out. Shape
            (candidates, folds, epochs).
        train_loss: The mean over each epoch's batches, of the same shape.
        metrics: The compiled metrics by name, as arrays of the same shape:
            `accuracy` on the batches trained on, `val_accuracy` on the rows
            held out. One that gives a number for each class has an axis more.
        folds: The rows of each fold: pairs of index arrays.
        fallback_reason: Why the replicas were trained one after another where
            that is slower, or `None` if they were not.
        keys: The names of the strengths, `None` if there is one without a name.

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
    fallback_reason: str | None = None
    keys: tuple[str, ...] | None = None

    @property
    def best_strength(self) -> Any:
        """The strength whose mean loss is lowest, at its best epoch.

        What to hand to `build_model`: a float, or a dictionary of them by key.
        """
        best = self.strengths[self._best[0]]
        if self.keys is None:
            return float(best)
        return dict(zip(self.keys, best.tolist(), strict=True))

    @property
    def best_epoch(self) -> int:
        """After how many epochs it is best: what to hand to `fit(epochs=)`."""
        return self._best[1] + 1

    @property
    def one_standard_error_strength(self) -> float:
        """The strongest strength that is not clearly worse than the best one.

        Its mean loss, at its own best epoch, is within one standard error of
        the best (Breiman et al., *Classification and Regression Trees*, 1984,
        section 3.4.3).

        For linear models the rule costs little and gives simpler ones. Networks
        it costs: their loss on new data was 20 % higher than with
        `best_strength`, over six small ones in `benchmarks/tune_strengths.py`.
        What the folds differ in, all strengths share, so the standard error is
        far wider than what tells two strengths apart; and more of `L2` makes a
        network no simpler.

        Raises:
            ValueError: If there is one fold, or more than one strength.
        """
        if self.keys is not None:
            raise ValueError(
                "The one-standard-error rule is for one strength: of several "
                "it cannot be said which are the strongest. Use "
                f"`best_strength`. Received: the strengths {list(self.keys)}"
            )
        if self.validation_loss.shape[1] < 2:
            raise ValueError(
                "The one-standard-error rule needs at least two folds. Use "
                "`best_strength`. Received: one fold"
            )
        best = self._best
        limit = self.mean_loss[best] + self.standard_error[best]
        within = self._judged.min(axis=1) <= limit
        return float(self.strengths[np.flatnonzero(within)[-1]])

    @property
    def mean_loss(self) -> np.ndarray:
        """The mean validation loss over the folds, (candidates, epochs)."""
        return self.validation_loss.mean(axis=1)

    @property
    def standard_error(self) -> np.ndarray:
        """The standard error of `mean_loss`, NaN if there is one fold."""
        folds = self.validation_loss.shape[1]
        if folds < 2:
            return np.full_like(self.mean_loss, np.nan)
        # A replica that diverged has no error, and NumPy need not say so.
        with np.errstate(invalid="ignore", over="ignore"):
            deviation = self.validation_loss.std(axis=1, ddof=1)
        return deviation / math.sqrt(folds)

    def path(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean loss and standard error of each candidate at its best epoch."""
        epochs = self._judged.argmin(axis=1)
        index = np.arange(len(epochs)), epochs
        return self.mean_loss[index], self.standard_error[index]

    def summary(self, print_fn: Callable[[str], Any] | None = None) -> None:
        """Prints a table with a line for each candidate, at its best epoch."""
        metrics = {
            name: values
            for name, values in self.metrics.items()
            # A number for each class has no place in one cell.
            if name.startswith("val_") and values.ndim == 3
        }
        table = _tables.table(
            left=[],
            right=[
                *(self.keys or ["Strength"]),
                "Epoch",
                "Loss",
                "Standard error",
                "Choice",
                *metrics,
            ],
        )
        mean, error = self.path()
        epochs = self._judged.argmin(axis=1)
        choices = self._choices()
        for index, strengths in enumerate(self._columns()):
            table.add_row(
                *(f"{strength:.4g}" for strength in strengths),
                str(epochs[index] + 1),
                f"{mean[index]:.5g}",
                f"{error[index]:.2g}",
                ", ".join(choices.get(index, [])),
                *(
                    f"{values[index, :, epochs[index]].mean():.4g}"
                    for values in metrics.values()
                ),
            )
        console = _tables.console(width=100)
        with console.capture() as captured:
            console.print(table)
        (print_fn or print)(_tables.text(captured.get()))

    def plot(self, ax: "Axes | None" = None) -> "Axes":
        """Draws the losses, see `l2keras.plot_strength_path`."""
        return plots.plot_strength_path(self, ax)

    def to_csv(self, path: str | pathlib.Path) -> None:
        """Writes a row for each candidate, fold and epoch."""
        columns = {
            "train_loss": self.train_loss,
            "validation_loss": self.validation_loss,
        }
        for name, values in self.metrics.items():
            if values.ndim == 3:
                columns[name] = values
                continue
            flat = values.reshape(*values.shape[:3], -1)
            for index in range(flat.shape[-1]):
                columns[f"{name}_{index}"] = flat[..., index]
        with pathlib.Path(path).open("w", newline="") as file:
            writer = csv.writer(file)
            keys = self.keys or ["strength"]
            writer.writerow([*keys, "fold", "epoch", *columns])
            strengths = self._columns()
            for c, f, e in np.ndindex(self.validation_loss.shape):
                row = (each[c, f, e] for each in columns.values())
                writer.writerow([*strengths[c], f, e + 1, *row])

    @property
    def _judged(self) -> np.ndarray:
        """The mean loss, with infinity where there is none."""
        return np.nan_to_num(self.mean_loss, nan=np.inf)

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

    def _columns(self) -> np.ndarray:
        """The strengths, of shape (candidates, keys)."""
        return self.strengths.reshape(len(self.strengths), -1)

    def _choices(self) -> dict[int, list[str]]:
        """The names of the choices, by candidate."""
        best = self._best[0]
        choices = {best: ["best"]}
        if self.keys is None and self.validation_loss.shape[1] > 1:
            strongest = self.one_standard_error_strength
            index = int(np.flatnonzero(self.strengths == strongest)[0])
            choices.setdefault(index, []).append("one standard error")
        return choices
