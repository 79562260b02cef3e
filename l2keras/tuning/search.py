"""The search behind `tune_strength`: which replicas are trained, and how.

There are three ways, each exact, and on small models each slower than the one
before: replicas stacked and mapped, by functions compiled once; one after
another by the same functions; and one after another by `fit`. A way that cannot
be gone is left for the next, and the user is told why.
"""

import warnings
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from l2keras._keras import backends, layer_tree, trainer_hooks
from l2keras.models import control
from l2keras.strengths.tuned import Cell, NoValueError, TunedStrength
from l2keras.tuning.backup import Backup
from l2keras.tuning.grid import stackable
from l2keras.tuning.grid.replica import InitialState, Replica
from l2keras.tuning.grid.stack import CannotError, Means
from l2keras.tuning.trainers import (
    Built,
    Chunk,
    FitTrainer,
    Found,
    Settings,
    StackTrainer,
    Trainer,
    check_model,
    take,
)


def search(
    build_model: Callable[[Any], keras.Model], data: Any, settings: Settings
) -> tuple[Found, str | None, bool]:
    """Trains a replica for each strength and fold.

    Returns the losses; why the replicas were trained one after another, if
    they were; and whether Ctrl-C ended it.
    """
    built, reason = _build(build_model, data, settings)
    if built is not None:
        model = built.replica.model
        reason = stackable.why_not_alone(model)
        if reason is None:
            reason = stackable.why_not_mapped(model, built.starts)
            at_once = 1 if reason else _how_many(model, settings)
            for number in dict.fromkeys([at_once, 1]):
                trainer: Trainer = StackTrainer(built, data, settings)
                try:
                    return _train(trainer, number, settings, reason)
                except CannotError as error:
                    reason = str(error)
    trainer = FitTrainer(build_model, data, settings)
    return _train(trainer, 1, settings, reason)


def _build(
    build_model: Callable[[Any], keras.Model], data: Any, settings: Settings
) -> tuple[Built | None, str | None]:
    """Builds a model for each fold; or returns why none can stand for all."""
    cell = Cell()
    starts = []
    model: Any = None
    number = None
    rows = settings.folds[0].train[: settings.batch_size]
    for fold in range(len(settings.folds)):
        keras.utils.set_random_seed(settings.seed + fold)
        try:
            each = build_model(TunedStrength(cell))
        except Exception as error:
            if _is_raised_by_keras_regularizer(error):
                raise TypeError(
                    "`build_model` must hand its strength to a regularizer of "
                    "l2keras, as in `l2keras.L2(strength)`. Keras's own take "
                    "nothing but a number."
                ) from error
            if isinstance(error, NoValueError):
                return None, "`build_model` asks for the value of the strength"
            raise
        check_model(each)
        if len(each.variables) != number:
            random = backends.random_state()
            trainer_hooks.build_for_training(each, take(data, rows))
            # Building may draw random numbers on PyTorch, as it does in `fit`.
            draws = not all(
                map(np.array_equal, random, backends.random_state())
            )
            number = None if draws else len(each.variables)
        if model is None:
            model = each
            replica = Replica(model, cell, data)
        else:
            control.connect_clock(each)
        starts.append(InitialState.of(each))
    if not _uses_strength(model):
        raise ValueError(
            "`build_model` must use the strength that it is given. Received: a "
            "model that has it neither in a regularizer nor in a "
            "`DecoupledWeightDecay`"
        )
    return Built(replica, starts), None


def _is_raised_by_keras_regularizer(error: BaseException) -> bool:
    trace = error.__traceback__
    while trace is not None:
        if layer_tree.is_regularizers_module(trace.tb_frame.f_globals):
            return True
        trace = trace.tb_next
    return False


def _uses_strength(model: keras.Model) -> bool:
    return any(
        isinstance(strength, TunedStrength)
        for strength in control.strength_schedules(model)
    )


