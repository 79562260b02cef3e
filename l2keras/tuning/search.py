"""The search by cross-validation: which replicas are trained, and how.

There are three ways, each exact, and on small models each slower than the one
before: replicas stacked and mapped, by functions compiled once; one after
another by the same functions; and one after another by `fit`. A way that cannot
be gone is left for the next, and the user is told why.
"""

import warnings
from collections.abc import Iterator
from typing import Any, NamedTuple

import keras
import numpy as np

from l2keras.tuning import backup, fingerprint
from l2keras.tuning.backup_file import BackupFile
from l2keras.tuning.chunks import chunks_of, replicas_at_once
from l2keras.tuning.fit_trainer import FitTrainer
from l2keras.tuning.grid import stackable
from l2keras.tuning.grid.stack import StackingError
from l2keras.tuning.learning_curves import LearningCurves
from l2keras.tuning.progress import Progress, Way
from l2keras.tuning.settings import BuildModel, Settings
from l2keras.tuning.stack_trainer import (
    Prototype,
    StackTrainer,
    build_prototype,
)
from l2keras.tuning.tasks import Engine, InTurn, Trained, WorkersError
from l2keras.tuning.workers import Workers

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


def search(build_model: BuildModel, data: Any, settings: Settings) -> Outcome:
    """Trains a replica for each candidate and fold."""
    workers = Workers.asked_for(settings.n_jobs)
    prototype, reason = build_prototype(build_model, data, settings)
    by_fit: FitTrainer | None = None
    if prototype is not None:
        digests = prototype.digests
    else:
        by_fit = _fit_trainer(build_model, data, settings)
        digests = by_fit.digests
    progress, file = Progress(settings), None
    if settings.backup_dir is not None:
        file = BackupFile(
            settings.backup_dir / "search.npz",
            fingerprint.digest_of_arguments(settings, data),
            [*fingerprint.digests_of_versions(), *digests()],
        )
        progress = backup.load(file, settings)

    def engine(trainer: StackTrainer | FitTrainer) -> Engine:
        if workers is None:
            return InTurn(trainer, settings.epochs)
        return workers.engine(trainer, build_model, data, settings)

    way = _first_way(prototype, reason, progress, settings, workers)
    while way.trainer == _STACK:
        assert prototype is not None
        stacked = StackTrainer(prototype, data, settings)
        try:
            return _train(engine(stacked), way, progress, file, settings)
        except StackingError as error:
            way = _next_way(way, str(error))
    if by_fit is None:
        by_fit = _fit_trainer(build_model, data, settings)
    return _train(engine(by_fit), way, progress, file, settings)


def _fit_trainer(
    build_model: BuildModel, data: Any, settings: Settings
) -> FitTrainer:
    trainer = FitTrainer(build_model, data, settings)
    trainer.check()
    return trainer


def _first_way(
    prototype: Prototype | None,
    reason: str | None,
    progress: Progress,
    settings: Settings,
    workers: Workers | None,
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
    at_once = replicas_at_once(prototype.model, settings)
    if workers is not None and settings.at_once is None:
        candidates, folds, _ = settings.shape
        at_once = workers.share_of(at_once, candidates * folds)
    return Way(_STACK, at_once, None)


def _next_way(way: Way, reason: str) -> Way:
    """Returns the way to try after one that could not be gone."""
    return Way(_STACK if way.at_once > 1 else _FIT, 1, reason)


def _train(
    engine: Engine,
    way: Way,
    progress: Progress,
    file: BackupFile | None,
    settings: Settings,
) -> Outcome:
    """Trains all chunks that are not done; returns what `search` does.

    Raises:
        StackingError: If the first chunk fails, other than by `fit`, or a stack
            is found to be trained to other weights.
    """
    every = chunks_of(settings, way.at_once)
    tasks = [
        progress.task_of(each, way)
        for each in every
        if not progress.is_done(each)
    ]
    tasks.sort(key=lambda task: not task.epochs)
    begun = tasks[0].epochs if tasks else 0
    bar = keras.utils.Progbar(
        len(every) * settings.epochs, verbose=settings.verbose
    )
    passed = (len(every) - len(tasks)) * settings.epochs + begun
    has_begun = False
    try:
        for trained in _stacking_errors(engine.run(tasks), way):
            if not has_begun:
                has_begun = True
                _tell(way, progress, begun)
                (progress.go_on if begun else progress.begin)(way)
            progress.curves.record(*trained[:4])
            progress.count(trained.chunk, trained.epoch + 1)
            passed += 1
            bar.update(passed)
            if file is not None:
                backup.save(file, progress, trained)
    except KeyboardInterrupt:
        if np.isnan(progress.curves.validation_loss).all():
            raise
        return Outcome(progress.curves, way.why_one_by_one, True)
    if file is not None:
        file.remove()
    return Outcome(progress.curves, way.why_one_by_one, False)


def _stacking_errors(
    every_epoch: Iterator[Trained], way: Way
) -> Iterator[Trained]:
    """Yields the same, and takes an error of the first for one of the way.

    Raises:
        StackingError: If there is no first, and another way can be gone.
    """
    has_begun = False
    try:
        for each in every_epoch:
            has_begun = True
            yield each
    except WorkersError:
        raise
    except Exception as error:
        if way.trainer == _FIT or has_begun:
            raise
        raise StackingError(_first_line(error)) from error


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
