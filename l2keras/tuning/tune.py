"""The strength chosen by cross-validation, with all its models at once."""

import pathlib
import warnings
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from l2keras._keras.random_states import random_states_kept
from l2keras.tuning.arguments import check_arguments, check_strengths
from l2keras.tuning.candidates import warn_of_lost
from l2keras.tuning.result import TuningResult
from l2keras.tuning.search import search


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
    n_jobs: int | None = None,
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
            in a search that goes on, to as many as it was begun with. Of
            `n_jobs` processes each trains so many, or has its share.
        n_jobs: How many processes train, each some of the replicas, by joblib:
            -1 for one on each core. Defaults to 1, or to what
            `joblib.parallel_config` says, by which the workers of dask and ray
            train too. A search by several processes shows and keeps what is
            done whenever replicas are trained to their end.
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
            file of another search, or one that cannot be read; or joblib is
            to work by threads or forks.
        ImportError: If `n_jobs` needs joblib, and it is not installed.
        RuntimeError: If a process of `n_jobs` dies, or builds other models.

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
    values = check_strengths(strengths, "strengths")
    data, settings = check_arguments(
        build_model,
        x,
        y,
        sample_weight,
        folds,
        groups,
        candidates=values[:, None],
        keys=None,
        epochs=epochs,
        batch_size=batch_size,
        shuffle=shuffle,
        seed=seed,
        at_once=at_once,
        n_jobs=n_jobs,
        backup_dir=backup_dir,
        verbose=verbose,
    )
    with random_states_kept():
        outcome = search(
            lambda strengths: build_model(*strengths), data, settings
        )
    result = TuningResult(
        values, *outcome.curves, settings.folds, outcome.why_one_by_one
    )
    _warn_of(result, outcome.was_interrupted)
    return result


def _warn_of(result: TuningResult, interrupted: bool) -> None:
    """Warns of what makes the choice doubtful."""
    warn_of_lost(
        result,
        interrupted,
        lambda index: f"{result.strengths[index]:.4g}",
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
