"""The replicas of a stack dealt to several devices, on TensorFlow.

One compiled function takes the stacks of all devices over an epoch: TensorFlow
runs at once what does not depend on each other, and the model, which all have
in common, is traced in one thread.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from l2keras._keras import backends
from l2keras.tuning.grid.dealt_stack import DealtStack
from l2keras.tuning.grid.replica import InitialState
from l2keras.tuning.grid.stack import Means, Rows
from l2keras.tuning.grid.tensorflow_stack import TensorflowStack


class DealtTensorflowStack(DealtStack):
    """Has all devices compute in one compiled function."""

    _class_of_parts = TensorflowStack

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._train = self._compiled([p.stack.train_pass for p in self._parts])
        self._evaluate = self._compiled(
            [p.stack.evaluate_pass for p in self._parts]
        )

    def _compiled(
        self, passes: Sequence[Callable[..., Any]]
    ) -> Callable[..., Any]:
        """Returns a function that does on each device what is to be done there.

        It takes the arguments of each, and returns the results of each.
        """
        import tensorflow as tf

        def run(arguments: Any) -> Any:
            results = []
            for part, one_pass, each in zip(
                self._parts, passes, arguments, strict=True
            ):
                with backends.on_device(part.device):
                    results.append(one_pass(*each))
            return results

        return tf.function(run, autograph=False)

    def _train_epoch(self, rows: Rows) -> Means:
        return self._train_on(rows, rows.full.shape[1])

    def _train_on(self, rows: Rows, number: int) -> Means:
        """Trains on that many of the full batches, and on the rest."""
        return self._taken(self._train(self._arguments(rows, number)))

    def evaluate(self, rows: Rows) -> Means:
        arguments = self._arguments(rows, rows.full.shape[1])
        return self._taken(self._evaluate(arguments))

    def _taken(self, results: Any) -> Means:
        """Takes what a pass returned: what has changed, and the means."""
        return self._means(
            part.stack.taken(each)
            for part, each in zip(self._parts, results, strict=True)
        )

    def _arguments(self, rows: Rows, number: int) -> Any:
        return [
            part.stack.arguments(part.rows(rows), number)
            for part in self._parts
        ]

    def trains_as_alone(
        self,
        initial_states: Sequence[InitialState],
        strengths: np.ndarray,
        rows: Rows,
    ) -> bool:
        # The parts are alike, so one of them tells.
        part = self._parts[-1]
        number = min(2, rows.full.shape[1])
        self._train_on(rows, number)
        return part.stack.is_as_alone(
            initial_states[part.folds],
            strengths[part.candidates],
            part.rows(rows),
            number,
        )
