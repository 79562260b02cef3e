"""Replicas on JAX: steps that `jax.lax.scan` runs, mapped by `jax.vmap`."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from l2keras._types import Tensor
from l2keras.tuning.grid.replica import Arrays, InitialState, to_numpy
from l2keras.tuning.grid.stack import Means, Rows, Stack


class JaxStack(Stack):
    """Maps by `jax.vmap`, over steps that `jax.lax.scan` runs."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        import jax

        model = self.replica.model
        self._optimizer = model.optimizer
        self._initial_metrics = [
            ops.convert_to_tensor(to_numpy(variable))
            for variable in model.metrics_variables
        ]
        train, evaluate = self._pass(training=True), self._pass(training=False)
        if self.is_mapped:
            train, evaluate = self._mapped(train), self._mapped(evaluate)
        self._train, self._evaluate = jax.jit(train), jax.jit(evaluate)
        self._state: Any = None

    def start(
        self, initial_states: Sequence[InitialState], strengths: np.ndarray
    ) -> None:
        *values, _ = zip(*initial_states, strict=True)
        # Of trainable and non-trainable variables, and of the optimizer.
        self._state = tuple(
            self._stacked(zip(*each, strict=True)) for each in values
        )
        self._strengths = self._strength_tensor(strengths)

    def _train_epoch(self, rows: Rows) -> Means:
        self._state, means = self._run(self._train, rows)
        return self._to_means(*means)

    def evaluate(self, rows: Rows) -> Means:
        _, means = self._run(self._evaluate, rows)
        return self._to_means(*means)

    def state(self) -> list[np.ndarray]:
        import jax

        return [np.asarray(each) for each in jax.tree.leaves(self._state)]

    def restore(self, state: list[np.ndarray]) -> None:
        import jax

        self._state = jax.tree.unflatten(
            jax.tree.structure(self._state),
            [ops.convert_to_tensor(each) for each in state],
        )

    def _run(self, function: Callable[..., Any], rows: Rows) -> Any:
        if not self.is_mapped:
            rows = Rows(rows.full[0], rows.rest[0])
        return function(self._state, self._strengths, rows, self._data)

    def _mapped(self, function: Callable[..., Any]) -> Callable[..., Any]:
        import jax

        # The strengths of a fold see the same rows: they are mapped apart, so
        # that a batch is not copied for each.
        over_strengths = jax.vmap(function, (0, 0, None, None))
        return jax.vmap(over_strengths, (0, None, 0, None))

    def _pass(self, training: bool) -> Callable[..., Any]:
        """Returns a function that takes one replica over all batches once."""
        import jax

        replica, one_batch = (
            self.replica,
            self._train_batch if training else self._evaluate_batch,
        )

        def run(state: Any, strength: Tensor, rows: Rows, data: Arrays) -> Any:
            def step(carry: Any, chosen: Tensor) -> Any:
                state, metrics, total = carry
                batch = [each[chosen] for each in data]
                state, metrics, loss = one_batch(
                    state, metrics, strength, batch
                )
                return (state, metrics, total + loss * len(chosen)), None

            carry: Any = (state, self._initial_metrics, 0.0)
            if rows.full.shape[0]:
                carry, _ = jax.lax.scan(step, carry, rows.full)
            if rows.rest.shape[0]:
                carry, _ = step(carry, rows.rest)
            state, metrics, total = carry
            number = rows.full.size + rows.rest.size
            return state, (total / number, replica.results(metrics))

        return run

    def _train_batch(
        self, state: Any, metrics: Arrays, strength: Tensor, batch: Arrays
    ) -> Any:
        import jax

        trainable, non_trainable, slots = state
        replica, optimizer = self.replica, self._optimizer

        def scaled(trainable: Arrays) -> Any:
            loss, rest = replica.loss(
                trainable,
                non_trainable,
                metrics,
                strength,
                batch,
                self._step(slots),
                training=True,
            )
            with self._optimizer_scope(slots):
                return optimizer.scale_loss(loss), rest

        gradients, rest = jax.grad(scaled, has_aux=True)(trainable)
        data_loss, non_trainable, metrics = rest
        trainable, slots = optimizer.stateless_apply(
            slots, gradients, trainable
        )
        return (trainable, non_trainable, slots), metrics, data_loss

    def _evaluate_batch(
        self, state: Any, metrics: Arrays, strength: Tensor, batch: Arrays
    ) -> Any:
        trainable, non_trainable, slots = state
        _, (data_loss, _, metrics) = self.replica.loss(
            trainable,
            non_trainable,
            metrics,
            strength,
            batch,
            self._step(slots),
            training=False,
        )
        return state, metrics, data_loss

    def _optimizer_scope(self, slots: Arrays) -> keras.StatelessScope:
        mapping = zip(self._optimizer.variables, slots, strict=True)
        return keras.StatelessScope(state_mapping=list(mapping))

    def _step(self, slots: Arrays) -> Tensor:
        """Returns the optimizer's step, given the values of its variables."""
        with self._optimizer_scope(slots):
            return ops.convert_to_tensor(self._optimizer.iterations)
