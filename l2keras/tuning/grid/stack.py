"""Many replicas of one model, trained at once.

What all of them have to compute is computed together, on weights that are
stacked along new first axes. What a replica ends with is what `model.fit` would
have ended with, from the same weights over the same batches. How to map a
computation over the replicas, each backend has its own way, and a file beside
this one.

The arrays of a stack have the axes (folds, candidates, ...); the folds of one
stack have as many rows for training as each other, and as many for validation.
"""

import abc
import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from l2keras._keras import optimizer_copies
from l2keras._types import Tensor
from l2keras.tuning.grid.learner import Learned, Learner
from l2keras.tuning.grid.replica import (
    Arrays,
    InitialState,
    Replica,
    to_numpy,
)


class StackingError(Exception):
    """Raised when replicas cannot be trained as a stack."""


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
    """Means over the batches of a pass, of shape (folds, candidates)."""

    data_loss: np.ndarray
    metrics: dict[str, np.ndarray]


class Stack(abc.ABC):
    """Replicas that are trained at once.

    One replica alone is not mapped: its arrays have no axes of their own in
    front, so that whatever Keras can train is computed as in `fit`.

    Args:
        replica: What is computed for each.
        data: All rows of the data, as a flat list of arrays.
        shape: The numbers of folds and of candidates.
    """

    def __init__(
        self, replica: Replica, data: Arrays, shape: tuple[int, int]
    ) -> None:
        self.replica = replica
        self.shape = shape
        self.is_mapped = shape != (1, 1)
        self._data = [ops.convert_to_tensor(each) for each in data]
        self._outside_variables: dict[str, Any] | None = (
            optimizer_copies.state_outside_variables(replica.model.optimizer)
        )

    @abc.abstractmethod
    def start(
        self, initial_states: Sequence[InitialState], strengths: np.ndarray
    ) -> None:
        """Puts the replicas to where they begin.

        Args:
            initial_states: What the replicas of each fold begin with.
            strengths: Of shape (candidates, strengths).
        """

    def start_checked(
        self,
        initial_states: Sequence[InitialState],
        strengths: np.ndarray,
        is_as_alone: Callable[[], bool],
    ) -> None:
        """Does what `start` does, once it is known that the stack is right.

        Args:
            initial_states: As for `start`.
            strengths: The same.
            is_as_alone: Trains from there, and tells whether a replica went
                where it goes alone.

        Raises:
            StackingError: If it did not.
        """
        self.start(initial_states, strengths)
        if not self.is_mapped:
            return
        # A replica may diverge at once, of which NumPy would warn.
        with np.errstate(invalid="ignore", over="ignore"):
            is_right = is_as_alone()
        if not is_right:
            raise StackingError(
                f"{keras.backend.backend()} trains a stack to other weights"
            )
        self.start(initial_states, strengths)

    def train(self, rows: Rows) -> Means:
        """Trains for an epoch; returns the means over its batches.

        Raises:
            StackingError: After the first epoch, if the optimizer turns out to
                have a state that a stack knows nothing of.
        """
        means = self._train_epoch(rows)
        if self._outside_variables is not None:
            self._check_state_is_in_variables(self._outside_variables)
            self._outside_variables = None
        return means

    @abc.abstractmethod
    def _train_epoch(self, rows: Rows) -> Means:
        """Does what `train` does."""

    @abc.abstractmethod
    def evaluate(self, rows: Rows) -> Means:
        """Returns the means over the batches without training.

        A layer may change what it has all the same: recurrent ones draw random
        numbers that they do not use.
        """

    @abc.abstractmethod
    def state(self) -> list[np.ndarray]:
        """Returns all that training changes."""

    @abc.abstractmethod
    def restore(self, state: list[np.ndarray]) -> None:
        """Goes back to what `state` returned."""

    def trains_as_alone(
        self,
        initial_states: Sequence[InitialState],
        strengths: np.ndarray,
        rows: Rows,
    ) -> bool:
        """Tells whether a replica in the stack is trained as it is alone.

        `jax.vmap` and `torch.func.vmap` either map exactly or raise an error,
        so only the stack of TensorFlow has something to look at.
        """
        return True

    def _check_state_is_in_variables(self, before: dict[str, Any]) -> None:
        # The next replica would begin with what this one left there.
        optimizer = self.replica.model.optimizer
        after = optimizer_copies.state_outside_variables(optimizer)
        names = sorted(
            name
            for name in before.keys() | after.keys()
            if before.get(name) != after.get(name)
        )
        if names:
            raise StackingError(
                f"{type(optimizer).__name__} changes more than its variables: "
                + ", ".join(f"`{name}`" for name in names)
            )

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

    def _strength_tensor(self, strengths: np.ndarray) -> Tensor:
        return ops.convert_to_tensor(strengths.astype("float32"))

    def _to_means(self, data_loss: Tensor, metrics: dict[str, Tensor]) -> Means:
        def array(value: Tensor) -> np.ndarray:
            return ops.convert_to_numpy(value).reshape(self.shape)

        return Means(
            array(data_loss),
            {name: array(value) for name, value in metrics.items()},
        )


