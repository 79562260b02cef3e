"""Channels by number, through a whole graph.

All channels of all tensors are numbered as slots. Layers that make channels
make slots; layers that work on each channel apart hand them on; layers that add
tensors up unite two slots: they go or stay together.
"""

import dataclasses
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


class Slots:
    """A disjoint set of numbers, by union and find."""

    def __init__(self) -> None:
        self._parents: list[int] = []

    def new(self, count: int) -> Array:
        """New numbers."""
        first = len(self._parents)
        self._parents.extend(range(first, first + count))
        return np.arange(first, first + count)

    def find(self, slot: int) -> int:
        """The representative of the set that a number is in."""
        while self._parents[slot] != slot:
            self._parents[slot] = self._parents[self._parents[slot]]
            slot = self._parents[slot]
        return slot

    def union(self, some: Array, others: Array) -> None:
        """Unites the sets of each of some numbers and its counterpart."""
        for one, other in zip(some.tolist(), others.tolist(), strict=True):
            self._parents[self.find(other)] = self.find(one)

    def representatives(self) -> Array:
        """The representative of each number."""
        return np.array(
            [self.find(slot) for slot in range(len(self._parents))], dtype=int
        )


@dataclasses.dataclass(eq=False)
class Channels:
    """The channels of a tensor.

    Attributes:
        shape: The shape of the tensor, the batch's dimension first.
        axis: The axis whose indices are the channels; 0 if there is none.
        slots: The slot of each. One may be there several times: to flatten
            images gives each channel at each place.
        values: The value of each channel, for every example and at every
            place; NaN if it varies.
    """

    shape: tuple[int | None, ...]
    axis: int
    slots: Array
    values: Array

    @classmethod
    def varying(
        cls, shape: tuple[int | None, ...], slots: Slots, axis: int = -1
    ) -> "Channels":
        """New channels with unknown values."""
        axis %= max(len(shape), 1)
        size = shape[axis] if axis else None
        if size is None:
            return cls(shape, 0, slots.new(0), np.zeros(0))
        return cls(shape, axis, slots.new(size), np.full(size, np.nan))

    def over(self, array: Array, shape: tuple[int, ...]) -> Array:
        """An array of one entry for each channel, broadcast to a shape.

        Args:
            array: The array.
            shape: The shape of the tensor, without the batch's dimension.
        """
        ones = [1] * len(shape)
        ones[self.axis - 1] = -1
        return np.broadcast_to(array.reshape(ones), shape)

    def like(
        self,
        shape: tuple[int | None, ...],
        axis: int | None = None,
        values: Array | None = None,
    ) -> "Channels":
        """The channels of a tensor with the same slots."""
        return Channels(
            shape,
            self.axis if axis is None else axis,
            self.slots,
            self.values if values is None else values,
        )


def same_or_nan(arrays: list[Array]) -> Array:
    """The common values of arrays, NaN where they differ."""
    first, *others = arrays
    agreed = np.ones(first.shape, bool)
    for other in others:
        agreed &= first == other
    return np.where(agreed, first, np.nan)
