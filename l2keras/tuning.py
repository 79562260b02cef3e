"""The strength chosen by cross-validation, with all its models at once."""

import csv
import dataclasses
import math
import pathlib
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from l2keras import _cross_validation, _search, _tables, _validation, plots
from l2keras._cross_validation import Fold
from l2keras._trainers import Settings

if TYPE_CHECKING:
    from matplotlib.axes import Axes


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
        return self.validation_loss.std(axis=1, ddof=1) / math.sqrt(folds)

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


def tune_strength(
    build_model: Callable[[Any], keras.Model],
    x: Any,
    y: Any,
    strengths: Any,
    *,
    folds: Any = 5,
    epochs: int,
    batch_size: int = 32,
    sample_weight: Any = None,
    groups: Any = None,
    shuffle: bool = True,
    seed: int = 0,
    at_once: int | None = None,
    backup_dir: str | pathlib.Path | None = None,
    verbose: int = 1,
) -> TuningResult:
    """Cross-validates a model under many strengths, training all at once.

    For each strength and each fold a replica of the model is trained on the
    fold's rows and judged, after each epoch, by its data loss on those held
    out. The replicas differ in nothing that shapes the computation, so they are
    trained together: each ends as its own `model.fit` would have, from the same
    initial weights over the same batches. Where that cannot be done exactly
    they are trained one after another, with the same result, and a warning
    says why.

    The replicas of a fold start from the same weights, drawn anew for each
    fold, by `keras.utils.set_random_seed(seed + fold)`.

    Of two strengths, such as those of `L1L2`, one is chosen at a few given
    ratios, each by a search of its own, as is usual for the elastic net:
    `L1L2(l1=0.3 * strength, l2=0.7 * strength)`.

    Args:
        build_model: Function from a strength to a compiled model. It gets
            something that can be multiplied, divided, and handed to l2keras's
            regularizers, or to `DecoupledWeightDecay`, in place of a number;
            and later from you the number that was chosen.
        x: Array, or list or dictionary of arrays: all the rows.
        y: The same, the targets.
        strengths: Finite numbers >= 0, rising.
        folds: Number of folds, into which the rows are dealt at random; or a
            splitter of scikit-learn; or pairs of index arrays (rows to train
            on, rows to judge on). Defaults to `5`.
        epochs: Number of epochs.
        batch_size: Number of rows in a batch. Defaults to `32`.
        sample_weight: Weight for each row, or `None`.
        groups: What the splitter takes by this name.
        shuffle: Whether each epoch sees the rows in another order. If not, it
            is that of the fold. Defaults to `True`.
        seed: Of the folds, the initial weights, and the order of rows.
        at_once: How many replicas are trained together. Defaults to as many as
            the memory has room for, or to one where a layer is faster alone.
        backup_dir: Folder in which the search is kept while it runs. Called
            again with the same arguments, it goes on where it was broken off.
        verbose: 1 for a progress bar, 0 for none.

    Returns:
        The losses and metrics of all replicas, and the choice. After Ctrl-C
        too, of what was done until then.

    Raises:
        TypeError: If an argument is of the wrong type, `build_model` returns no
            compiled model, or hands the strength to a regularizer of Keras.
        ValueError: If `strengths` are empty, negative, not finite, or do not
            rise; a fold is not one; the data differ in length or hold NaN; or
            `build_model` ignores its strength.

    Example:

    >>> import keras, l2keras, numpy as np
    >>> def build_model(strength):
    ...     model = keras.Sequential([
    ...         keras.Input((2,)),
    ...         keras.layers.Dense(1, kernel_regularizer=l2keras.L2(strength)),
    ...     ])
    ...     model.compile(keras.optimizers.SGD(0.1), "mse")
    ...     return model
    >>> x = np.random.default_rng(0).normal(size=(60, 2))
    >>> y = x @ [1.0, -1.0]  # Without noise, nothing is to be regularized.
    >>> result = l2keras.tune_strength(
    ...     build_model, x, y, [0.0, 0.01, 1.0], folds=2, epochs=30, verbose=0
    ... )
    >>> result.validation_loss.shape
    (3, 2, 30)
    >>> result.best_strength
    0.0
    """
    if not callable(build_model):
        raise TypeError(
            "Argument `build_model` must be a function from a strength to a "
            f"compiled model. Received: build_model={build_model!r}"
        )
    if not isinstance(shuffle, bool):
        raise TypeError(
            "Argument `shuffle` must be a boolean. "
            f"Received: shuffle={shuffle!r}"
        )
    if verbose not in (0, 1):
        raise ValueError(
            "Argument `verbose` must be 1 for a progress bar or 0 for none. "
            f"Received: verbose={verbose!r}"
        )
    values = _check_strengths(strengths)
    data = _cross_validation.check_data(x, y, sample_weight)
    seed = _validation.check_integer(seed, "seed", minimum=0)
    settings = Settings(
        strengths=values,
        folds=_cross_validation.draw_folds(folds, data, groups, seed),
        epochs=_validation.check_integer(epochs, "epochs", minimum=1),
        batch_size=_validation.check_integer(
            batch_size, "batch_size", minimum=1
        ),
        shuffle=shuffle,
        seed=seed,
        at_once=None
        if at_once is None
        else _validation.check_integer(at_once, "at_once", minimum=1),
        backup_dir=None if backup_dir is None else pathlib.Path(backup_dir),
        verbose=verbose,
    )
    found, reason, interrupted = _search.search(build_model, data, settings)
    result = TuningResult(values, *found, settings.folds, reason)
    _warn_of(result, interrupted)
    return result


def _check_strengths(strengths: Any) -> np.ndarray:
    message = "Argument `strengths` must be finite numbers >= 0, rising. "
    values = np.asarray(strengths)
    if values.ndim != 1 or values.dtype.kind not in "fiu" or not len(values):
        raise ValueError(f"{message}Received: strengths={strengths!r}")
    values = values.astype("float64")
    if not np.isfinite(values).all() or (values < 0).any():
        raise ValueError(f"{message}Received: strengths={strengths!r}")
    if (np.diff(values) <= 0).any():
        raise ValueError(
            f"{message}Sort them, and leave out repetitions: "
            f"`np.unique(strengths)`. Received: strengths={strengths!r}"
        )
    return values


def _warn_of(result: TuningResult, interrupted: bool) -> None:
    """Warns of what makes the choice doubtful."""
    lost = ~np.isfinite(result.validation_loss[:, :, -1])
    if interrupted:
        warnings.warn(
            f"The search was interrupted: {lost.sum()} of {lost.size} replicas "
            "were not trained to their end.",
            stacklevel=3,
        )
    elif lost.any():
        which = ", ".join(
            f"{s:.4g}" for s in result.strengths[lost.any(axis=1)]
        )
        warnings.warn(
            f"The loss of {lost.sum()} of {lost.size} replicas is not finite, "
            f"at the strengths {which}. The others are not affected. A lower "
            "learning rate may help.",
            stacklevel=3,
        )
    if np.isnan(result.mean_loss).all():
        return
    edges = {result.strengths[-1]: "raise the highest"}
    if result.strengths[0] > 0:
        edges[result.strengths[0]] = "lower the lowest"
    if len(result.strengths) > 1 and result.best_strength in edges:
        warnings.warn(
            f"The best strength, {result.best_strength:.4g}, is at the edge of "
            f"the grid, so a better one may lie outside: "
            f"{edges[result.best_strength]} strength.",
            stacklevel=3,
        )