class LearningStack(Stack):
    """A stack that can be trained under strengths that are learned, too.

    They are learned for all folds together, so these stay on one device.
    """

    @abc.abstractmethod
    def learn(
        self,
        learner: Learner,
        learned: Learned,
        rows: np.ndarray,
        held_out: np.ndarray,
    ) -> Learned:
        """Trains for an epoch, under strengths that move after each step.

        Args:
            learner: How they move.
            learned: What is known of them before.
            rows: To train on, integers of shape (folds, steps, batch size).
            held_out: To judge by, of the same shape but for the last axis.
        """

    def learns_as_alone(
        self,
        initial_states: Sequence[InitialState],
        strengths: np.ndarray,
        learner: Learner,
        rows: np.ndarray,
        held_out: np.ndarray,
    ) -> bool:
        """Tells the same of `learn`, were the strengths to stay."""
        return True


class VariableStack(LearningStack):
    """Keeps the stack in variables, which one optimizer updates.

    TensorFlow and PyTorch have no optimizer without side effects in Keras. One
    that works element by element does not notice that its variables are stacks:
    a copy of the model's own is given stacks for its variables. A replica alone
    is trained by the model's own optimizer, in the model's own variables, which
    have their values back after each pass.
    """

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        model = self.replica.model
        self._optimizer = model.optimizer
        self._trainable = list(model.trainable_variables)
        self._of_weights: set[int] = set()
        if self.is_mapped:
            self._copy_optimizer()
        self._variables = [*self._trainable, *self._optimizer.variables]
        # Where a replica alone has its values between the passes.
        self._values: Arrays = self._variables
        self._non_trainable: Arrays = []
        self._initial_metrics = self._repeated(model.metrics_variables)

    def _copy_optimizer(self) -> None:
        """Gives a copy of the optimizer stacks in place of its variables."""
        optimizer = self._optimizer
        of_weights = optimizer_copies.variables_of_weights(optimizer)
        known = [*self._trainable, *optimizer.variables]
        stacks = {
            id(variable): _stand_in(
                variable,
                value
                if id(variable) in of_weights or index < len(self._trainable)
                else to_numpy(variable),
            )
            for index, (variable, value) in enumerate(
                zip(known, self._repeated(known), strict=True)
            )
        }
        self._trainable = [stacks[id(each)] for each in self._trainable]
        self._of_weights = {id(stacks[each]) for each in of_weights}
        self._optimizer = optimizer_copies.copy_for(optimizer, stacks)
        # Which are not a user's classes.
        self._outside_variables = None

    def start(
        self, initial_states: Sequence[InitialState], strengths: np.ndarray
    ) -> None:
        trainable, non_trainable, optimizer, _ = zip(
            *initial_states, strict=True
        )
        stacked = self._stacked(zip(*optimizer, strict=True))
        self._put(
            [
                *self._stacked(zip(*trainable, strict=True)),
                *(
                    value
                    if id(variable) in self._of_weights or not self.is_mapped
                    # The same in all folds.
                    else optimizer[0][index]
                    for index, (variable, value) in enumerate(
                        zip(self._optimizer.variables, stacked, strict=True)
                    )
                ),
            ]
        )
        self._non_trainable = self._stacked(zip(*non_trainable, strict=True))
        self._strengths = self._strength_tensor(strengths)

    def state(self) -> list[np.ndarray]:
        values = [*self._values, *self._non_trainable]
        return [to_numpy(each) for each in values]

    def has_axes(self) -> list[bool]:
        """Tells which arrays of the state have an element for each replica.

        Others are for all alike, as the optimizer's step.
        """
        number = len(self._trainable)
        return [
            self.is_mapped
            and (index < number or id(variable) in self._of_weights)
            for index, variable in enumerate(self._variables)
        ] + [self.is_mapped] * len(self._non_trainable)

    def restore(self, state: list[np.ndarray]) -> None:
        number = len(self._variables)
        values = [ops.convert_to_tensor(each) for each in state]
        self._put(values[:number])
        self._non_trainable = values[number:]

    def _put(self, values: Arrays) -> None:
        """Sets the values of weights and optimizer."""
        if self.is_mapped:
            _assign(self._variables, values)
        else:
            self._values = values

    @contextlib.contextmanager
    def _values_in_variables(self) -> Iterator[None]:
        """Has the values of the replica in the variables, for a pass.

        The user may hold the layers of the model, and build others of them.
        """
        if self.is_mapped:
            yield
            return
        before = _copies(self._variables)
        try:
            _assign(self._variables, self._values)
            yield
            self._values = _copies(self._variables)
        finally:
            _assign(self._variables, before)

    def _step(self) -> Tensor:
        """Returns the optimizer's step, which is the same for all replicas."""
        # A copy, as PyTorch would go on to change the variable's own tensor.
        return ops.copy(ops.convert_to_tensor(self._optimizer.iterations))


def _stand_in(variable: keras.Variable, value: Any) -> keras.Variable:
    """Returns a new variable that an optimizer takes for another."""
    stand_in = keras.Variable(
        value,
        dtype=variable.dtype,
        trainable=variable.trainable,
        name=variable.name,
    )
    stand_in.constraint = variable.constraint
    stand_in.overwrite_with_gradient = variable.overwrite_with_gradient
    return stand_in


def _assign(variables: Sequence[keras.Variable], values: Arrays) -> None:
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


def _copies(variables: Sequence[keras.Variable]) -> Arrays:
    return [ops.copy(ops.convert_to_tensor(each)) for each in variables]
