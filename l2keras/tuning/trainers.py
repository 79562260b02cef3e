"""Trains the replicas of a search: as a stack, or by `fit`."""

import abc
import hashlib
import json
import pathlib
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np

from l2keras._keras import backends, trainer_hooks
from l2keras.models import control
from l2keras.training.logger import RegularizationLogger
from l2keras.tuning.folds import Fold, order_of
from l2keras.tuning.grid.jax_stack import JaxStack
from l2keras.tuning.grid.replica import InitialState, Replica, to_numpy
from l2keras.tuning.grid.stack import (
    CannotError,
    Means,
    Rows,
    Stack,
    batches,
)
from l2keras.tuning.grid.tensorflow_stack import TensorflowStack
from l2keras.tuning.grid.torch_stack import TorchStack

_STACKS: dict[str, type[Stack]] = {
    "jax": JaxStack,
    "tensorflow": TensorflowStack,
    "torch": TorchStack,
}


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
        return order_of(self.folds[fold], fold, epoch, self.shuffle, self.seed)


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

    replica: Replica
    starts: list[InitialState]


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
        self._stacks: dict[tuple[int, int], Stack] = {}
        self._stack: Any = None

    def begin(self, chunk: Chunk) -> None:
        shape = len(chunk.folds), len(chunk.strengths)
        starts = [self._starts[fold] for fold in chunk.folds]
        strengths = self._settings.strengths[chunk.strengths]
        is_new = shape not in self._stacks
        if is_new:
            self._stacks[shape] = _STACKS[keras.backend.backend()](
                self._replica, self._data, shape
            )
        self._stack = self._stacks[shape]
        self._stack.start(starts, strengths)
        if is_new and self._stack.is_mapped:
            rows = self._rows(chunk, epoch=0)
            if not self._stack.trains_as_alone(starts, strengths, rows):
                raise CannotError(
                    f"{keras.backend.backend()} trains a stack to other weights"
                )
            self._stack.start(starts, strengths)

    def epoch(self, chunk: Chunk, epoch: int) -> tuple[Means, Means]:
        train = self._stack.train(self._rows(chunk, epoch))
        validation = np.stack(
            [self._settings.folds[fold].validation for fold in chunk.folds]
        )
        return train, self._stack.evaluate(
            batches(validation, self._settings.batch_size)
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
        return batches(np.stack(orders), self._settings.batch_size)


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
        if not control.adds_losses_up(self._new_model(0, 0)):
            warnings.warn(
                "The model has a `compute_loss` of its own. Strengths are "
                "judged by what is left of it without `model.losses`, which is "
                "the data loss if `compute_loss` adds `sum(self.losses)` to "
                "it.",
                stacklevel=4,
            )
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
        x, y, weight = take(self._data, self._settings.order(fold, epoch))
        held_out = take(self._data, self._settings.folds[fold].validation)
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
        ours |= trainer_hooks.names_of_output_losses(self._model)
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
        values = [to_numpy(each) for each in self._variables()]
        return [*backends.random_state(), *values]

    def restore(self, state: list[np.ndarray]) -> None:
        number = len(backends.random_state())
        backends.set_random_state(state[:number])
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
        check_model(model)
        rows = self._settings.folds[fold].train[: self._settings.batch_size]
        trainer_hooks.build_for_training(model, take(self._data, rows))
        control.connect_clock(model)
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


def check_model(model: Any) -> None:
    """Raises an error unless `build_model` returned a compiled model."""
    if not isinstance(model, keras.Model):
        raise TypeError(
            f"`build_model` must return a Keras model. Received: {model!r}"
        )
    if not model.compiled or model.optimizer is None:
        raise TypeError(
            "`build_model` must return a compiled model. Call "
            f"`model.compile(...)` in it. Received: {model!r}"
        )
    if control.adds_losses_up(
        model
    ) and not trainer_hooks.is_compiled_with_a_loss(model):
        raise ValueError(
            "`build_model` must give `compile` a loss, by which the strengths "
            "are judged. What `add_loss` adds counts as regularization. "
            f"Received: {model!r}"
        )


def take(data: Any, rows: np.ndarray) -> Any:
    """Returns some rows of `(x, y, sample_weight)`."""
    return tuple(
        None
        if each is None
        else keras.tree.map_structure(lambda array: array[rows], each)
        for each in data
    )


def _described(model: keras.Model) -> Any:
    """Returns what a strength may change in a model."""
    return (
        [
            keras.saving.serialize_keras_object(weight.variable.regularizer)
            for weight in control.regularized(model)
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


def _to_means(values: dict[str, np.ndarray]) -> Means:
    return Means(values.pop("data_loss"), values)
