"""A stack on TensorFlow: `tf.vectorized_map` of one step, in `tf.while_loop`.

Not compiled by XLA, which returned the losses of weights that were not trained.
"""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from l2keras._types import Tensor
from l2keras.tuning.stack.replica import Arrays, Replica, Results, State
from l2keras.tuning.stack.rows import Rows


class TensorflowStack:
    """Maps a step over all replicas, along one axis: a map in a map is slow."""

    def __init__(
        self, replica: Replica, data: Arrays, shape: tuple[int, int]
    ) -> None:
        import tensorflow as tf

        from l2keras._keras.in_tensorflow import register_bitcast

        register_bitcast()
        self._replica = replica
        self._shape = shape
        self._metrics = [
            np.broadcast_to(value, (shape[0] * shape[1], *value.shape))
            for value in replica.metrics_at_start()
        ]
        self._data = [tf.convert_to_tensor(array) for array in data]
        # As in `fit`, AutoGraph does not rewrite the model.
        self._train, self._evaluate = (
            tf.function(self._epoch(one_batch), autograph=False)
            for one_batch in (self._train_on, self._evaluate_on)
        )

    def put(self, state: State) -> Any:
        """Tensors of shape (folds * candidates, ...)."""
        import tensorflow as tf

        return keras.tree.map_structure(
            lambda array: tf.convert_to_tensor(
                array.reshape(-1, *array.shape[2:])
            ),
            state,
        )

    def get(self, arrays: Any) -> Any:
        """Arrays of NumPy, of shape (folds, candidates, ...)."""
        return keras.tree.map_structure(
            lambda tensor: tensor.numpy().reshape(
                *self._shape, *tensor.shape[1:]
            ),
            arrays,
        )

    def run(self, state: Any, rows: Rows, training: bool) -> Any:
        import tensorflow as tf

        function = self._train if training else self._evaluate
        # As in `fit`, batches of all sizes are one trace.
        compiled = function.get_concrete_function(
            keras.tree.map_structure(tf.TensorSpec.from_tensor, state),
            tf.TensorSpec((self._shape[0], None), "int64"),
            tf.TensorSpec((), "int64"),
        )
        return compiled(
            state,
            tf.constant(rows.flat(), "int64"),
            tf.constant(rows.full.shape[2], "int64"),
        )

    def _losses(
        self, state: State, metrics: Arrays, rows: Tensor, training: bool
    ) -> Any:
        import tensorflow as tf

        replica = self._replica
        candidates = self._shape[1]
        rows = tf.repeat(rows, candidates, axis=0)
        batch = [tf.gather(array, rows) for array in self._data]

        def one(arguments: Any) -> Any:
            state, metrics, batch = arguments
            loss, results = replica.loss(
                state.trainable, state, metrics, batch, training=training
            )
            metrics = replica.updated_metrics(
                results.metrics, batch, results.y_pred
            )
            return loss, results._replace(metrics=metrics, y_pred=())

        return tf.vectorized_map(one, (state, metrics, batch))

    def _train_on(self, state: State, metrics: Arrays, rows: Tensor) -> Any:
        import tensorflow as tf

        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(state.trainable)
            loss, results = self._losses(state, metrics, rows, training=True)
            total = tf.reduce_sum(loss)
        gradients = tape.gradient(total, state.trainable)
        known = {
            index: tf.convert_to_tensor(gradient)
            for index, gradient in enumerate(gradients)
            if gradient is not None
        }

        def update(arguments: Any) -> State:
            state, known = arguments
            return self._replica.updated(
                state, [known.get(index) for index in range(len(gradients))]
            )

        state = state._replace(non_trainable=results.non_trainable)
        state = tf.vectorized_map(update, (state, known))
        return state, results

    def _evaluate_on(self, state: State, metrics: Arrays, rows: Tensor) -> Any:
        _, results = self._losses(state, metrics, rows, training=False)
        return state._replace(non_trainable=results.non_trainable), results

    def _epoch(self, one_batch: Callable[..., Any]) -> Callable[..., Any]:
        """A function that goes over the batches of an epoch."""
        import tensorflow as tf

        def run(state: State, rows: Tensor, batch_size: Tensor) -> Any:
            number = tf.shape(rows, "int64")[1]
            replicas = self._shape[0] * self._shape[1]

            def step(first: Tensor, *carry: Any) -> Any:
                state, metrics, total = carry
                last = tf.minimum(first + batch_size, number)
                results: Results
                state, results = one_batch(state, metrics, rows[:, first:last])
                loss = tf.cast(results.data_loss, total.dtype)
                size = tf.cast(last - first, total.dtype)
                return last, state, results.metrics, total + loss * size

            total = tf.zeros([replicas], keras.config.floatx())
            metrics = [tf.constant(value) for value in self._metrics]
            _, state, metrics, total = tf.while_loop(
                lambda first, *_: first < number,
                step,
                (tf.constant(0, "int64"), state, metrics, total),
            )
            metrics = tf.vectorized_map(self._replica.metric_results, metrics)
            return state, total / tf.cast(number, total.dtype), metrics

        return run
