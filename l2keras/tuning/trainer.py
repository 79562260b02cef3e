"""What a search asks of what trains its replicas."""

import abc
from typing import Any

import keras
import numpy as np

from l2keras._keras import trainer_hooks
from l2keras.tuning.chunks import Chunk
from l2keras.tuning.grid.stack import Means


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
    if trainer_hooks.adds_losses_up(
        model
    ) and not trainer_hooks.is_compiled_with_a_loss(model):
        raise ValueError(
            "`build_model` must give `compile` a loss, by which the strengths "
            "are judged. What `add_loss` adds counts as regularization. "
            f"Received: {model!r}"
        )


def select_rows(data: Any, rows: np.ndarray) -> Any:
    """Returns some rows of `(x, y, sample_weight)`."""
    return tuple(
        None
        if each is None
        else keras.tree.map_structure(lambda array: array[rows], each)
        for each in data
    )
