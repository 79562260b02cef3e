"""The replicas of a stack dealt to several devices, on JAX.

Replicas have nothing to do with each other, so each device trains those that it
has, by the same compiled program, and sends nothing to the others.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from l2keras._types import Tensor
from l2keras.tuning.grid.devices import deal, devices


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
