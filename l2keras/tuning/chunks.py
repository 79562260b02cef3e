"""Which replicas are trained together: as many as memory has room for."""

from typing import Any, NamedTuple

import keras

from l2keras._keras import backends
from l2keras.tuning.grid import stackable
from l2keras.tuning.grid.devices import devices, devices_for
from l2keras.tuning.grid.size import numbers_of
from l2keras.tuning.settings import Settings


class Chunk(NamedTuple):
    """Replicas that are trained together, by their folds and candidates.

    The last candidate may be repeated, so that all chunks are as large and the
    same compiled functions serve them.
    """

    folds: list[int]
    candidates: list[int]


def replicas_at_once(model: keras.Model, settings: Settings) -> int:
    """Returns how many replicas memory has room for, and speed asks for."""
    if settings.at_once is not None:
        return settings.at_once
    in_host_memory = backends.shares_memory()
    if in_host_memory and not stackable.is_cheap_to_map(model):
        return 1
    bytes_of_one = 4 * numbers_of(model, settings.batch_size)

    def room(device: Any = None) -> int:
        return max(1, backends.free_memory(device) // 4 // bytes_of_one)

    number = len(devices())
    if in_host_memory or number < 2:
        return room()
    # Each device has a memory of its own, if so many make all take part.
    several = devices_for(model, number * room(), settings.batch_size)
    if len(several) < number:
        return room()
    return number * min(map(room, several))


def chunks_of(settings: Settings, at_once: int) -> list[Chunk]:
    """Returns all replicas, in chunks of folds that have as many rows."""
    geometries: dict[tuple[int, int], list[int]] = {}
    for index, fold in enumerate(settings.folds):
        size = len(fold.train), len(fold.validation)
        geometries.setdefault(size, []).append(index)
    number = len(settings.candidates)
    pieces = -(-number // at_once)
    length = -(-number // pieces)
    chunks = []
    for folds in geometries.values():
        # Folds in equal parts, too.
        width = max(1, at_once // number)
        while len(folds) % min(width, len(folds)):
            width -= 1
        width = min(width, len(folds))
        for first in range(0, len(folds), width):
            for begin in range(0, number, length):
                candidates = list(range(begin, min(begin + length, number)))
                candidates += [candidates[-1]] * (length - len(candidates))
                chunks.append(Chunk(folds[first : first + width], candidates))
    return chunks
