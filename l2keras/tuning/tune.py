"""The strength of a penalty, or several, chosen by cross-validation."""

import pathlib
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np

from l2keras.tuning import rounds
from l2keras.tuning.result import TuningResult
from l2keras.tuning.run import Search
from l2keras.tuning.settings import Settings, check_strengths


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
    monitor: str = "val_data_loss",
    mode: str | None = None,
    shuffle: bool = True,
    seed: int = 0,
    at_once: int | None = None,
    n_jobs: int | None = None,
    backup_dir: str | pathlib.Path | None = None,
    verbose: int = 1,
) -> TuningResult:
    """Chooses the strength of a penalty, or several, by cross-validation.

    For each candidate and each fold a replica of the model is trained on the
    fold's rows and judged, after each epoch, by its data loss on those held
    out. The replicas differ in nothing that shapes the computation, so they are
    trained together: each ends as its own `model.fit` would have, from the same
    initial weights over the same batches. A probe sees to that: before the
    search, the first steps of one replica are trained by its own `fit` and
    compared. Where it finds a difference, the replicas are trained one after
    another, with the same result, and a warning says why. It does not find a
    model whose behaviour changes later, by a counter in Python, for example.

    The replicas of a fold start from the same weights, drawn anew for each
    fold, by `keras.utils.set_random_seed(seed + fold)`.

    Of one strength, an array of candidates is compared. Several have names, and
    are searched in rounds: one strength for all of them; then each alone moved
    by powers of ten, and those that gain by it together; then the same in
    smaller steps. So the choice is, on these folds, no worse than one strength
    for all, if all are searched in the same range.
    Several pay where inputs or branches of a model differ in their worth. The
    layers of one chain need one strength only: between ReLUs one kernel can
    shrink and the next grow, and only the product of their strengths matters.

    A search seeds the random numbers of the process, and restores their
    generators at its end. Other threads should not draw from them meanwhile; a
    search in another thread waits.

    Args:
        build_model: Function from a strength, or a dictionary of them by name,
            to a compiled model. It gets placeholders, which can be multiplied
            and divided by numbers, multiplied by schedules, and handed to
            l2keras's regularizers, schedules and `DecoupledWeightDecay` in
            place of numbers; and later from you the numbers that were chosen.
        x: Array, or list or dictionary of arrays: all the rows.
        y: The same, the targets.
        strengths: For one strength, the candidates: finite numbers >= 0,
            rising. For several, a dictionary by name: `None` to search from
            1e-7 to 10; a number to search around, from a thousandth to a
            thousand times it; or a pair, the lowest and the highest strength.
        folds: Number of folds, into which the rows are divided at random; or a
            splitter of scikit-learn; or pairs of index arrays (rows to train
            on, rows to judge on), of which one will do. Defaults to `5`.
        epochs: Number of epochs.
        batch_size: Number of rows in a batch. Defaults to `32`.
        sample_weight: Weight for each row, or `None`.
        groups: Label for each row, or `None`. Rows of one label are never on
            both sides of a fold, if `folds` is a number; a splitter takes them
            by this name.
        monitor: The metric by which strengths and epochs are chosen, on the
            rows held out: `"val_data_loss"`, or a compiled metric, such as
            `"val_accuracy"`. Not `"val_loss"`, which has the penalty in it, so
            that the weakest would win.
        mode: `"min"` if lower values of the metric are better, `"max"` if
            higher are. Defaults to the guess of Keras's `EarlyStopping`.
        shuffle: Whether each epoch sees the rows in another order. If not, it
            is that of the fold. Defaults to `True`.
        seed: The seed of folds, initial weights, and orders of rows.
        at_once: The number of replicas that are trained together. Defaults to
            as many as fit in memory, or to one where a layer is faster alone;
            in a search that is resumed, to the number before. Of `n_jobs`
            processes each trains so many, or has its share.
        n_jobs: The number of processes that share the replicas, by joblib:
            -1 for one on each core. Defaults to 1, or to the number of
            `joblib.parallel_config`, by which the workers of dask and ray train
            too. A search by several processes shows and saves its progress
            whenever replicas are trained to their end.
        backup_dir: Folder in which the search is saved while it runs. Called
            again with the same arguments, `tune_strength` resumes it. It raises
            an error if the first steps of the model, its optimizer or its
            regularizers have changed.
        verbose: 1 for a progress bar, 0 for none.

    Returns:
        The losses and metrics of all replicas, and the choice. After Ctrl-C
        too, those of the epochs until then. If penalties make exact zeros by
        `Proximal`, also the sizes that `compact` would leave.

    Raises:
        TypeError: If an argument is of the wrong type, `build_model` returns no
            compiled model, or hands the strength to a regularizer of Keras.
        ValueError: If `strengths` are empty, negative, not finite, or do not
            rise; a fold is not one, or cannot be made of whole `groups`; the
            data differ in length or hold NaN; `seed` is too high; `build_model`
            ignores a strength; there is no metric `monitor`, or `mode` must be
            given; or `backup_dir` cannot be written, is in use, or
            has the file of another search, or one that cannot be read.
        ImportError: If `n_jobs` needs joblib, and it is not installed.
        RuntimeError: If a process of `n_jobs` builds other models.

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
    keys, ranges = None, None
    if isinstance(strengths, Mapping):
        ranges = rounds.check_ranges(strengths)
        keys, candidates = tuple(strengths), rounds.first_round(ranges)
    else:
        candidates = check_strengths(strengths)[:, None]
    settings = Settings.of(
        build_model=build_model,
        x=x,
        y=y,
        sample_weight=sample_weight,
        keys=keys,
        folds=folds,
        groups=groups,
        epochs=epochs,
        batch_size=batch_size,
        monitor=monitor,
        mode=mode,
        shuffle=shuffle,
        seed=seed,
        at_once=at_once,
        n_jobs=n_jobs,
        backup_dir=backup_dir,
        verbose=verbose,
    )
    search = Search(settings, candidates)
    interrupted = False
    try:
        with search:
            if ranges is None:
                search.train(candidates)
            else:
                rounds.search(search.losses_of, ranges)
    except KeyboardInterrupt:
        if not np.isfinite(search.curves.validation_loss).any():
            raise
        interrupted = True
    curves = search.curves
    values = curves.candidates
    result = TuningResult(
        values if keys is not None else values[:, 0],
        curves.validation_loss,
        curves.train_loss,
        curves.metrics,
        settings.folds,
        search.fallback_reason,
        keys,
        *search.monitor,
        parameters=search.sizes.parameters(curves.sizes),
        widths=search.sizes.widths(curves.sizes),
        inputs_read=search.sizes.inputs_read(curves.sizes),
        unknown_size_reason=search.sizes.unknown,
    )
    _warn_of_lost(result, interrupted, settings)
    if not interrupted and np.isfinite(result.path()[0]).any():
        if ranges is None:
            _warn_of_edge(result)
        else:
            _warn_of_keys(result, ranges)
    return result


def _warn_of_lost(
    result: TuningResult, interrupted: bool, settings: Settings
) -> None:
    """Warns of replicas without a loss at their end."""
    lost = ~np.isfinite(result.validation_loss[:, :, -1])
    if interrupted:
        warnings.warn(
            f"The search was interrupted: {lost.sum()} of {lost.size} replicas "
            "were not trained to their end.",
            stacklevel=3,
        )
    elif lost.any():
        candidates = result.strengths.reshape(len(lost), -1)
        which = "; ".join(map(settings.name_of, candidates[lost.any(axis=1)]))
        warnings.warn(
            f"The loss of {lost.sum()} of {lost.size} replicas is not finite: "
            f"{which}. The others are not affected. A lower learning rate may "
            "help.",
            stacklevel=3,
        )


def _warn_of_edge(result: TuningResult) -> None:
    """Warns if the best strength is the lowest or the highest."""
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


def _warn_of_keys(result: TuningResult, ranges: np.ndarray) -> None:
    """Warns of strengths at an edge, and of those that make no difference."""
    assert result.keys is not None
    best = list(result.best_strength.values())
    losses = result.mean_loss[:, -1]
    for index, key in enumerate(result.keys):
        others = np.delete(result.strengths, index, axis=1)
        alike = (others == np.delete(best, index)).all(axis=1)
        if alike.sum() > 1 and np.ptp(losses[alike]) == 0:
            warnings.warn(
                f"The strength {key!r} makes no difference: the loss is the "
                f"same for {result.strengths[alike, index].min():.2g} and "
                f"{result.strengths[alike, index].max():.2g}.",
                stacklevel=3,
            )
        elif best[index] in ranges[index]:
            edge = "lowest" if best[index] == ranges[index, 0] else "highest"
            warnings.warn(
                f"The best strength for {key!r}, {best[index]:.2g}, is the "
                f"{edge} that was tried, so a better one may lie outside.",
                stacklevel=3,
            )
