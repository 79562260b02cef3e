"""One replica of a model, as pure functions of values.

The replicas of a search differ in the values of their variables, which include
the strengths, and in the rows that they see, but not in the computation. So
one model and these functions serve all of them.
"""

import functools
import inspect
from collections.abc import Sequence
from typing import Any, NamedTuple, Self

import keras
import numpy as np
from keras import ops

from l2keras._keras import layer_tree, optimizer_hooks, trainer_hooks
from l2keras._keras.pure_updates import (
    functional_twin,
    learning_rate_given,
    pure_scope,
)
from l2keras._types import Tensor
from l2keras.strengths import step as steps
from l2keras.strengths.placeholder import StrengthVariable

Arrays = list[Any]


class State(NamedTuple):
    """The values of all variables that training changes, and the strengths.

    In the order of the model's `trainable_variables`, of its
    `non_trainable_variables`, and of its optimizer's `variables`.
    """

    trainable: Arrays
    non_trainable: Arrays
    optimizer: Arrays

    @classmethod
    def of(cls, model: keras.Model) -> Self:
        """The values of a model that is built and compiled."""
        if not model.optimizer.built:
            model.optimizer.build(model.trainable_variables)
        return cls(
            to_numpy(model.trainable_variables),
            to_numpy(model.non_trainable_variables),
            to_numpy(model.optimizer.variables),
        )


class Results(NamedTuple):
    """The results of one pass of the model over a batch.

    Attributes:
        data_loss: Tensor of shape `()`.
        non_trainable: New values.
        metrics: New values of the metrics' variables.
        y_pred: The outputs.
    """

    data_loss: Tensor
    non_trainable: Arrays
    metrics: Arrays
    y_pred: Any


