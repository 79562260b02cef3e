"""Replicas on JAX: a step mapped by `jax.vmap`, that `jax.lax.scan` repeats."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from l2keras._types import Tensor
from l2keras.tuning.grid.jax_devices import Dealing
from l2keras.tuning.grid.learner import Learned, Learner
from l2keras.tuning.grid.replica import Arrays, InitialState, to_numpy
from l2keras.tuning.grid.stack import LearningStack, Means, Rows


class JaxStack(LearningStack):
    """Maps a step by `jax.vmap`, and repeats it by `jax.lax.scan`.

    In this order: to map the loop would trace its step three times over.
    """

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        import jax

        model = self.replica.model
        self._optimizer = model.optimizer
        self._initial_metrics = [
            ops.convert_to_tensor(to_numpy(variable))
            for variable in model.metrics_variables
        ]
        self._dealing: Dealing | None = None
        # The folds of one candidate alone are those that strengths are learned
        # on, which share what they learn.
        if self.shape[1] > 1:
            self._dealing = Dealing.of(self.shape)
        train, evaluate = self._pass(training=True), self._pass(training=False)
        if self._dealing is not None:
            train, evaluate = map(self._dealing.mapped, (train, evaluate))
            self._data = self._dealing.data(self._data)
        self._train, self._evaluate = jax.jit(train), jax.jit(evaluate)
        self._learn: Any = None
        self._state: Any = None

    def start(
        self, initial_states: Sequence[InitialState], strengths: np.ndarray
    ) -> None:
        *values, _ = zip(*initial_states, strict=True)
        # Of trainable and non-trainable variables, and of the optimizer.
        state = tuple(self._stacked(zip(*each, strict=True)) for each in values)
        self._put(state, self._strength_tensor(strengths))

    def _put(self, state: Any, strengths: Tensor) -> None:
        """Sets the values of all replicas, and their strengths."""
        if self._dealing is not None:
            state = self._dealing.state(state)
            strengths = self._dealing.strengths(strengths)
        self._state, self._strengths = state, strengths

    def _train_epoch(self, rows: Rows) -> Means:
        self._state, means = self._run(self._train, rows)
        return self._means(means)

    def evaluate(self, rows: Rows) -> Means:
        self._state, means = self._run(self._evaluate, rows)
        return self._means(means)

    def _means(self, means: Any) -> Means:
        if self._dealing is not None:
            means = self._dealing.gathered(means)
        return self._to_means(*means)

    def learn(
        self,
        learner: Learner,
        learned: Learned,
        rows: np.ndarray,
        held_out: np.ndarray,
    ) -> Learned:
        import jax

        if self._learn is None:
            self._learn = jax.jit(self._learning_pass(learner))
        self._state, learned = self._learn(
            self._state, learned, (rows, held_out), self._data
        )
        return learned

    def state(self) -> list[np.ndarray]:
        import jax

        # Which does not depend on how many devices there are.
        state = self._state
        if self._dealing is not None:
            state = self._dealing.gathered(state)
        return [np.asarray(each) for each in jax.tree.leaves(state)]

    def restore(self, state: list[np.ndarray]) -> None:
        import jax

        values = jax.tree.unflatten(
            jax.tree.structure(self._state),
            [ops.convert_to_tensor(each) for each in state],
        )
        if self._dealing is not None:
            values = self._dealing.state(values)
        self._state = values

    def _run(self, function: Callable[..., Any], rows: Rows) -> Any:
        strengths = self._strengths
        if not self.is_mapped:
            rows = Rows(rows.full[0], rows.rest[0])
            strengths = strengths[0]
        return function(self._state, strengths, rows, self._data)

    def _mapped(
        self, function: Callable[..., Any], arguments: str
    ) -> Callable[..., Any]:
        """Returns a function of one replica as one of all, if there are more.

        Args:
            function: Called with what is named, in this order.
            arguments: `r` for an argument with a value for each replica, `c`
                for each candidate, `f` for each fold, `-` for one that they
                share.
        """
        import jax

        if not self.is_mapped:
            return function
        # The candidates of a fold see the same rows: they are mapped apart, so
        # that a batch is not copied for each.
        candidates = tuple(0 if each in "rc" else None for each in arguments)
        folds = tuple(0 if each in "rf" else None for each in arguments)
        return jax.vmap(jax.vmap(function, candidates), folds)

    def _pass(self, training: bool) -> Callable[..., Any]:
        """Returns a function that takes the replicas over all batches once."""
        import jax
        import jax.numpy as jnp

        one_batch = self._train_batch if training else self._evaluate_batch

        def on_rows(
            state: Any,
            metrics: Arrays,
            strengths: Tensor,
            chosen: Tensor,
            data: Arrays,
        ) -> Any:
            batch = [each[chosen] for each in data]
            return one_batch(state, metrics, strengths, batch)

        all_on_rows = self._mapped(on_rows, "rrcf-")
        results = self._mapped(self.replica.results, "r")

        def run(state: Any, strengths: Tensor, rows: Rows, data: Arrays) -> Any:
            axes: tuple[int, ...] = ()
            full: Any = rows.full
            if self.is_mapped:
                axes = len(rows.full), len(strengths)
                full = jnp.moveaxis(full, 1, 0)  # Batch after batch.

            def step(carry: Any, chosen: Tensor) -> Any:
                state, metrics = carry
                state, metrics, loss = all_on_rows(
                    state, metrics, strengths, chosen, data
                )
                return (state, metrics), loss * chosen.shape[-1]

            metrics = [
                jnp.broadcast_to(each, (*axes, *each.shape))
                for each in self._initial_metrics
            ]
            carry, total, number = (state, metrics), 0.0, 0
            if full.shape[0]:
                carry, losses = jax.lax.scan(step, carry, full)
                total += losses.sum(axis=0)
                number += full.shape[0] * full.shape[-1]
            if rows.rest.shape[-1]:
                carry, loss = step(carry, rows.rest)
                total += loss
                number += rows.rest.shape[-1]
            state, metrics = carry
            return state, (total / number, results(metrics))

        return run

    def _learning_pass(self, learner: Learner) -> Callable[..., Any]:
        """Returns a function that takes replicas and strengths over batches."""
        import jax
        import jax.numpy as jnp

        hypergradient, metrics = learner.hypergradient, self._initial_metrics

        def train_on(
            state: Any, strengths: Tensor, chosen: Tensor, data: Arrays
        ) -> Any:
            batch = [each[chosen] for each in data]
            return self._train_batch(state, metrics, strengths, batch)[0]

        def signals_of(
            state: Any, strengths: Tensor, chosen: Tensor, data: Arrays
        ) -> Tensor:
            batch = [each[chosen] for each in data]
            trainable, non_trainable, slots = state

            def data_loss(trainable: Arrays) -> Tensor:
                state = trainable, non_trainable, slots
                return self._evaluate_batch(state, metrics, strengths, batch)[2]

            gradients = jax.grad(data_loss)(trainable)
            slopes = jax.grad(hypergradient.penalty)(
                hypergradient.copies(trainable)
            )
            return hypergradient.signals(gradients, slopes)

        train = self._mapped(train_on, "rcf-")
        signals = self._mapped(signals_of, "rcf-")

        def run(state: Any, learned: Any, rows: Any, data: Arrays) -> Any:
            def step(carry: Any, chosen: Any) -> Any:
                state, learned = carry
                to_train, to_judge = chosen
                strengths = learner.strengths(learned)
                if self.is_mapped:
                    strengths = strengths[None]  # The only candidate.
                state = train(state, strengths, to_train, data)
                moves = signals(state, strengths, to_judge, data)
                moves = moves.reshape(-1, moves.shape[-1])
                return (state, learner.moved(learned, moves)), None

            full = [
                jnp.moveaxis(each, 1, 0) if self.is_mapped else each[0]
                for each in rows
            ]
            return jax.lax.scan(step, (state, learned), tuple(full))[0]

        return run

    def _train_batch(
        self, state: Any, metrics: Arrays, strengths: Tensor, batch: Arrays
    ) -> Any:
        import jax

        trainable, non_trainable, slots = state
        replica, optimizer = self.replica, self._optimizer

        def scaled(trainable: Arrays) -> Any:
            loss, rest = replica.loss(
                trainable,
                non_trainable,
                metrics,
                strengths,
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
        self, state: Any, metrics: Arrays, strengths: Tensor, batch: Arrays
    ) -> Any:
        trainable, non_trainable, slots = state
        _, (data_loss, non_trainable, metrics) = self.replica.loss(
            trainable,
            non_trainable,
            metrics,
            strengths,
            batch,
            self._step(slots),
            training=False,
        )
        return (trainable, non_trainable, slots), metrics, data_loss

    def _optimizer_scope(self, slots: Arrays) -> keras.StatelessScope:
        mapping = zip(self._optimizer.variables, slots, strict=True)
        return keras.StatelessScope(state_mapping=list(mapping))

    def _step(self, slots: Arrays) -> Tensor:
        """Returns the optimizer's step, given the values of its variables."""
        with self._optimizer_scope(slots):
            return ops.convert_to_tensor(self._optimizer.iterations)
