"""The devices that a stack is dealt to, and how many replicas each has."""

import sys
from typing import Any

import keras

from l2keras._keras import backends
from l2keras.tuning.grid.size import numbers_of

# On PyTorch one thread tells all devices what to compute. For each weight that
# takes it about a quarter of a millisecond a step, and a GPU whose memory gives
# a terabyte a second has meanwhile gone three times through as many numbers. A
# device that has fewer waits for Python, and several of them take longer than
# one. An estimate: nobody has measured it on several.
NUMBERS_FOR_A_WEIGHT = 2**24


def devices() -> list[Any]:
    """Returns the devices that a stack may be dealt to.

    None, where the user has said which one computes, or how arrays are
    distributed.
    """
    backend = keras.backend.backend()
    if keras.distribution.distribution() is not None:
        return []
    if _is_worker_of_dask_cuda():
        return []  # It sees all, its own first.
    if backend == "jax":
        import jax

        config: Any = jax.config
        chosen = config.jax_default_device
        return [] if chosen is not None else jax.local_devices()
    if backend == "tensorflow":
        import tensorflow as tf

        if tf.distribute.has_strategy() or backends.chosen_device():
            return []
        return (
            tf.config.list_logical_devices("GPU")
            or tf.config.list_logical_devices("CPU")
        )  # fmt: skip
    return backends.torch_devices()


def devices_for(
    model: keras.Model, replicas: int, batch_size: int
) -> list[Any]:
    """Returns the devices that have enough to do of so many replicas."""
    if keras.backend.backend() != "torch":
        return devices()
    numbers = replicas * numbers_of(model, batch_size)
    weights = max(1, len(model.trainable_variables))
    most = numbers // (NUMBERS_FOR_A_WEIGHT * weights)
    return devices()[:most] if most > 1 else []


def _is_worker_of_dask_cuda() -> bool:
    if "dask_cuda" not in sys.modules:
        return False
    import distributed

    try:
        distributed.get_worker()
    except ValueError:  # It is who has others work.
        return False
    return True


def deal(shape: tuple[int, int], number: int) -> tuple[int, int]:
    """Returns in how many parts folds and candidates are cut.

    The folds must be cut evenly, the candidates need not: the last is repeated.
    The device that has most to do has as little as can be, and of two ways to
    have it so that with fewer repetitions is taken.

    Args:
        shape: The numbers of folds and candidates.
        number: How many devices there are.

    >>> deal((5, 9), 8), deal((2, 9), 8), deal((3, 2), 8)
    ((5, 1), (2, 3), (3, 2))
    """
    folds, candidates = shape
    ways = [
        (parts, min(number // parts, candidates))
        for parts in range(1, min(folds, number) + 1)
        if folds % parts == 0
    ]
    # As few parts as give each device no more.
    ways = [(f, -(-candidates // -(-candidates // c))) for f, c in ways]

    def work(way: tuple[int, int]) -> tuple[int, int]:
        each = folds // way[0] * -(-candidates // way[1])
        return each, each * way[0] * way[1]

    return min(ways, key=work)
