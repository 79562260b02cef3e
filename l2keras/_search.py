"""The search behind `tune_strength`: which replicas are trained, and how.

There are three ways, each exact, and each slower than the one before: replicas
stacked and mapped, by functions compiled once; one after another by the same
functions; and one after another by `fit`. A way that cannot be gone is left for
the next, and the user is told why.
"""

import abc
import hashlib
import json
import pathlib
import time
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np

from l2keras import (
    _backend,
    _control,
    _cross_validation,
    _keras_private,
    _stacked,
)
from l2keras._cross_validation import Fold
from l2keras._stacked import Means, Rows, Start
from l2keras._tuned_strength import Cell, NoValueError, TunedStrength
from l2keras.callbacks import RegularizationLogger

# A backup is written when an epoch ends, after at least so many seconds.
_BACKUP_SECONDS = 10.0


class Settings(NamedTuple):
    """The arguments of `tune_strength`, checked."""

    strengths: np.ndarray
    folds: list[Fold]
    epochs: int
    batch_size: int
    shuffle: bool
    seed: int
    at_once: int | None
    backup_dir: pathlib.Path | None
    verbose: int

    def order(self, fold: int, epoch: int) -> np.ndarray:
        """Returns the rows to train on in the order in which they are seen."""
        return _cross_validation.order_of(
            self.folds[fold], fold, epoch, self.shuffle, self.seed
        )


class Found(NamedTuple):
    """Arrays of shape (strengths, folds, epochs), NaN where nothing is yet."""

    validation_loss: np.ndarray
    train_loss: np.ndarray
    metrics: dict[str, np.ndarray]


class Chunk(NamedTuple):
    """Replicas that are trained together, by their folds and strengths.

    The last strength may be repeated, so that all chunks are as large and the
    same compiled functions serve them.
    """

    folds: list[int]
    strengths: list[int]


class Built(NamedTuple):
    """A model that stands for all, and what those of a fold start from."""

    replica: _stacked.Replica
    starts: list[Start]


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
        reason = _stacked.why_not_alone(model)
        if reason is None:
            reason = _stacked.why_not_mapped(model)
            at_once = 1 if reason else _how_many(model, settings)
            for number in dict.fromkeys([at_once, 1]):
                trainer: Trainer = StackTrainer(built, data, settings)
                try:
                    return _train(trainer, number, settings, reason)
                except _CannotError as error:
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
        _check_model(each)
        if not _has_all_variables(each, number):
            _keras_private.build_for_training(each, _take(data, rows))
            number = len(each.variables)
        _control.connect_clock(each)
        if model is None:
            model = each
            replica = _stacked.Replica(model, cell, data)
        starts.append(
            Start(
                [_stacked.to_numpy(v) for v in each.trainable_variables],
                [_stacked.to_numpy(v) for v in each.non_trainable_variables],
                _backend.random_state(),
            )
        )
    if not _uses_strength(model):
        raise ValueError(
            "`build_model` must use the strength that it is given. Received: a "
            "model none of whose regularizers has it"
        )
    return Built(replica, starts), None


def _has_all_variables(model: keras.Model, number: int | None) -> bool:
    """Tells whether a model has as many as the one that was built before it.

    On PyTorch building may draw random numbers, as it does in `fit`.
    """
    return len(model.variables) == number and keras.backend.backend() != "torch"


def _check_model(model: Any) -> None:
    if not isinstance(model, keras.Model):
        raise TypeError(
            f"`build_model` must return a Keras model. Received: {model!r}"
        )
    if not model.compiled or model.optimizer is None:
        raise TypeError(
            "`build_model` must return a compiled model. Call "
            f"`model.compile(...)` in it. Received: {model!r}"
        )


def _is_raised_by_keras_regularizer(error: BaseException) -> bool:
    trace = error.__traceback__
    while trace is not None:
        if _keras_private.is_regularizers_module(trace.tb_frame.f_globals):
            return True
        trace = trace.tb_next
    return False


def _uses_strength(model: keras.Model) -> bool:
    return any(
        isinstance(term.strength, TunedStrength)
        for _, term in _control.scheduled_terms(model)
    )


