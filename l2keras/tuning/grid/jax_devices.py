"""The replicas of a stack dealt to several devices, on JAX.

Replicas have nothing to do with each other, so each device trains those that it
has, by the same compiled program, and sends nothing to the others.
"""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from l2keras._types import Tensor


def devices() -> list[Any]:
    """Returns the devices that a stack may be dealt to.

    None, where the user has said which one computes, or how arrays are
    distributed; and none on other backends.
    """
    if keras.backend.backend() != "jax":
        return []
    import jax

    config: Any = jax.config
    if (
        keras.distribution.distribution() is not None
        or config.jax_default_device is not None
    ):
        return []
    return jax.local_devices()


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


class Dealing:
    """How the replicas of a stack lie on devices.

    Args:
        shape: The numbers of folds and candidates.
        parts: In how many parts each is cut.
        of_devices: The devices.
    """

    def __init__(
        self,
        shape: tuple[int, int],
        parts: tuple[int, int],
        of_devices: list[Any],
    ) -> None:
        import jax

        self._number = shape[1]
        self._padding = -shape[1] % parts[1]
        used = np.array(of_devices[: parts[0] * parts[1]], dtype=object)
        self._mesh = jax.sharding.Mesh(
            used.reshape(parts), ("folds", "candidates")
        )

    @classmethod
    def of(cls, shape: tuple[int, int]) -> "Dealing | None":
        """Returns it for the devices that there are, `None` if one does all."""
        of_devices = devices()
        parts = deal(shape, max(1, len(of_devices)))
        return None if parts == (1, 1) else cls(shape, parts, of_devices)

    def state(self, arrays: Any) -> Any:
        """Returns arrays of all replicas, each on its device."""
        import jax

        return jax.tree.map(
            lambda each: jax.device_put(
                self._padded(each, axis=1), self._on("folds", "candidates")
            ),
            arrays,
        )

    def strengths(self, strengths: np.ndarray) -> Tensor:
        """Returns an array of all candidates, each on its device."""
        import jax

        return jax.device_put(
            self._padded(strengths, axis=0), self._on("candidates")
        )

    def data(self, arrays: Any) -> Any:
        """Returns arrays that all devices have."""
        import jax

        return jax.device_put(arrays, self._on())

    def gathered(self, arrays: Any) -> Any:
        """Returns arrays of all replicas, of NumPy, without repetitions."""
        import jax

        return jax.tree.map(
            lambda each: np.asarray(each)[:, : self._number], arrays
        )

    def mapped(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Returns a function of states, strengths, rows and data, for all.

        It returns two trees of arrays that have the axes of the replicas.
        """
        import jax

        every, one = self._spec("folds", "candidates"), self._spec
        specs: dict[str, Any] = {
            "mesh": self._mesh,
            "in_specs": (every, one("candidates"), one("folds"), one()),
            "out_specs": every,
        }
        # What a device has differs from what others have, from the first step
        # on: JAX need not look for what they share.
        if hasattr(jax, "shard_map"):
            return jax.shard_map(function, check_vma=False, **specs)
        from jax.experimental.shard_map import shard_map

        return shard_map(function, check_rep=False, **specs)

    def _padded(self, array: Any, axis: int) -> np.ndarray:
        array = np.asarray(array)
        widths = [(0, 0)] * array.ndim
        widths[axis] = 0, self._padding
        return np.pad(array, widths, mode="edge")

    def _spec(self, *axes: str) -> Any:
        import jax

        return jax.sharding.PartitionSpec(*axes)

    def _on(self, *axes: str) -> Any:
        import jax

        return jax.sharding.NamedSharding(self._mesh, self._spec(*axes))
