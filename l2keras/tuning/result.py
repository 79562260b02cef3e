"""The result of a search: all losses, and the choice."""

import csv
import dataclasses
import html
import math
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas
    from matplotlib.axes import Axes

from l2keras import _tables, _validation, plots
from l2keras.tuning import tables
from l2keras.tuning.folds import Fold
from l2keras.tuning.monitor import DATA_LOSS, Monitor


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class TuningResult:
    """The losses of every replica that `tune_strength` trained, and the choice.

    A candidate is one strength, or one for each key. The losses are data
    losses, without any penalty: a penalized loss is lowest for the weakest
    penalty, however good the model is. A replica that was not trained to its
    end, or whose loss is not finite any more, has NaN from there.

    In a notebook it shows itself as a table and a figure.

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
        monitor: The metric by which strengths and epochs are chosen:
            `val_data_loss`, or one of `metrics` that begins with `val_`.
        mode: `"min"` if its lower values are better, `"max"` if higher are.
        parameters: The numbers of parameters that `compact` would leave at the
            end of training, of shape (candidates, folds). `None` if they are
            not counted, which is where no penalty makes exact zeros by
            `Proximal`, or `compact` refuses the model.
        widths: The widths that it would leave of each layer, by the layer's
            path, as arrays of the same shape.
        inputs_read: For each index of an input, 1 where the outputs depend on
            it and 0 where not, by the input's name, as arrays of shape
            (candidates, folds, indices). Their mean over the folds says how
            often a feature is selected.
        unknown_size_reason: Why sizes are not counted, `None` if they are.

    Example:

    >>> import l2keras, numpy as np
    >>> loss = np.array([[[0.5, 0.4], [0.5, 0.5]], [[0.5, 0.3], [0.5, 0.4]]])
    >>> result = l2keras.TuningResult(np.array([0.1, 1.0]), loss, loss, {}, [])
    >>> result.best_strength, result.best_epoch
    (1.0, 2)
    >>> result
    TuningResult of 2 strengths on 2 folds for 2 epochs
    best_strength=1.0, best_epoch=2: val_data_loss 0.35, standard error 0.05
    """

    strengths: np.ndarray
    validation_loss: np.ndarray
    train_loss: np.ndarray
    metrics: Mapping[str, np.ndarray]
    folds: Sequence[Fold]
    fallback_reason: str | None = None
    keys: tuple[str, ...] | None = None
    monitor: str = DATA_LOSS
    mode: str = "min"
    parameters: np.ndarray | None = None
    widths: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    inputs_read: Mapping[str, np.ndarray] = dataclasses.field(
        default_factory=dict
    )
    unknown_size_reason: str | None = None

    @property
    def best_strength(self) -> Any:
        """The strength whose mean over the folds is best, at its best epoch.

        The argument for `build_model`: a float, or a dictionary of them by key.
        Of equally good ones, it is the first.
        """
        return self._strength_at(self.best_index)

    @property
    def best_epoch(self) -> int:
        """The number of epochs after which it is best, for `fit(epochs=)`."""
        return self._best[1] + 1

    @property
    def best_index(self) -> int:
        """The index of the best candidate in `strengths`."""
        return self._best[0]

    @property
    def best_epochs(self) -> np.ndarray:
        """The best epoch of each candidate, counted from one."""
        return self._ranked.argmin(axis=1) + 1

    @property
    def one_standard_error_strength(self) -> float:
        """The strongest strength that is not clearly worse than the best one.

        Its mean, at its own best epoch, is within one standard error of the
        best (Breiman et al., *Classification and Regression Trees*, 1984,
        section 3.4.3).

        For linear models the rule costs little and gives simpler ones. For
        networks it costs more: the loss on new data was 20 % higher than with
        `best_strength`, over six small ones in `benchmarks/tune_strengths.py`.
        The folds differ in the same way for all strengths, so the standard
        error is far wider than the differences between strengths; and more of
        `L2` makes a network no simpler.

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
        index = self._best
        mean, error = self._mean_and_error()
        ranked = self._monitor.ranked(mean)
        within = ranked.min(axis=1) <= ranked[index] + error[index]
        return float(self.strengths[np.flatnonzero(within)[-1]])

    def smallest(self, within: float | str = 0.02) -> Any:
        """The strength of the smallest model that is not much worse.

        Of the strengths whose mean loss is close to the best, it is the one
        that leaves the fewest parameters, as a mean over the folds; of equally
        many, the one that reads the fewest inputs; and of those, the best. Loss
        and size are those at the end of training, so train for as many epochs.

        Args:
            within: How close: 0.02 for a loss that is worse by at most 2 % of
                the best one; or `"standard_error"` for one standard error of
                the best. Defaults to `0.02`.

        Returns:
            The argument for `build_model`: a float, or a dictionary of them by
            key.

        Raises:
            TypeError: If `within` is neither a number nor a string.
            ValueError: If it is negative, not finite, or another string; there
                is one fold and so no standard error; sizes are not known; or
                no strength was trained to its end in all folds.

        Example:

        >>> import l2keras, numpy as np
        >>> loss = np.array([[[0.50], [0.52]], [[0.51], [0.52]]])
        >>> result = l2keras.TuningResult(
        ...     np.array([0.1, 1.0]), loss, loss, {}, [],
        ...     parameters=np.array([[90, 80], [40, 50]]),
        ... )
        >>> result.best_strength, result.smallest(within=0.02)
        (0.1, 1.0)
        """
        if self.parameters is None:
            raise ValueError(
                "The sizes of the models are not known: "
                f"{self.unknown_size_reason or 'they were not counted'}. Use "
                "`best_strength`."
            )
        mean, error = (each[:, -1] for each in self._mean_and_error())
        ranked = self._monitor.ranked(mean)
        size = self.parameters.mean(axis=1)
        ranked = np.where(np.isfinite(size), ranked, np.inf)
        if np.isinf(ranked).all():
            raise ValueError(
                "There is no strength to choose: none was trained to its end "
                "in all folds."
            )
        best = ranked.argmin()
        if within == "standard_error":
            if self.validation_loss.shape[1] < 2:
                raise ValueError(
                    "Argument `within` must be a number where there is one "
                    f"fold, which has no standard error. Received: {within!r}"
                )
            allowed = error[best]
        elif isinstance(within, str):
            raise ValueError(
                "Argument `within` must be a number or 'standard_error'. "
                f"Received: within={within!r}"
            )
        else:
            part = _validation.check_number(within, "within")
            allowed = part * abs(ranked[best])
        is_close = np.isfinite(ranked) & (ranked <= ranked[best] + allowed)
        read = sum(
            (
                each.sum(axis=-1).mean(axis=1)
                for each in self.inputs_read.values()
            ),
            np.zeros(len(size)),
        )
        order = np.lexsort((ranked, read, size, ~is_close))
        return self._strength_at(int(order[0]))

    @property
    def monitored(self) -> np.ndarray:
        """The monitored metric, of shape (candidates, folds, epochs).

        NaN where the data loss is not finite.
        """
        return self._monitor.values(self.validation_loss, self.metrics)

    @property
    def mean_loss(self) -> np.ndarray:
        """The mean validation loss over the folds, (candidates, epochs)."""
        return self.validation_loss.mean(axis=1)

    @property
    def standard_error(self) -> np.ndarray:
        """The standard error of `mean_loss`, NaN if there is one fold."""
        return _standard_error(self.validation_loss)

    def path(self) -> tuple[np.ndarray, np.ndarray]:
        """The monitored metric of each candidate at its best epoch.

        Returns:
            The means over the folds, and their standard errors.
        """
        index = np.arange(len(self.strengths)), self.best_epochs - 1
        mean, error = self._mean_and_error()
        return mean[index], error[index]

    def summary(self, print_fn: Callable[[str], Any] | None = None) -> None:
        """Prints a table with a line for each candidate, at its best epoch.

        With the mean of the monitored metric, its standard error, and the means
        of the other metrics; and the mean of the parameters that `compact`
        would leave at the end of training, if it is known. The strength that
        `one_standard_error_strength` chooses is marked with "one SE".
        """
        names, rows = tables.at_best_epochs(self)
        needed = 1 + names.index("Choice")
        (print_fn or print)(_tables.fitted(names, rows, needed))

    def plot(self, ax: "Axes | None" = None) -> "Axes":
        """Draws the losses, see `l2keras.plot_strength_path`."""
        return plots.plot_strength_path(self, ax)

    def to_frame(self) -> "pandas.DataFrame":
        """A data frame with a row for each candidate, fold and epoch.

        The parameters that `compact` would leave are in the row of the last
        epoch, for which alone they are counted.

        Raises:
            ImportError: If pandas is not installed.
        """
        return _tables.frame(tables.of_all_epochs(self))

    def to_csv(self, path: str | pathlib.Path) -> None:
        """Writes a row for each candidate, fold and epoch, as `to_frame`."""
        columns = tables.of_all_epochs(self)
        with pathlib.Path(path).open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(columns)
            writer.writerows(zip(*columns.values(), strict=True))

    def __repr__(self) -> str:
        return tables.in_two_lines(self)

    def _repr_html_(self) -> str:
        lines = "<br>".join(map(html.escape, repr(self).splitlines()))
        table = _tables.html_table(*tables.at_best_epochs(self))
        picture = ""
        if tables.has_choice(self):
            picture = plots.png(self.plot, f"{self.monitor} by strength")
        return f"<p>{lines}</p>{table}{picture}"

    def _strength_at(self, index: int) -> Any:
        """The argument for `build_model` of a candidate."""
        values = self.strengths[index]
        if self.keys is None:
            return float(values)
        return dict(zip(self.keys, values.tolist(), strict=True))

    @property
    def _monitor(self) -> Monitor:
        return Monitor(self.monitor, self.mode)

    def _mean_and_error(self) -> tuple[np.ndarray, np.ndarray]:
        """The monitored metric's, each of shape (candidates, epochs)."""
        values = self.monitored
        return values.mean(axis=1), _standard_error(values)

    @property
    def _ranked(self) -> np.ndarray:
        """The means, the best of which is lowest; infinity for no mean."""
        return self._monitor.ranked(self._mean_and_error()[0])

    @property
    def _best(self) -> tuple[int, int]:
        """The candidate and the epoch, from zero, of the best mean."""
        ranked = self._ranked
        if np.isinf(ranked).all():
            raise ValueError(
                "There is no strength to choose: none was trained in all folds."
            )
        candidate, epoch = np.unravel_index(ranked.argmin(), ranked.shape)
        return int(candidate), int(epoch)


def _standard_error(values: np.ndarray) -> np.ndarray:
    """The standard error of the mean over the folds, NaN for one fold."""
    folds = values.shape[1]
    if folds < 2:
        return np.full_like(values[:, 0], np.nan)
    # A replica that diverged has no error, and NumPy need not say so.
    with np.errstate(invalid="ignore", over="ignore"):
        return values.std(axis=1, ddof=1) / math.sqrt(folds)
