"""Many replicas of one model, trained at once.

What all of them have to compute is computed together, on weights that are
stacked along new first axes. What a replica ends with is what `model.fit` would
have ended with, from the same weights over the same batches. How to map a
computation over the replicas, each backend has its own way, and a file beside
this one.

The arrays of a stack have the axes (folds, strengths, ...); the folds of one
stack have as many rows for training as each other, and as many for validation.
"""

import abc
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from l2keras._types import Tensor
from l2keras.tuning.grid.replica import Arrays, Replica, Start, to_numpy


class Rows(NamedTuple):
    """The rows of an epoch's batches, for each fold.

    Attributes:
        full: Integers of shape (folds, batches, batch size).
        rest: Integers of shape (folds, rows of the last, smaller batch).
    """

    full: np.ndarray
    rest: np.ndarray


def batches(rows: np.ndarray, batch_size: int) -> Rows:
    """Returns rows of shape (folds, rows) cut into batches as `fit` does."""
    folds, number = rows.shape
    whole = number - number % batch_size
    return Rows(rows[:, :whole].reshape(folds, -1, batch_size), rows[:, whole:])


class Means(NamedTuple):
    """Means over the batches of a pass, of shape (folds, strengths)."""

    data_loss: np.ndarray
    metrics: dict[str, np.ndarray]


class Stack(abc.ABC):
    """Replicas that are trained at once.

    One replica alone is not mapped: its arrays have no axes of their own in
    front, so that whatever Keras can train is computed as in `fit`.

    Args:
        replica: What is computed for each.
        data: All rows of the data, as a flat list of arrays.
        shape: The numbers of folds and of strengths.
    """

    def __init__(
        self, replica: Replica, data: Arrays, shape: tuple[int, int]
    ) -> None:
        self.replica = replica
        self.shape = shape
        self.is_mapped = shape != (1, 1)
        self._data = [ops.convert_to_tensor(each) for each in data]

    @abc.abstractmethod
    def start(self, starts: Sequence[Start], strengths: np.ndarray) -> None:
        """Puts the replicas to their first weights.

        Args:
            starts: What the replicas of each fold start from.
            strengths: Of shape (strengths,).
        """

    @abc.abstractmethod
    def train(self, rows: Rows) -> Means:
        """Trains for an epoch; returns the means over its batches."""

    @abc.abstractmethod
    def evaluate(self, rows: Rows) -> Means:
        """Returns the means over the batches without training."""

    @abc.abstractmethod
    def state(self) -> list[np.ndarray]:
        """Returns all that training changes."""

    @abc.abstractmethod
    def restore(self, state: list[np.ndarray]) -> None:
        """Goes back to what `state` returned."""

    def is_right(
        self, starts: Sequence[Start], strengths: np.ndarray, rows: Rows
    ) -> bool:
        """Tells whether a replica in the stack is trained as it is alone.

        `jax.vmap` and `torch.func.vmap` either map exactly or raise an error,
        so only the stack of TensorFlow has something to look at.
        """
        return True

    def _stacked(self, values: Iterable[tuple[np.ndarray, ...]]) -> Arrays:
        """Returns arrays given for each fold with the axes of the replicas."""
        if not self.is_mapped:
            return [ops.convert_to_tensor(each) for (each,) in values]
        return [
            ops.convert_to_tensor(
                np.stack(
                    [
                        np.broadcast_to(each, (self.shape[1], *each.shape))
                        for each in folds
                    ]
                )
            )
            for folds in values
        ]

    def _repeated(self, variables: Sequence[keras.Variable]) -> Arrays:
        """Returns the values of variables, the same for each replica."""
        values = (to_numpy(variable) for variable in variables)
        return self._stacked((value,) * self.shape[0] for value in values)

    def _lambdas(self, strengths: np.ndarray) -> Tensor:
        values = strengths.astype("float32")
        return ops.convert_to_tensor(values if self.is_mapped else values[0])

    def _to_means(self, data_loss: Tensor, metrics: dict[str, Tensor]) -> Means:
        def array(value: Tensor) -> np.ndarray:
            return ops.convert_to_numpy(value).reshape(self.shape)

        return Means(
            array(data_loss),
            {name: array(value) for name, value in metrics.items()},
        )


class VariableStack(Stack):
    """Keeps the stack in variables, which one optimizer updates.

    TensorFlow and PyTorch have no optimizer without side effects in Keras. One
    that works element by element does not notice that its variables are stacks.
    """

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        model = self.replica.model
        self._trainable = [
            _like(variable, value)
            for variable, value in zip(
                model.trainable_variables,
                self._repeated(model.trainable_variables),
                strict=True,
            )
        ]
        self._others: Arrays = []
        self._metrics = self._repeated(model.metrics_variables)
        # A fresh one: the model's own is for the model's own variables.
        self._optimizer = type(model.optimizer).from_config(
            model.optimizer.get_config()
        )
        self._optimizer.build(self._trainable)
        self._first_slots = [to_numpy(v) for v in self._optimizer.variables]

    def start(self, starts: Sequence[Start], strengths: np.ndarray) -> None:
        trainable, others, _ = zip(*starts, strict=True)
        stacked = self._stacked(zip(*trainable, strict=True))
        self._others = self._stacked(zip(*others, strict=True))
        _assign(self._trainable, stacked)
        _assign(self._optimizer.variables, self._first_slots)
        self._strengths = self._lambdas(strengths)

    def state(self) -> list[np.ndarray]:
        variables = [*self._trainable, *self._optimizer.variables]
        return [
            *(to_numpy(variable) for variable in variables),
            *(ops.convert_to_numpy(each) for each in self._others),
        ]

    def restore(self, state: list[np.ndarray]) -> None:
        variables = [*self._trainable, *self._optimizer.variables]
        _assign(variables, state[: len(variables)])
        self._others = [
            ops.convert_to_tensor(each) for each in state[len(variables) :]
        ]

    def _step(self) -> Tensor:
        """Returns the optimizer's step with the axes of the replicas."""
        step = ops.convert_to_tensor(self._optimizer.iterations)
        return ops.broadcast_to(step, self.shape if self.is_mapped else ())


def _like(variable: keras.Variable, value: Any) -> keras.Variable:
    """Returns a new variable that an optimizer takes for another."""
    like = keras.Variable(value, dtype=variable.dtype, name=variable.name)
    like.constraint = variable.constraint
    like.overwrite_with_gradient = variable.overwrite_with_gradient
    return like


def _assign(variables: Sequence[keras.Variable], values: Arrays) -> None:
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
