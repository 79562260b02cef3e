"""Replicas trained together, as one stack."""

from collections.abc import Iterator
from typing import Any, Protocol

import keras
import numpy as np

from l2keras.tuning.replicas import Chunk, Means, Prototype
from l2keras.tuning.settings import Settings
from l2keras.tuning.stack.in_jax import JaxStack
from l2keras.tuning.stack.in_tensorflow import TensorflowStack
from l2keras.tuning.stack.in_torch import TorchStack
from l2keras.tuning.stack.replica import Arrays, Replica, State, to_numpy
from l2keras.tuning.stack.rows import Rows


class Stack(Protocol):
    """Replicas of one shape, and the way a backend maps a step over them.

    Args:
        replica: The computation of one replica.
        data: All rows, as a flat list of arrays.
        shape: The numbers of folds and candidates.
    """

    def __init__(
        self, replica: Replica, data: Arrays, shape: tuple[int, int]
    ) -> None: ...

    def put(self, state: State) -> Any:
        """The tensors of arrays of shape (folds, candidates, ...)."""

    def get(self, tensors: Any) -> Any:
        """Arrays of NumPy, of shape (folds, candidates, ...)."""

    def run(self, state: Any, rows: Rows, training: bool) -> Any:
        """The state after an epoch, the data loss, and the metrics."""


_STACKS: dict[str, type[Stack]] = {
    "jax": JaxStack,
    "tensorflow": TensorflowStack,
    "torch": TorchStack,
}


class StackedTrainer:
    """Trains the replicas of a chunk as one stack.

    Args:
        settings: The settings of the search.
        prototype: The model that all replicas share.
    """

    def __init__(self, settings: Settings, prototype: Prototype) -> None:
        self._settings = settings
        self._prototype = prototype
        self._stacks: dict[tuple[int, int], Any] = {}
        self._stack: Any = None
        self._state: Any = None
        self._folds: list[int] = []

    def begin(self, chunk: Chunk) -> None:
        self._folds = chunk.folds
        self._state = None  # Its memory is given back before more is taken.
        shape = chunk.shape
        if shape not in self._stacks:
            stack = _STACKS[keras.backend.backend()]
            data = keras.tree.flatten(
                [tree for tree in self._settings.data if tree is not None]
            )
            self._stacks[shape] = stack(self._prototype.replica, data, shape)
        self._stack = self._stacks[shape]
        starts = [self._prototype.starts[fold].state for fold in chunk.folds]

        def stacked(*of_folds: np.ndarray) -> np.ndarray:
            folds = np.stack(of_folds)[:, None]
            return np.broadcast_to(folds, (*shape, *folds.shape[2:])).copy()

        state: State = keras.tree.map_structure(stacked, *starts)
        strengths = chunk.candidates.T.astype("float32")
        state = self._prototype.replica.with_strengths(
            state,
            [np.broadcast_to(values, shape).copy() for values in strengths],
        )
        self._state = self._stack.put(state)

    def epoch(
        self, epoch: int, first_steps: bool = False
    ) -> tuple[Means, Means]:
        settings = self._settings
        train, held_out = (
            Rows.of(np.stack(rows), settings.batch_size)
            for rows in zip(
                *(
                    (
                        settings.training_order(fold, epoch),
                        settings.folds[fold].validation,
                    )
                    for fold in self._folds
                ),
                strict=True,
            )
        )
        if first_steps:
            train, held_out = train.first(2), held_out.first(0)
        return (
            self._pass(train, training=True),
            self._pass(held_out, training=False),
        )

    def weights(self, fold: int, candidate: int) -> list[np.ndarray]:
        state: State = self._stack.get(self._state)
        return [value[fold, candidate] for value in state.trainable]

    def models(self) -> Iterator[keras.Model]:
        model = self._prototype.model
        variables = [*model.trainable_variables, *model.non_trainable_variables]
        state: State = self._state
        trainable, non_trainable = self._stack.get(
            (state.trainable, state.non_trainable)
        )
        values = [*trainable, *non_trainable]
        before = to_numpy(variables)
        try:
            for place in np.ndindex(values[0].shape[:2]):
                for variable, value in zip(variables, values, strict=True):
                    variable.assign(value[place])
                yield model
        finally:
            for variable, value in zip(variables, before, strict=True):
                variable.assign(value)

    def state(self) -> list[np.ndarray]:
        return keras.tree.flatten(self._stack.get(self._state))

    def restore(self, state: list[np.ndarray]) -> None:
        self._state = self._stack.put(
            keras.tree.pack_sequence_as(self._state, state)
        )

    def close(self) -> None:
        """Frees the memory. No variable was changed."""
        self._stacks.clear()
        self._stack = self._state = None

    def _pass(self, rows: Rows, training: bool) -> Means:
        self._state, *means = self._stack.run(self._state, rows, training)
        return Means(*self._stack.get(means))
