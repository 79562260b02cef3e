"""The search behind `tune_strength`: which replicas are trained, and how.

There are three ways, each exact, and on small models each slower than the one
before: replicas stacked and mapped, by functions compiled once; one after
another by the same functions; and one after another by `fit`. A way that cannot
be gone is left for the next, and the user is told why.
"""

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np

from l2keras.tuning import fingerprint
from l2keras.tuning.backup import Backup
from l2keras.tuning.chunks import chunks_of, replicas_at_once
from l2keras.tuning.fit_trainer import FitTrainer
from l2keras.tuning.grid import stackable
from l2keras.tuning.grid.stack import StackingError
from l2keras.tuning.learning_curves import LearningCurves
from l2keras.tuning.progress import Progress, Way
from l2keras.tuning.settings import Settings
from l2keras.tuning.stack_trainer import (
    Prototype,
    StackTrainer,
    build_prototype,
)
from l2keras.tuning.trainer import Trainer

_STACK, _FIT = StackTrainer.__name__, FitTrainer.__name__


class Outcome(NamedTuple):
    """What a search came to.

    Attributes:
        curves: The losses and metrics of all replicas.
        why_one_by_one: Why they were trained one after another, if they were.
        was_interrupted: Whether Ctrl-C ended it.
    """

    curves: LearningCurves
    why_one_by_one: str | None
    was_interrupted: bool


def search(
    build_model: Callable[[Any], keras.Model], data: Any, settings: Settings
) -> Outcome:
    """Trains a replica for each strength and fold."""
    prototype, reason = build_prototype(build_model, data, settings)
    by_fit: FitTrainer | None = None
    if prototype is not None:
        digests = prototype.digests
    else:
        by_fit = FitTrainer(build_model, data, settings)
        digests = by_fit.digests
    progress, backup = Progress(settings), None
    if settings.backup_dir is not None:
        backup = Backup(
            settings.backup_dir,
            fingerprint.digest_of_arguments(settings, data),
            [*fingerprint.digests_of_versions(), *digests()],
        )
        progress = backup.load(settings)
    way = _first_way(prototype, reason, progress, settings)
    while way.trainer == _STACK:
        assert prototype is not None
        stacked = StackTrainer(prototype, data, settings)
        try:
            return _train(stacked, way, progress, backup, settings)
        except StackingError as error:
            way = _next_way(way, str(error))
    if by_fit is None:
        by_fit = FitTrainer(build_model, data, settings)
    return _train(by_fit, way, progress, backup, settings)


def _first_way(
    prototype: Prototype | None,
    reason: str | None,
    progress: Progress,
    settings: Settings,
) -> Way:
    """Returns the way to try first.

    A search that goes on does so in the way that it was begun, since the memory
    that is free may be another by now.
    """
    if progress.way is not None and settings.at_once is None:
        return progress.way
    if prototype is None:
        return Way(_FIT, 1, reason)
    reason = stackable.why_not_alone(prototype.model)
    if reason is not None:
        return Way(_FIT, 1, reason)
    reason = stackable.why_not_mapped(prototype.model, prototype.starts)
    if reason is not None:
        return Way(_STACK, 1, reason)
    return Way(_STACK, replicas_at_once(prototype.model, settings), None)


def _next_way(way: Way, reason: str) -> Way:
    """Returns the way to try after one that could not be gone."""
    return Way(_STACK if way.at_once > 1 else _FIT, 1, reason)


def _train(
    trainer: Trainer,
    way: Way,
    progress: Progress,
    backup: Backup | None,
    settings: Settings,
) -> Outcome:
    """Trains all chunks that are not done; returns what `search` does.

    Raises:
        StackingError: If the first chunk fails, other than by `fit`, or a stack
            is found to be trained to other weights.
    """
    every = chunks_of(settings, way.at_once)
    chunks = [each for each in every if not progress.is_done(each)]
    chunks.sort(key=lambda each: not progress.epochs_of(each, way))
    bar = keras.utils.Progbar(
        len(every) * settings.epochs, verbose=settings.verbose
    )
    passed = (len(every) - len(chunks)) * settings.epochs
    has_begun = False
    try:
        for chunk in chunks:
            begun = progress.epochs_of(chunk, way)
            for epoch in range(begun, settings.epochs):
                try:
                    if epoch == begun:
                        trainer.begin(chunk)
                        if begun:
                            assert progress.unfinished is not None
                            trainer.restore(progress.unfinished.state)
                    means = trainer.epoch(chunk, epoch)
                except Exception as error:
                    if way.trainer == _FIT or has_begun:
                        raise
                    raise StackingError(_first_line(error)) from error
                if not has_begun:
                    has_begun = True
                    _tell(way, progress, begun)
                    (progress.go_on if begun else progress.begin)(way)
                progress.curves.record(chunk, epoch, *means)
                progress.count(chunk, epoch + 1)
                bar.update(passed + epoch + 1)
                if backup is not None:
                    backup.save(progress, trainer, chunk, epoch + 1)
            passed += settings.epochs
    except KeyboardInterrupt:
        if np.isnan(progress.curves.validation_loss).all():
            raise
        return Outcome(progress.curves, way.why_one_by_one, True)
    if backup is not None:
        backup.remove()
    return Outcome(progress.curves, way.why_one_by_one, False)


def _tell(way: Way, progress: Progress, begun: int) -> None:
    """Warns of what takes longer than it might have."""
    if way.why_one_by_one is not None:
        warnings.warn(
            "The replicas are trained one after another: "
            f"{way.why_one_by_one}.",
            stacklevel=5,
        )
    if progress.unfinished is not None and not begun:
        before = progress.way
        assert before is not None
        warnings.warn(
            f"The search was broken off while it trained {before.at_once} "
            f"replicas at once, and goes on with {way.at_once}. The "
            f"{progress.unfinished.epochs} epochs of those that were in "
            "training are trained again.",
            stacklevel=5,
        )


def _first_line(error: Exception) -> str:
    if isinstance(error, StackingError):
        return str(error)
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0].rstrip('.')}"
