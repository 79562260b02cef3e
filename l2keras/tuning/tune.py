"""The strength chosen by cross-validation, with all its models at once."""

import pathlib
import warnings
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from l2keras import _validation
from l2keras._keras.random_states import random_states_kept
from l2keras.tuning.backup import check_folder
from l2keras.tuning.folds import check_data, draw_folds
from l2keras.tuning.result import TuningResult
from l2keras.tuning.search import search
from l2keras.tuning.settings import Settings

# The highest that NumPy takes, and so `keras.utils.set_random_seed`.
_HIGHEST_SEED = 2**32 - 1


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
        groups: Label for each row, or `None`. Rows of one label are never on
            both sides of a fold, if `folds` is a number; a splitter takes them
            by this name.
        shuffle: Whether each epoch sees the rows in another order. If not, it
            is that of the fold. Defaults to `True`.
        seed: Of the folds, the initial weights, and the order of rows. What
            NumPy, Python and the backend draw after the search does not depend
            on it: their generators are put back to where they were.
        at_once: How many replicas are trained together. Defaults to as many as
            the memory has room for, or to one where a layer is faster alone;
            in a search that goes on, to as many as it was begun with.
        backup_dir: Folder in which the search is kept while it runs. Called
            again with the same arguments, it goes on where it was broken off.
            It raises an error if `build_model` returns something else by then:
            other layers, losses, optimizers, initial weights, or other code in
            any of them.
        verbose: 1 for a progress bar, 0 for none.

    Returns:
        The losses and metrics of all replicas, and the choice. After Ctrl-C
        too, of what was done until then.

    Raises:
        TypeError: If an argument is of the wrong type, `build_model` returns no
            compiled model, or hands the strength to a regularizer of Keras.
        ValueError: If `strengths` are empty, negative, not finite, or do not
            rise; a fold is not one, or cannot be made of whole `groups`; the
            data differ in length or hold NaN; `seed` is too high; `build_model`
            ignores its strength; or `backup_dir` cannot be written, or has the
            file of another search, or one that cannot be read.

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
    data = check_data(x, y, sample_weight)
    seed = _validation.check_integer(seed, "seed", minimum=0)
    settings = Settings(
        strengths=values,
        folds=draw_folds(folds, data, groups, seed),
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
    _check_seed(seed, len(settings.folds))
    if settings.backup_dir is not None:
        check_folder(settings.backup_dir)
    with random_states_kept():
        outcome = search(build_model, data, settings)
    result = TuningResult(
        values, *outcome.curves, settings.folds, outcome.why_one_by_one
    )
    _warn_of(result, outcome.was_interrupted)
    return result


def _check_strengths(strengths: Any) -> np.ndarray:
    message = "Argument `strengths` must be finite numbers >= 0, rising. "
    values = np.asarray(strengths)
    if values.ndim != 1 or values.dtype.kind not in "fiu" or not len(values):
        raise ValueError(f"{message}Received: strengths={strengths!r}")
    values = values.astype("float64")
    # Strengths are float32 where they are used.
    if not (values <= np.finfo("float32").max).all() or (values < 0).any():
        raise ValueError(f"{message}Received: strengths={strengths!r}")
    if (np.diff(values) <= 0).any():
        raise ValueError(
            f"{message}Sort them, and leave out repetitions: "
            f"`np.unique(strengths)`. Received: strengths={strengths!r}"
        )
    return values


def _check_seed(seed: int, folds: int) -> None:
    """Raises an error unless each fold can have a seed of its own."""
    highest = _HIGHEST_SEED - (folds - 1)
    if seed > highest:
        raise ValueError(
            f"Argument `seed` must be an integer <= {highest}: each of the "
            f"{folds} folds has a seed of its own, `seed + fold`, and the "
            f"highest is {_HIGHEST_SEED}. Received: seed={seed}"
        )


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
