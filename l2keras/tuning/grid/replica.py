"""One model that stands for many, as functions without side effects.

Replicas of a model differ in their weights, in the strength of their
regularizers, and in the rows of the data that they see, but not in what is
computed.
"""

import functools
import inspect
from collections.abc import Sequence
from typing import Any, NamedTuple, Self

import keras
import numpy as np
from keras import ops

from l2keras._keras import backends, trainer_hooks
from l2keras._types import Tensor
from l2keras.strengths import step as steps
from l2keras.strengths.tuned import Cell

Arrays = list[Any]


class InitialState(NamedTuple):
    """What a replica begins with: the values of all that training changes."""

    trainable: list[np.ndarray]
    non_trainable: list[np.ndarray]
    optimizer: list[np.ndarray]
    random: list[np.ndarray]  # PyTorch's, which no variable holds.

    @classmethod
    def of(cls, model: keras.Model) -> Self:
        """Returns the state of a model that is built and compiled."""
        if not model.optimizer.built:
            model.optimizer.build(model.trainable_variables)
        return cls(
            [to_numpy(each) for each in model.trainable_variables],
            [to_numpy(each) for each in model.non_trainable_variables],
            [to_numpy(each) for each in model.optimizer.variables],
            backends.random_state(),
        )


class Replica:
    """What is computed for one replica, as functions without side effects.

    Args:
        model: A built and compiled model.
        cells: Hold the strengths that the model's regularizers read.
        data: Tuple `(x, y, sample_weight)`, each a tree of arrays or `None`.
    """

    def __init__(
        self, model: keras.Model, cells: Sequence[Cell], data: Any
    ) -> None:
        self.model = model
        self.cells = cells
        self._structure = data
        self._has_training, self._loss_has_training = (
            "training" in inspect.signature(method).parameters
            for method in (model.call, model.compute_loss)
        )

    def loss(
        self,
        trainable: Arrays,
        non_trainable: Arrays,
        metrics: Arrays,
        strengths: Tensor,
        batch: Arrays,
        step: Tensor,
        training: bool,
    ) -> tuple[Tensor, tuple[Tensor, Arrays, Arrays]]:
        """Returns loss; and data loss, and the new values of the variables.

        Args:
            trainable: Values of the model's variables.
            non_trainable: The same.
            metrics: The same.
            strengths: Of shape (strengths,), in the order of the cells.
            batch: The rows of the data, as a flat list of arrays.
            step: The optimizer's iterations.
            training: Whether it is a step of training.
        """
        with steps.given(step):  # It is the stack's optimizer that counts.
            return self._loss(
                trainable, non_trainable, metrics, strengths, batch, training
            )

    def _loss(
        self,
        trainable: Arrays,
        non_trainable: Arrays,
        metrics: Arrays,
        strengths: Tensor,
        batch: Arrays,
        training: bool,
    ) -> tuple[Tensor, tuple[Tensor, Arrays, Arrays]]:
        model = self.model
        x, y, sample_weight = self._unflatten(batch)
        options = {"training": training} if self._has_training else {}
        for index, cell in enumerate(self.cells):
            cell.value = strengths[index]
        y_pred, non_trainable, losses = model.stateless_call(
            trainable, non_trainable, x, return_losses=True, **options
        )
        mapping = [
            *zip(model.trainable_variables, trainable, strict=True),
            *zip(model.non_trainable_variables, non_trainable, strict=True),
            *zip(model.metrics_variables, metrics, strict=True),
        ]
        compute_loss = functools.partial(
            model.compute_loss, x, y, y_pred, sample_weight
        )
        if self._loss_has_training:
            compute_loss = functools.partial(compute_loss, training=training)
        with keras.StatelessScope(state_mapping=mapping) as scope:
            with (
                trainer_hooks.losses_given(model, losses),
                trainer_hooks.compiled_losses(model) as data_losses,
            ):
                loss = compute_loss()
            model.compute_metrics(x, y, y_pred, sample_weight)
        if trainer_hooks.adds_losses_up(model):
            data_loss = data_losses[0] if data_losses else ops.zeros(())
        else:
            with (
                keras.StatelessScope(state_mapping=mapping),
                trainer_hooks.losses_given(model, [ops.zeros(())]),
            ):
                data_loss = compute_loss()
        metrics = [
            scope.get_current_value(variable)
            for variable in model.metrics_variables
        ]
        return loss, (data_loss, non_trainable, metrics)

    def assigned_by_layers(self, batch: Any) -> str | None:
        """Returns the path of a trained weight that a layer assigns itself.

        When it is called, as `SpectralNormalization` does. Then `fit` keeps
        what was assigned, and functions without side effects do not.

        Args:
            batch: Some rows of the data, as a tuple `(x, y, sample_weight)`.
        """
        model = self.model
        options = {"training": True} if self._has_training else {}
        variables = model.trainable_variables
        values = [(each, ops.convert_to_tensor(each)) for each in variables]
        with keras.StatelessScope(state_mapping=values) as scope:
            before = list(map(scope.get_current_value, variables))
            model(batch[0], **options)
        after = map(scope.get_current_value, variables)
        for variable, old, new in zip(variables, before, after, strict=True):
            if new is not old:
                return variable.path
        return None

    def _unflatten(self, leaves: Arrays) -> Any:
        """Returns the arrays of a batch as `(x, y, sample_weight)`."""
        leaves = list(leaves)
        return tuple(
            None
            if each is None
            else keras.tree.pack_sequence_as(
                each, [leaves.pop(0) for _ in keras.tree.flatten(each)]
            )
            for each in self._structure
        )

    def results(self, metrics: Arrays) -> dict[str, Tensor]:
        """Returns the values of the compiled metrics."""
        model = self.model
        mapping = list(zip(model.metrics_variables, metrics, strict=True))
        with keras.StatelessScope(state_mapping=mapping):
            results = {
                # A variable has this value here, and another outside.
                name: value.value
                if isinstance(value, keras.Variable)
                else value
                for name, value in model.get_metrics_result().items()
            }
        losses = {"loss", *trainer_hooks.names_of_output_losses(model)}
        return {k: v for k, v in results.items() if k not in losses}


def to_numpy(variable: keras.Variable) -> np.ndarray:
    """Returns the value of a variable as an array of its own."""
    return np.array(ops.convert_to_numpy(variable))
