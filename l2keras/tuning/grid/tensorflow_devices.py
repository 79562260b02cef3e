"""The replicas of a stack dealt to several devices, on TensorFlow.

Each device has a stack of its own. One compiled function takes all of them over
an epoch: TensorFlow runs at once what does not depend on each other, and the
model, which all have in common, is traced in one thread.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from l2keras.tuning.grid.devices import deal, devices
from l2keras.tuning.grid.replica import Arrays, InitialState, Replica
from l2keras.tuning.grid.stack import Means, Rows, Stack
from l2keras.tuning.grid.tensorflow_stack import TensorflowStack


def dealt_stack(
    replica: Replica, data: Arrays, shape: tuple[int, int]
) -> Stack:
    """Returns a stack on the devices that there are, as many as it can use."""
    of_devices = [each.name for each in devices()]
    if deal(shape, max(1, len(of_devices))) == (1, 1):
        return TensorflowStack(replica, data, shape)
    return DealtStack(replica, data, shape, of_devices)


class Part(NamedTuple):
    """The replicas that one device has."""

    device: str
    folds: slice
    candidates: np.ndarray  # As indices, of which the last may be repeated.
    stack: TensorflowStack

    def rows(self, rows: Rows) -> Rows:
        """Returns those of its folds."""
        return Rows(rows.full[self.folds], rows.rest[self.folds])


class DealtStack(Stack):
    """Stacks of some of the replicas each.

    Args:
        replica: What is computed for each.
        data: All rows of the data, as a flat list of arrays.
        shape: The numbers of folds and of candidates.
        of_devices: The names of the devices. Where there are too few replicas
            for all, the last have nothing to do.
    """

    def __init__(
        self,
        replica: Replica,
        data: Arrays,
        shape: tuple[int, int],
        of_devices: Sequence[str],
    ) -> None:
        import tensorflow as tf

        super().__init__(replica, [], shape)
        # The parts have copies of the optimizer, which is of Keras's classes.
        self._outside_variables = None
        folds, candidates = deal(shape, len(of_devices))
        width = shape[0] // folds
        length = -(-shape[1] // candidates)
        if width == 1:
            length = max(2, length)  # One replica alone would not be mapped.
        places = [
            (slice(fold, fold + width), np.arange(first, first + length))
            for fold in range(0, shape[0], width)
            for first in range(0, shape[1], length)
        ]
        self._parts = []
        for device, (of_folds, indices) in zip(
            of_devices, places, strict=False
        ):
            with tf.device(device):
                stack = TensorflowStack(replica, data, (width, length))
            indices = indices.clip(max=shape[1] - 1)
            self._parts.append(Part(device, of_folds, indices, stack))
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
                with tf.device(part.device):
                    results.append(one_pass(*each))
            return results

        return tf.function(run, autograph=False)

    def start(
        self, initial_states: Sequence[InitialState], strengths: np.ndarray
    ) -> None:
        import tensorflow as tf

        for part in self._parts:
            with tf.device(part.device):
                part.stack.start(
                    initial_states[part.folds], strengths[part.candidates]
                )

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

    def state(self) -> list[np.ndarray]:
        # Which does not depend on how many devices there are.
        states = [part.stack.state() for part in self._parts]
        return [
            self._whole(arrays) if has_axes else arrays[0]
            for has_axes, *arrays in zip(
                self._parts[0].stack.has_axes(), *states, strict=True
            )
        ]

    def restore(self, state: list[np.ndarray]) -> None:
        import tensorflow as tf

        for part in self._parts:
            with tf.device(part.device):
                part.stack.restore(
                    [
                        each[part.folds][:, part.candidates]
                        if has_axes
                        else each
                        for has_axes, each in zip(
                            part.stack.has_axes(), state, strict=True
                        )
                    ]
                )

    def _means(self, of_parts: Any) -> Means:
        data_losses, metrics = zip(*of_parts, strict=True)
        return Means(
            self._whole(data_losses),
            {
                name: self._whole([each[name] for each in metrics])
                for name in metrics[0]
            },
        )

    def _whole(self, of_parts: Sequence[np.ndarray]) -> np.ndarray:
        """Returns arrays of all replicas, put together of those of parts."""
        first = of_parts[0]
        whole = np.empty((*self.shape, *first.shape[2:]), first.dtype)
        for part, array in zip(self._parts, of_parts, strict=True):
            whole[part.folds, part.candidates] = array
        return whole
