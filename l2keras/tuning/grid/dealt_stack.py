"""The replicas of a stack dealt to several devices: to each a stack of its own.

How to have the devices work at the same time, each backend has its own way. JAX
needs none of this: there one stack can lie on several devices.
"""

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np

from l2keras._keras import backends
from l2keras.tuning.grid.devices import deal
from l2keras.tuning.grid.replica import Arrays, InitialState, Replica
from l2keras.tuning.grid.stack import Means, Rows, Stack, VariableStack


class Part(NamedTuple):
    """The replicas that one device has."""

    device: Any
    folds: slice
    candidates: np.ndarray  # As indices, of which the last may be repeated.
    stack: Any  # Of the class that the dealt stack is made of.

    def rows(self, rows: Rows) -> Rows:
        """Returns those of its folds."""
        return Rows(rows.full[self.folds], rows.rest[self.folds])


class DealtStack(Stack):
    """Stacks of some of the replicas each.

    Args:
        replica: What is computed for each.
        data: All rows of the data, as a flat list of arrays.
        shape: The numbers of folds and of candidates.
        of_devices: The devices. Where there are too few replicas for all, the
            last have nothing to do.
    """

    _class_of_parts: ClassVar[type[VariableStack]]

    def __init__(
        self,
        replica: Replica,
        data: Arrays,
        shape: tuple[int, int],
        of_devices: Sequence[Any],
    ) -> None:
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
            with backends.on_device(device):
                stack = self._class_of_parts(replica, data, (width, length))
            indices = indices.clip(max=shape[1] - 1)
            self._parts.append(Part(device, of_folds, indices, stack))

    def start(
        self, initial_states: Sequence[InitialState], strengths: np.ndarray
    ) -> None:
        for part in self._parts:
            with backends.on_device(part.device):
                part.stack.start(
                    initial_states[part.folds], strengths[part.candidates]
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
        for part in self._parts:
            with backends.on_device(part.device):
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

    def _means(self, of_parts: Iterable[Means]) -> Means:
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