def _how_many(model: keras.Model, settings: Settings) -> int:
    """Returns how many replicas memory has room for, and speed asks for."""
    if settings.at_once is not None:
        return settings.at_once
    on_cpu = backends.device_name() == "CPU"
    if on_cpu and not stackable.is_cheap_to_map(model):
        return 1
    # Weights, their gradients and the optimizer's two slots; and what each
    # layer makes of a batch, forward and back.
    numbers = 5 * model.count_params()
    for _, layer in layer_tree.layers_by_path(model):
        for tensor in keras.tree.flatten(getattr(layer, "output", ())):
            numbers += 4 * settings.batch_size * _size(tensor.shape[1:])
    return max(1, backends.free_memory() // 4 // (4 * max(1, numbers)))


def _size(shape: tuple[int | None, ...]) -> int:
    size = 1
    for each in shape:
        size *= each or 1
    return size


def _chunks(settings: Settings, at_once: int) -> list[Chunk]:
    """Returns all replicas, in chunks of folds that have as many rows."""
    geometries: dict[tuple[int, int], list[int]] = {}
    for index, fold in enumerate(settings.folds):
        size = len(fold.train), len(fold.validation)
        geometries.setdefault(size, []).append(index)
    number = len(settings.strengths)
    pieces = -(-number // at_once)
    length = -(-number // pieces)
    chunks = []
    for folds in geometries.values():
        # Folds in equal parts, too.
        width = max(1, at_once // number)
        while len(folds) % min(width, len(folds)):
            width -= 1
        width = min(width, len(folds))
        for first in range(0, len(folds), width):
            for begin in range(0, number, length):
                strengths = list(range(begin, min(begin + length, number)))
                strengths += [strengths[-1]] * (length - len(strengths))
                chunks.append(Chunk(folds[first : first + width], strengths))
    return chunks


def _train(
    trainer: Trainer, at_once: int, settings: Settings, reason: str | None
) -> tuple[Found, str | None, bool]:
    """Trains all chunks; returns what `search` does.

    Raises:
        CannotError: If the first chunk fails, other than by `fit`, or a stack
            is found to be trained to other weights.
    """
    shape = len(settings.strengths), len(settings.folds), settings.epochs
    found = Found(np.full(shape, np.nan), np.full(shape, np.nan), {})
    chunks = _chunks(settings, at_once)
    backup = Backup(trainer, found, settings, len(chunks))
    done, begun = backup.load()
    bar = keras.utils.Progbar(
        len(chunks) * settings.epochs, verbose=settings.verbose
    )
    told = reason is None
    try:
        for index in range(done, len(chunks)):
            chunk = chunks[index]
            for epoch in range(begun, settings.epochs):
                try:
                    if epoch == begun:
                        trainer.begin(chunk)
                        backup.restore()
                    means = trainer.epoch(chunk, epoch)
                except Exception as error:
                    if isinstance(trainer, FitTrainer) or index > done:
                        raise
                    raise CannotError(_first_line(error)) from error
                if not told:
                    told = True
                    warnings.warn(
                        "The replicas are trained one after another: "
                        f"{reason}.",
                        stacklevel=4,
                    )
                _put(found, chunk, epoch, *means)
                bar.update(index * settings.epochs + epoch + 1)
                backup.save(index, epoch + 1)
            begun = 0
    except KeyboardInterrupt:
        if np.isnan(found.validation_loss).all():
            raise
        return found, reason, True
    backup.finish()
    return found, reason, False


def _first_line(error: Exception) -> str:
    if isinstance(error, CannotError):
        return str(error)
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0].rstrip('.')}"


def _put(
    found: Found, chunk: Chunk, epoch: int, train: Means, validation: Means
) -> None:
    """Writes the means of an epoch to where they belong."""
    strengths, folds = np.ix_(chunk.strengths, chunk.folds)
    where = strengths, folds, epoch
    columns = {
        **train.metrics,
        **{f"val_{name}": each for name, each in validation.metrics.items()},
    }
    found.train_loss[where] = train.data_loss.T
    found.validation_loss[where] = validation.data_loss.T
    for name, values in columns.items():
        if name not in found.metrics:
            found.metrics[name] = np.full(found.train_loss.shape, np.nan)
        found.metrics[name][where] = values.T
