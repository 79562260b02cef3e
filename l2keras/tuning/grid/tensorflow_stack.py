"""Replicas on TensorFlow: `tf.vectorized_map` inside a `tf.while_loop`."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from keras import ops

from l2keras._keras import backends
from l2keras._types import Tensor
from l2keras.tuning.grid.hypergradient import Hypergradient
from l2keras.tuning.grid.learner import Learned, Learner
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
        self._learn: Any = None
        # As in `fit`, AutoGraph does not rewrite what the model computes.
        # What goes over all batches once, as it is before it is compiled.
        self.train_pass, self.evaluate_pass = map(
            self._pass_of, (self._train_batch, self._evaluate_batch)
        )
        self._train, self._evaluate = (
            tf.function(each, autograph=False)
            for each in (self.train_pass, self.evaluate_pass)
        )

    def _train_epoch(self, rows: Rows) -> Means:
        return self._train_on(rows, rows.full.shape[1])

    def _train_on(self, rows: Rows, number: int) -> Means:
        """Trains on that many of the full batches, and on the rest."""
        with self._values_in_variables():
            results = self._train(*self.arguments(rows, number))
        return self.taken(results)

    def taken(self, results: Any) -> Means:
        """Takes what a pass returned: what has changed, and the means."""
        self._non_trainable, *means = results
        return self._to_means(*means)

    def evaluate(self, rows: Rows) -> Means:
        with self._values_in_variables():
            results = self._evaluate(*self.arguments(rows, rows.full.shape[1]))
        return self.taken(results)

    def arguments(self, rows: Rows, number: int) -> Any:
        """Returns what a pass over so many full batches is called with."""
        import tensorflow as tf

        # Python's numbers and NumPy's arrays would be compiled in.
        rest = (tf.constant(each) for each in (*rows, number))
        return self._non_trainable, self._strengths, *rest

    def learn(
        self,
        learner: Learner,
        learned: Learned,
        rows: np.ndarray,
        held_out: np.ndarray,
    ) -> Learned:
        return self._learn_on(learner, learned, rows, held_out, rows.shape[1])

    def _learn_on(
        self,
        learner: Learner,
        learned: Learned,
        rows: np.ndarray,
        held_out: np.ndarray,
        number: int,
    ) -> Learned:
        """Does what `learn` does, for that many steps."""
        import tensorflow as tf

        if self._learn is None:
            self._learn = tf.function(
                self._learning_pass(learner), autograph=False
            )
        arrays = (tf.constant(each) for each in (rows, held_out, number))
        with self._values_in_variables():
            self._non_trainable, learned = self._learn(
                self._non_trainable, learned, *arrays
            )
        return learned

    def trains_as_alone(
        self,
        initial_states: Sequence[InitialState],
        strengths: np.ndarray,
        rows: Rows,
    ) -> bool:
        # The last replica, for batches of each size, beside it run eagerly. A
        # learning rate may begin at zero, so one update is not enough.
        number = min(2, rows.full.shape[1])
        self._train_on(rows, number)
        return self.is_as_alone(initial_states, strengths, rows, number)

    def learns_as_alone(
        self,
        initial_states: Sequence[InitialState],
        strengths: np.ndarray,
        learner: Learner,
        rows: np.ndarray,
        held_out: np.ndarray,
    ) -> bool:
        number = min(2, rows.shape[1])
        learned = learner.start(strengths[-1], moving=False)
        self._learn_on(learner, learned, rows, held_out, number)
        cut = Rows(rows, rows[:, 0, :0])
        return self.is_as_alone(initial_states, strengths, cut, number)

    def is_as_alone(
        self,
        initial_states: Sequence[InitialState],
        strengths: np.ndarray,
        rows: Rows,
        number: int,
    ) -> bool:
        """Tells whether so many steps took the last replica to where it is."""
        before = initial_states[-1].trainable
        stacked = [value[-1, -1] for value in self.state()[: len(before)]]
        alone = TensorflowStack(self.replica, self._data, (1, 1))
        alone._train = alone.train_pass
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
            arguments = trainable, non_trainable, metrics, strengths[0], batch
            return trainable, one(arguments)
        folds, number = self.shape
        chosen = tf.repeat(chosen[:, None], number, axis=1)
        batch = [tf.gather(each, chosen) for each in self._data]
        strengths = tf.tile(strengths[None], [folds, 1, 1])
        results = self._mapped(
            one, (trainable, non_trainable, metrics, strengths, batch)
        )
        return trainable, results

    def _mapped(self, function: Callable[..., Any], arrays: Any) -> Any:
        """Returns what a function returns for the arrays of each replica."""
        import tensorflow as tf

        if not self.is_mapped:
            return function(arrays)

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

    def _signals(
        self,
        hypergradient: Hypergradient,
        non_trainable: Arrays,
        strengths: Tensor,
        chosen: Tensor,
    ) -> Tensor:
        """Returns what moves the strengths, of shape (folds, strengths)."""
        import tensorflow as tf

        with tf.GradientTape() as tape:
            trainable, (_, (data_loss, *_)) = self._losses(
                non_trainable,
                self._initial_metrics,
                strengths,
                chosen,
                training=False,
            )
            total = tf.reduce_sum(data_loss)
        gradients = _dense(tape.gradient(total, trainable), trainable)
        copies = hypergradient.copies(trainable)
        copies = [tf.identity(each) for each in copies]
        with tf.GradientTape() as tape:
            tape.watch(copies)
            penalty = self._mapped(hypergradient.penalty, copies)
            total = tf.reduce_sum(penalty)
        slopes = _dense(tape.gradient(total, copies), copies)
        signals = self._mapped(
            lambda each: hypergradient.signals(*each), (gradients, slopes)
        )
        return tf.reshape(signals, (self.shape[0], -1))

    def _learning_pass(self, learner: Learner) -> Callable[..., Any]:
        """Returns a function that takes replicas and strengths over batches."""
        import tensorflow as tf

        def run(
            non_trainable: Arrays,
            learned: Learned,
            rows: Tensor,
            held_out: Tensor,
            number: Tensor,
        ) -> Any:
            def step(
                index: Tensor, non_trainable: Arrays, learned: Learned
            ) -> Any:
                strengths = learner.strengths(learned)[None]
                _, non_trainable, _ = self._train_batch(
                    non_trainable,
                    self._initial_metrics,
                    strengths,
                    rows[:, index],
                )
                signals = self._signals(
                    learner.hypergradient,
                    non_trainable,
                    strengths,
                    held_out[:, index],
                )
                learned = learner.moved(learned, signals)
                return index + 1, non_trainable, learned

            _, non_trainable, learned = tf.while_loop(
                lambda index, *_: index < number,
                step,
                (0, non_trainable, learned),
            )
            return non_trainable, learned

        return run

    def _evaluate_batch(
        self,
        non_trainable: Arrays,
        metrics: Arrays,
        strengths: Tensor,
        chosen: Tensor,
    ) -> Any:
        _, (_, (data_loss, non_trainable, metrics)) = self._losses(
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
            metrics = self._mapped(self.replica.results, metrics)
            return non_trainable, total / tf.cast(seen, total.dtype), metrics

        return run


def _dense(gradients: Arrays, of: Arrays) -> Arrays:
    """Returns gradients as arrays, zeros where there are none."""
    import tensorflow as tf

    return [
        tf.zeros_like(value) if each is None else tf.convert_to_tensor(each)
        for each, value in zip(gradients, of, strict=True)
    ]