class Replica:
    """The computation of one replica.

    Args:
        model: A built and compiled model, whose regularizers read `strengths`.
        strengths: The variables that hold the strengths.
        data: Tuple `(x, y, sample_weight)`, each a tree of arrays or `None`.
    """

    def __init__(
        self,
        model: keras.Model,
        strengths: Sequence[StrengthVariable],
        data: Any,
    ) -> None:
        self.model = model
        self.strengths = strengths
        for strength in strengths:
            # A non-trainable variable of the model, as far as Keras knows.
            layer_tree.track(model, strength)
        if not model.optimizer.built:
            model.optimizer.build(model.trainable_variables)
        self._optimizer = functional_twin(model.optimizer)
        counter = optimizer_hooks.counter(model.optimizer)
        variables = model.optimizer.variables
        self._counted = next(
            index
            for index, variable in enumerate(variables)
            if variable is counter.variable
        )
        self._steps_per_update = counter.steps_per_update
        self._structure = data
        self._has_training, self._loss_has_training = (
            "training" in inspect.signature(method).parameters
            for method in (model.call, model.compute_loss)
        )

    def metrics_at_start(self) -> list[np.ndarray]:
        """The values of the metrics' variables before the first batch."""
        self.model.reset_metrics()  # `build_model` may have trained it.
        return to_numpy(self.model.metrics_variables)

    def with_strengths(self, state: State, values: Any) -> State:
        """A state with other strengths, one for each of the variables."""
        non_trainable = list(state.non_trainable)
        variables = self.model.non_trainable_variables
        for strength, value in zip(self.strengths, values, strict=True):
            for index, variable in enumerate(variables):
                if variable is strength.state:
                    non_trainable[index] = value
        return state._replace(non_trainable=non_trainable)

    def loss(
        self,
        trainable: Arrays,
        state: State,
        metrics: Arrays,
        batch: Arrays,
        training: bool,
    ) -> tuple[Tensor, Results]:
        """The loss to differentiate, with respect to `trainable`.

        Args:
            trainable: Takes the place of `state.trainable`.
            state: The values.
            metrics: Values of the metrics' variables.
            batch: Rows of the data, as a flat list of arrays.
            training: Whether it is a step of training.
        """
        with steps.given(self._step(state)):
            return self._loss(trainable, state, metrics, batch, training)

    def _loss(
        self,
        trainable: Arrays,
        state: State,
        metrics: Arrays,
        batch: Arrays,
        training: bool,
    ) -> tuple[Tensor, Results]:
        model = self.model
        x, y, sample_weight = self._unflatten(batch)
        options = {"training": training} if self._has_training else {}
        y_pred, non_trainable, losses = model.stateless_call(
            trainable,
            state.non_trainable,
            x,
            return_losses=True,
            **options,
        )
        mapping = self._mapping(
            State(trainable, non_trainable, state.optimizer), metrics
        )
        compute_loss = functools.partial(
            model.compute_loss, x, y, y_pred, sample_weight
        )
        if self._loss_has_training:
            compute_loss = functools.partial(compute_loss, training=training)
        with (
            pure_scope(mapping) as scope,
            trainer_hooks.losses_given(model, losses),
            trainer_hooks.compiled_losses(model) as data_losses,
        ):
            loss = compute_loss()
            scaled = model.optimizer.scale_loss(loss) if training else loss
        if trainer_hooks.adds_losses_up(model):
            data_loss = data_losses[0] if data_losses else ops.zeros(())
        else:
            with (
                pure_scope(mapping),
                trainer_hooks.losses_given(model, [ops.zeros(())]),
            ):
                data_loss = compute_loss()
        return scaled, Results(
            data_loss,
            _values(scope, model.non_trainable_variables),
            _values(scope, model.metrics_variables),
            y_pred,
        )

    def updated_metrics(
        self, metrics: Arrays, batch: Arrays, y_pred: Any
    ) -> Arrays:
        """The values of the metrics' variables after a batch."""
        model = self.model
        x, y, sample_weight = self._unflatten(batch)
        mapping = zip(model.metrics_variables, metrics, strict=True)
        with pure_scope([*mapping]) as scope:
            model.compute_metrics(x, y, y_pred, sample_weight)
            return _values(scope, model.metrics_variables)

    def metric_results(self, metrics: Arrays) -> dict[str, Tensor]:
        """The compiled metrics by name, without losses."""
        model = self.model
        mapping = zip(model.metrics_variables, metrics, strict=True)
        with pure_scope([*mapping]):
            results = {
                # A variable has this value here, and another outside.
                name: value.value
                if isinstance(value, keras.Variable)
                else value
                for name, value in model.get_metrics_result().items()
            }
        losses = {"loss", *trainer_hooks.names_of_output_losses(model)}
        return {k: v for k, v in results.items() if k not in losses}

    @property
    def learning_rate_schedule(self) -> Any:
        """The schedule of the learning rate, `None` if it is a number."""
        innermost = optimizer_hooks.chain(self.model.optimizer)[-1]
        return optimizer_hooks.learning_rate_schedule(innermost)

    def iterations(self, state: State) -> Tensor:
        """The iterations that such a schedule is called with."""
        return state.optimizer[self._counted]

    def updated(
        self, state: State, gradients: Arrays, rate: Tensor | None = None
    ) -> State:
        """The state after the optimizer's update.

        Args:
            state: That before it.
            gradients: Of the loss.
            rate: The learning rate, if it is computed beforehand.
        """
        model = self.model
        with (
            pure_scope(self._mapping(state, None)) as scope,
            learning_rate_given(rate),
        ):
            self._optimizer.apply(gradients, model.trainable_variables)
            return State(
                _values(scope, model.trainable_variables),
                state.non_trainable,
                _values(scope, model.optimizer.variables),
            )

    def _mapping(
        self, state: State, metrics: Arrays | None
    ) -> list[tuple[keras.Variable, Any]]:
        model = self.model
        pairs = [
            (model.trainable_variables, state.trainable),
            (model.non_trainable_variables, state.non_trainable),
            (model.optimizer.variables, state.optimizer),
        ]
        if metrics is not None:
            pairs.append((model.metrics_variables, metrics))
        return [
            pair
            for variables, values in pairs
            for pair in zip(variables, values, strict=True)
        ]

    def _step(self, state: State) -> Tensor:
        """The optimizer's iterations."""
        counted = self.iterations(state)
        if self._steps_per_update > 1:
            counted = ops.floor_divide(counted, self._steps_per_update)
        return counted

    def _unflatten(self, leaves: Arrays) -> Any:
        """The arrays of a batch as `(x, y, sample_weight)`."""
        leaves = list(leaves)
        return tuple(
            None
            if tree is None
            else keras.tree.pack_sequence_as(
                tree, [leaves.pop(0) for _ in keras.tree.flatten(tree)]
            )
            for tree in self._structure
        )


def _values(scope: Any, variables: Sequence[keras.Variable]) -> Arrays:
    """The values of variables in a stateless scope."""
    values = map(scope.get_current_value, variables)
    # Of a variable that has another place in the model, none was given.
    return [
        variable.value if value is None else value
        for variable, value in zip(variables, values, strict=True)
    ]


def to_numpy(variables: Sequence[keras.Variable]) -> list[np.ndarray]:
    """The values of variables as arrays of their own."""
    return [np.array(ops.convert_to_numpy(value)) for value in variables]
