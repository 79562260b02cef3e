"""What several strengths that were learned came to."""

import dataclasses
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes

from l2keras import plots
from l2keras.tuning.candidates import CandidateLosses
from l2keras.tuning.folds import Fold


class Candidate(NamedTuple):
    """Strengths that were compared with others.

    Attributes:
        name: What they are, such as `"learned x 0.3"` or `"all 0.001"`.
        strengths: The strengths by key.
    """

    name: str
    strengths: dict[str, float]


@dataclasses.dataclass(frozen=True, eq=False)
class LearnedStrengths(CandidateLosses):
    """What `tune_strengths` found: what it learned, and how that was checked.

    The losses are those of the check: data losses, without any penalty.

    Attributes:
        learned: The strengths that were learned, by key.
        learning_path: What each was after each epoch of learning, by key, as
            arrays of shape (epochs,).
        candidates: What the check compared: multiples of the learned strengths,
            and single strengths.
        validation_loss: Of the check, after each epoch, on the rows held out.
            Shape (candidates, folds, epochs).
        train_loss: The mean over each epoch's batches, of the same shape.
        metrics: The compiled metrics by name, as arrays of the same shape.
        folds: The rows of each fold: pairs of index arrays.
        chains: Keys of which only the product is determined, in tuples: their
            kernels lie one behind another with only ReLUs between.
        one_by_one: Why the models of the check could not be trained together,
            or `None` if they could.

    Example:

    >>> import l2keras, numpy as np
    >>> candidates = [
    ...     ("learned x 1", {"digit": 1e-5, "noise": 0.1}),
    ...     ("all 0.001", {"digit": 1e-3, "noise": 1e-3}),
    ... ]
    >>> loss = np.array([[[0.3, 0.2], [0.3, 0.3]], [[0.5, 0.6], [0.5, 0.7]]])
    >>> result = l2keras.LearnedStrengths(
    ...     {"digit": 1e-5, "noise": 0.1},
    ...     {"digit": np.array([1e-4, 1e-5]), "noise": np.array([0.05, 0.1])},
    ...     candidates, loss, loss, {}, [],
    ... )
    >>> result.strengths, result.best_epoch
    ({'digit': 1e-05, 'noise': 0.1}, 2)
    """

    learned: Mapping[str, float]
    learning_path: Mapping[str, np.ndarray]
    candidates: Sequence[Candidate | tuple[str, dict[str, float]]]
    validation_loss: np.ndarray
    train_loss: np.ndarray
    metrics: Mapping[str, np.ndarray]
    folds: Sequence[Fold]
    chains: Sequence[tuple[str, ...]] = ()
    one_by_one: str | None = None

    @property
    def strengths(self) -> dict[str, float]:
        """The strengths that the check found best: for `build_model`."""
        return dict(self.candidates[self._best[0]][1])

    @property
    def choice(self) -> str:
        """What they are, such as `"learned x 0.3"`."""
        return self.candidates[self._best[0]][0]

    def summary(self, print_fn: Callable[[str], Any] | None = None) -> None:
        """Prints what was learned, and a table of the check."""
        tell = print_fn or print
        for key, strength in self.learned.items():
            tell(f"{key}: {strength:.4g}")
        for chain in self.chains:
            logs = [np.log(self.learned[key]) for key in chain]
            tell(
                f"{', '.join(chain)}: kernels in a chain of ReLUs, of whose "
                "strengths only the product is determined. Their geometric "
                f"mean: {np.exp(np.mean(logs)):.4g}"
            )
        names = [name for name, _ in self.candidates]
        lowest = self._lowest
        is_known = np.isfinite(lowest).any()
        choices = [
            "best" if is_known and index == self._best[0] else ""
            for index in range(len(names))
        ]
        tell(self._table({"Strengths": names}, choices))

    def plot(self, ax: "Axes | None" = None) -> "Axes":
        """Draws the strengths over the epochs of learning, and the choice."""
        return plots.plot_learning_path(self, ax)

    def to_csv(self, path: str | pathlib.Path) -> None:
        """Writes a row of the check for each candidate, fold and epoch."""

        def values(index: int) -> Sequence[Any]:
            name, strengths = self.candidates[index]
            return [name, *strengths.values()]

        self._write(path, ["candidate", *self.learned], values)
