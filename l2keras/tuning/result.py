"""What a search for a strength found."""

import dataclasses
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes

from l2keras import plots
from l2keras.tuning.candidates import CandidateLosses
from l2keras.tuning.folds import Fold


@dataclasses.dataclass(frozen=True, eq=False)
class TuningResult(CandidateLosses):
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
    def best_strength(self) -> float:
        """The strength whose mean loss is lowest, at its best epoch."""
        return float(self.strengths[self._best[0]])

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
        """
        best = self._best
        limit = self.mean_loss[best] + self.standard_error[best]
        within = self._lowest <= limit
        return float(self.strengths[np.flatnonzero(within)[-1]])

    def summary(self, print_fn: Callable[[str], Any] | None = None) -> None:
        """Prints a table with a line for each strength, at its best epoch."""
        strengths = [f"{strength:.4g}" for strength in self.strengths]
        choices = [self._choice(strength) for strength in self.strengths]
        (print_fn or print)(self._table({"Strength": strengths}, choices))

    def _choice(self, strength: float) -> str:
        choice = []
        if strength == self.best_strength:
            choice.append("best")
        if strength == self.one_standard_error_strength:
            choice.append("one standard error")
        return ", ".join(choice)

    def plot(self, ax: "Axes | None" = None) -> "Axes":
        """Draws them, see `l2keras.plot_strength_path`."""
        return plots.plot_strength_path(self, ax)

    def to_csv(self, path: str | pathlib.Path) -> None:
        """Writes a row for each strength, fold and epoch."""
        self._write(path, ["strength"], lambda index: [self.strengths[index]])