def _take(data: Any, rows: np.ndarray) -> Any:
    """Returns some rows of `(x, y, sample_weight)`."""
    return tuple(
        None
        if each is None
        else keras.tree.map_structure(lambda array: array[rows], each)
        for each in data
    )


def _how_many(model: keras.Model, settings: Settings) -> int:
    """Returns how many replicas memory has room for, and speed asks for."""
    if settings.at_once is not None:
        return settings.at_once
    on_cpu = _backend.device_name() == "CPU"
    if on_cpu and not _stacked.is_cheap_to_map(model):
        return 1
    # Weights, their gradients and the optimizer's two slots; and what each
    # layer makes of a batch, forward and back.
    numbers = 5 * model.count_params()
    for _, layer in _keras_private.layers_by_path(model):
        for tensor in keras.tree.flatten(getattr(layer, "output", ())):
            numbers += 4 * settings.batch_size * _size(tensor.shape[1:])
    return max(1, _backend.free_memory() // 4 // (4 * max(1, numbers)))


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


class _CannotError(Exception):
    """Raised when replicas cannot be trained in the way that was tried."""


class Trainer(abc.ABC):
    """Trains the replicas of a chunk, epoch by epoch."""

    @abc.abstractmethod
    def begin(self, chunk: Chunk) -> None:
        """Puts the replicas of a chunk to their first weights."""

    @abc.abstractmethod
    def epoch(self, chunk: Chunk, epoch: int) -> tuple[Means, Means]:
        """Trains for an epoch; returns its means, and those of validation."""

    @abc.abstractmethod
    def state(self) -> list[np.ndarray]:
        """Returns all that training changes, to go on from there."""

    @abc.abstractmethod
    def restore(self, state: list[np.ndarray]) -> None:
        """Goes back to what `state` returned."""

    @abc.abstractmethod
    def fingerprints(self) -> tuple[str, str]:
        """Returns what tells a search from others.

        First by its arguments and data alone, which all ways have in common;
        then by the model as well.
        """


class StackTrainer(Trainer):
    """Trains a chunk as one stack."""

    def __init__(self, built: Built, data: Any, settings: Settings) -> None:
        self._replica, self._starts = built
        self._data = keras.tree.flatten([e for e in data if e is not None])
        self._settings = settings
        self._stacks: dict[tuple[int, int], _stacked.Stack] = {}
        self._stack: Any = None

    def begin(self, chunk: Chunk) -> None:
        shape = len(chunk.folds), len(chunk.strengths)
        starts = [self._starts[fold] for fold in chunk.folds]
        strengths = self._settings.strengths[chunk.strengths]
        is_new = shape not in self._stacks
        if is_new:
            self._stacks[shape] = _stacked.new_stack(
                self._replica, self._data, shape
            )
        self._stack = self._stacks[shape]
        self._stack.start(starts, strengths)
        if is_new and self._stack.is_mapped:
            rows = self._rows(chunk, epoch=0)
            if not self._stack.is_right(starts, strengths, rows):
                raise _CannotError(
                    f"{keras.backend.backend()} trains a stack to other weights"
                )
            self._stack.start(starts, strengths)

    def epoch(self, chunk: Chunk, epoch: int) -> tuple[Means, Means]:
        train = self._stack.train(self._rows(chunk, epoch))
        validation = np.stack(
            [self._settings.folds[fold].validation for fold in chunk.folds]
        )
        return train, self._stack.evaluate(
            _stacked.batches(validation, self._settings.batch_size)
        )

    def state(self) -> list[np.ndarray]:
        return self._stack.state()

    def restore(self, state: list[np.ndarray]) -> None:
        self._stack.restore(state)

    def fingerprints(self) -> tuple[str, str]:
        starts = [
            each
            for start in self._starts
            for values in start
            for each in values
        ]
        compiled = _compiled(self._replica.model)
        return (
            _hash(self._settings, self._data),
            _hash(self._settings, [*self._data, *starts], compiled),
        )

    def _rows(self, chunk: Chunk, epoch: int) -> Rows:
        orders = [self._settings.order(fold, epoch) for fold in chunk.folds]
        return _stacked.batches(np.stack(orders), self._settings.batch_size)


class FitTrainer(Trainer):
    """Trains a replica by `fit`."""

    def __init__(
        self,
        build_model: Callable[[Any], keras.Model],
        data: Any,
        settings: Settings,
    ) -> None:
        self._build_model = build_model
        self._data = data
        self._settings = settings
        self._check_strength_is_used()
        self._model: Any = None

    def begin(self, chunk: Chunk) -> None:
        (fold,), (strength,) = chunk
        self._model = self._new_model(fold, strength)
        self._logger = RegularizationLogger()
        # With `use_ema`, `fit` would put the averages in place of the weights
        # after each epoch, as it is called for each.
        self._model.optimizer.finalize_variable_values = lambda variables: None

    def epoch(self, chunk: Chunk, epoch: int) -> tuple[Means, Means]:
        (fold,) = chunk.folds
        x, y, weight = _take(self._data, self._settings.order(fold, epoch))
        held_out = _take(self._data, self._settings.folds[fold].validation)
        logs = self._model.fit(
            x,
            y,
            sample_weight=weight,
            batch_size=self._settings.batch_size,
            shuffle=False,
            initial_epoch=epoch,
            epochs=epoch + 1,
            validation_data=held_out if weight is not None else held_out[:2],
            validation_batch_size=self._settings.batch_size,
            callbacks=[self._logger],
            verbose=0,
        ).history
        ours = {"loss", "regularization_loss"}
        ours |= _keras_private.names_of_output_losses(self._model)
        values = {
            name: np.full((1, 1), each[0])
            for name, each in logs.items()
            if name.removeprefix("val_") not in ours
        }
        return (
            _to_means({k: v for k, v in values.items() if k[:4] != "val_"}),
            _to_means({k[4:]: v for k, v in values.items() if k[:4] == "val_"}),
        )

    def state(self) -> list[np.ndarray]:
        values = [_stacked.to_numpy(each) for each in self._variables()]
        return [*_backend.random_state(), *values]

    def restore(self, state: list[np.ndarray]) -> None:
        number = len(_backend.random_state())
        _backend.set_random_state(state[:number])
        for variable, value in zip(
            self._variables(), state[number:], strict=True
        ):
            variable.assign(value)

    def fingerprints(self) -> tuple[str, str]:
        arrays = keras.tree.flatten([e for e in self._data if e is not None])
        compiled = _compiled(self._new_model(0, 0))
        return (
            _hash(self._settings, arrays),
            _hash(self._settings, arrays, compiled),
        )

    def _variables(self) -> list[keras.Variable]:
        return [*self._model.variables, *self._model.optimizer.variables]

    def _new_model(self, fold: int, strength: int) -> keras.Model:
        keras.utils.set_random_seed(self._settings.seed + fold)
        model = self._build_model(float(self._settings.strengths[strength]))
        _check_model(model)
        rows = self._settings.folds[fold].train[: self._settings.batch_size]
        _keras_private.build_for_training(model, _take(self._data, rows))
        _control.connect_clock(model)
        return model

    def _check_strength_is_used(self) -> None:
        if len(self._settings.strengths) < 2:
            return
        one, other = (
            _described(self._new_model(0, index)) for index in (0, -1)
        )
        if one == other:
            raise ValueError(
                "`build_model` must use the strength that it is given. "
                "Received: the same regularizers and the same optimizer for "
                f"{self._settings.strengths[0]} as for "
                f"{self._settings.strengths[-1]}"
            )


def _described(model: keras.Model) -> Any:
    """Returns what a strength may change in a model."""
    return (
        [
            keras.saving.serialize_keras_object(weight.variable.regularizer)
            for weight in _control.regularized(model)
        ],
        _compiled(model),
    )


def _compiled(model: keras.Model) -> str:
    """Returns what a model was compiled with, without the names Keras gives."""
    optimizer = model.optimizer.get_config()
    optimizer.pop("name")
    config = model.get_compile_config() or {}
    parts = {key: config.get(key) for key in ("loss", "metrics")}
    return json.dumps(
        [type(model.optimizer).__name__, optimizer, parts],
        default=lambda each: getattr(each, "__name__", type(each).__name__),
    )


def _to_means(values: dict[str, np.ndarray]) -> Means:
    return Means(values.pop("data_loss"), values)


def _train(
    trainer: Trainer, at_once: int, settings: Settings, reason: str | None
) -> tuple[Found, str | None, bool]:
    """Trains all chunks; returns what `search` does.

    Raises:
        _CannotError: If the first epoch fails, other than by `fit`.
    """
    shape = len(settings.strengths), len(settings.folds), settings.epochs
    found = Found(np.full(shape, np.nan), np.full(shape, np.nan), {})
    chunks = _chunks(settings, at_once)
    backup = _Backup(trainer, found, settings, len(chunks))
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
                    raise _CannotError(_first_line(error)) from error
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
    if isinstance(error, _CannotError):
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


class _Backup:
    """Keeps a search in a file, to go on after it was killed."""

    def __init__(
        self, trainer: Trainer, found: Found, settings: Settings, chunks: int
    ) -> None:
        self._trainer = trainer
        self._found = found
        self._settings = settings
        self._file: pathlib.Path | None = None
        self._state: list[np.ndarray] | None = None
        self._saved = time.monotonic()
        if settings.backup_dir is not None:
            self._file = settings.backup_dir / "search.npz"
            self._way = f"{type(trainer).__name__} {chunks}"
            self._arguments, self._fingerprint = trainer.fingerprints()

    def load(self) -> tuple[int, int]:
        """Returns how many chunks, and epochs of the next, were done."""
        if self._file is None or not self._file.exists():
            return 0, 0
        with np.load(self._file) as saved:
            is_ours = str(saved["arguments"]) == self._arguments
            if is_ours and str(saved["way"]) != self._way:
                # Left behind by another way, for which this one may be left as
                # it was then.
                return 0, 0
            if str(saved["fingerprint"]) != self._fingerprint:
                raise ValueError(
                    f"{self._file} is of a search with other arguments or "
                    "other data. Remove it, or give another `backup_dir`."
                )
            self._found.validation_loss[:] = saved["validation_loss"]
            self._found.train_loss[:] = saved["train_loss"]
            for name, values in zip(
                saved["names"], saved["metrics"], strict=True
            ):
                self._found.metrics[str(name)] = values
            chunk, epoch, number = (int(each) for each in saved["progress"])
            self._state = [saved[f"state_{index}"] for index in range(number)]
        if epoch == self._settings.epochs:
            self._state = None
            return chunk + 1, 0
        return chunk, epoch

    def restore(self) -> None:
        """Puts the trainer where it was, if it was broken off in a chunk."""
        if self._state is not None:
            self._trainer.restore(self._state)
            self._state = None

    def save(self, chunk: int, epoch: int) -> None:
        """Writes the file, when a chunk is done or some time has passed."""
        is_done = epoch == self._settings.epochs
        late = time.monotonic() - self._saved > _BACKUP_SECONDS
        if self._file is None or not (is_done or late):
            return
        self._file.parent.mkdir(parents=True, exist_ok=True)
        # NumPy's files know no bfloat16.
        state = [
            each.astype("float32") if each.dtype.name == "bfloat16" else each
            for each in ([] if is_done else self._trainer.state())
        ]
        part = self._file.with_suffix(".part.npz")
        arrays: dict[str, Any] = {
            "way": self._way,
            "arguments": self._arguments,
            "fingerprint": self._fingerprint,
            "progress": [chunk, epoch, len(state)],
            "validation_loss": self._found.validation_loss,
            "train_loss": self._found.train_loss,
            "names": np.array(list(self._found.metrics), dtype=str),
            "metrics": np.array(list(self._found.metrics.values())),
        }
        for index, each in enumerate(state):
            arrays[f"state_{index}"] = each
        np.savez(part, **arrays)
        part.replace(self._file)  # At once: a kill leaves one or the other.
        self._saved = time.monotonic()

    def finish(self) -> None:
        if self._file is not None:
            self._file.unlink(missing_ok=True)


def _hash(
    settings: Settings, arrays: list[np.ndarray], compiled: str = ""
) -> str:
    """Returns a name for a search: for its arguments, and for its data."""
    digest = hashlib.sha256()
    numbers = settings[2:6]  # Epochs, batch size, shuffle and seed.
    digest.update(f"{numbers} {compiled}".encode())
    for each in (settings.strengths, *sum(settings.folds, ()), *arrays):
        digest.update(repr((each.shape, each.dtype.name)).encode())
        digest.update(np.ascontiguousarray(each).tobytes())
    return digest.hexdigest()
