"""Replicas on TensorFlow: `tf.vectorized_map` inside a `tf.while_loop`."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from keras import ops

from l2keras._keras import backends
from l2keras._types import Tensor
from l2keras.tuning.grid.replica import Arrays, InitialState
from l2keras.tuning.grid.stack import Means, Rows, VariableStack


class TensorflowStack(VariableStack):
    """Maps by `tf.vectorized_map`, over steps that `tf.while_loop` runs.

    Not by XLA, which returned the losses of weights that were not trained.
    """

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        import tensorflow as tf

        backends.register_bitcast()
        # As in `fit`, AutoGraph does not rewrite what the model computes.
        self._train, self._evaluate = (
            tf.function(self._pass_of(one_batch), autograph=False)
            for one_batch in (self._train_batch, self._evaluate_batch)
        )

    def _train_epoch(self, rows: Rows) -> Means:
        return self._train_on(rows, rows.full.shape[1])

    def _train_on(self, rows: Rows, number: int) -> Means:
        """Trains on that many of the full batches, and on the rest."""
        self._non_trainable, *means = self._run(self._train, rows, number)
        return self._to_means(*means)

    def evaluate(self, rows: Rows) -> Means:
        _, *means = self._run(self._evaluate, rows, rows.full.shape[1])
        return self._to_means(*means)

    def _run(
        self, function: Callable[..., Any], rows: Rows, number: int
    ) -> Any:
        import tensorflow as tf

        # Python's numbers and NumPy's arrays would be compiled in.
        full, rest, size = (tf.constant(each) for each in (*rows, number))
        with self._values_in_variables():
            return function(
                self._non_trainable, self._strengths, full, rest, size
            )

    def trains_as_alone(
        self,
        initial_states: Sequence[InitialState],
        strengths: np.ndarray,
        rows: Rows,
    ) -> bool:
        # The last replica, for batches of each size, beside it run eagerly. A
        # learning rate may begin at zero, so one update is not enough.
        number = min(2, rows.full.shape[1])
        before = initial_states[-1].trainable
        self._train_on(rows, number)
        stacked = [value[-1, -1] for value in self.state()[: len(before)]]
        alone = TensorflowStack(self.replica, self._data, (1, 1))
        alone._train = alone._train.python_function
        alone.start(initial_states[-1:], strengths[-1:])
        alone._train_on(Rows(rows.full[-1:], rows.rest[-1:]), number)
        # All weights together: of a bias that a normalization cancels, rounding
        # alone decides where Adam moves it.
        difference = movement = 0.0
        for old, one, other in zip(
            before, stacked, alone.state(), strict=False
        ):
            difference += float(np.square(one - other).sum())
            movement += float(np.square(other - old).sum())
        return not np.isfinite(movement) or (
            difference <= 0.01 * movement + 1e-12
        )

    def _losses(
        self,
        non_trainable: Arrays,
        metrics: Arrays,
        strengths: Tensor,
        chosen: Tensor,
        training: bool,
    ) -> Any:
        """Returns the results of `Replica.loss`, and what they depend on."""
        import tensorflow as tf

        trainable = [
            ops.convert_to_tensor(variable) for variable in self._trainable
        ]

        step = self._step()

        def one(arguments: Any) -> Any:
            return self.replica.loss(*arguments, step=step, training=training)  # type: ignore[misc]

        if not self.is_mapped:
            batch = [tf.gather(each, chosen[0]) for each in self._data]
            arguments = trainable, non_trainable, metrics, strengths, batch
            return trainable, one(arguments)
        folds, number = self.shape
        chosen = tf.repeat(chosen[:, None], number, axis=1)
        batch = [tf.gather(each, chosen) for each in self._data]
        strengths = tf.tile(strengths[None], [folds, 1])
        results = self._mapped(
            one, (trainable, non_trainable, metrics, strengths, batch)
        )
        return trainable, results

    def _mapped(self, function: Callable[..., Any], arrays: Any) -> Any:
        """Returns what a function returns for the arrays of each replica."""
        import tensorflow as tf

        def merge(array: Tensor) -> Tensor:
            return tf.reshape(array, (-1, *array.shape[2:]))

        def split(array: Tensor) -> Tensor:
            return tf.reshape(array, (*self.shape, *array.shape[1:]))

        # One axis for both: a map inside a map takes longer to trace.
        arrays = tf.nest.map_structure(merge, arrays)
        results = tf.vectorized_map(function, arrays)
        return tf.nest.map_structure(split, results)

    def _train_batch(
        self,
        non_trainable: Arrays,
        metrics: Arrays,
        strengths: Tensor,
        chosen: Tensor,
    ) -> Any:
        import tensorflow as tf

        with tf.GradientTape() as tape:
            # Convert the variables under the tape, so that it sees them.
            trainable, (loss, rest) = self._losses(
                non_trainable, metrics, strengths, chosen, training=True
            )
            total = tf.reduce_sum(loss)
        gradients = tape.gradient(total, trainable)
        self._optimizer.apply(gradients, self._trainable)
        data_loss, non_trainable, metrics = rest
        return data_loss, non_trainable, metrics

    def _evaluate_batch(
        self,
        non_trainable: Arrays,
        metrics: Arrays,
        strengths: Tensor,
        chosen: Tensor,
    ) -> Any:
        _, (_, (data_loss, _, metrics)) = self._losses(
            non_trainable, metrics, strengths, chosen, training=False
        )
        return data_loss, non_trainable, metrics

    def _pass_of(self, one_batch: Callable[..., Any]) -> Callable[..., Any]:
        """Returns a function that goes over all batches once."""
        import tensorflow as tf

        def run(
            non_trainable: Arrays,
            strengths: Tensor,
            full: Tensor,
            rest: Tensor,
            number: Tensor,
        ) -> Any:
            def add(
                chosen: Tensor,
                non_trainable: Arrays,
                metrics: Arrays,
                total: Tensor,
            ) -> Any:
                data_loss, non_trainable, metrics = one_batch(
                    non_trainable, metrics, strengths, chosen
                )
                size = tf.cast(tf.shape(chosen)[1], data_loss.dtype)
                return non_trainable, metrics, total + data_loss * size

            axes = self.shape if self.is_mapped else ()
            carry: Any = (non_trainable, self._initial_metrics, tf.zeros(axes))
            seen = number * full.shape[2] + rest.shape[1]
            if full.shape[1]:
                _, *carry = tf.while_loop(
                    lambda index, *_: index < number,
                    lambda index, *carry: (
                        index + 1,
                        *add(full[:, index], *carry),
                    ),
                    (0, *carry),
                )
            if rest.shape[1]:
                carry = add(rest, *carry)
            non_trainable, metrics, total = carry
            results = self.replica.results
            metrics = (
                self._mapped(results, metrics)
                if self.is_mapped
                else results(metrics)
            )
            return non_trainable, total / tf.cast(seen, total.dtype), metrics

        return run
