"""A stack on JAX: `vmap` of one step, in a loop compiled by `jit`."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from l2keras._types import Tensor
from l2keras.tuning.stack.replica import Arrays, Replica, State
from l2keras.tuning.stack.rows import Rows


class JaxStack:
    """Maps a step over folds and candidates, which devices share."""

    def __init__(
        self, replica: Replica, data: Arrays, shape: tuple[int, int]
    ) -> None:
        import jax

        self._replica = replica
        self._metrics = replica.metrics_at_start()
        self._shards = _Shards(shape[1])
        self._data = self._shards.copied(data)
        train, evaluate = map(self._epoch, (self._train_on, self._evaluate_on))
        self._train, self._evaluate = jax.jit(train), jax.jit(evaluate)

    def put(self, state: State) -> Any:
        """Arrays of shape (folds, candidates, ...) on the devices."""
        import jax

        return jax.tree.map(self._shards.split, state)

    def run(self, state: Any, rows: Rows, training: bool) -> Any:
        function = self._train if training else self._evaluate
        return function(state, self._data, rows.full, rows.rest, rows.number)

    def get(self, arrays: Any) -> Any:
        """Arrays of NumPy, without those that fill up the devices."""
        import jax

        return jax.tree.map(
            lambda array: np.asarray(array)[:, : self._shards.number], arrays
        )

    def _train_on(
        self, state: State, metrics: Arrays, data: Arrays, rows: Tensor
    ) -> Any:
        import jax

        replica, batch = self._replica, [array[rows] for array in data]
        gradients, results = jax.grad(replica.loss, has_aux=True)(
            state.trainable, state, metrics, batch, training=True
        )
        state = state._replace(non_trainable=results.non_trainable)
        state = replica.updated(state, gradients)
        # Here and not in the loss, as in Keras: its trainer loses the mask of
        # the outputs on the way.
        metrics = replica.updated_metrics(
            results.metrics, batch, results.y_pred
        )
        return state, metrics, results.data_loss

    def _evaluate_on(
        self, state: State, metrics: Arrays, data: Arrays, rows: Tensor
    ) -> Any:
        replica, batch = self._replica, [array[rows] for array in data]
        _, results = replica.loss(
            state.trainable, state, metrics, batch, training=False
        )
        state = state._replace(non_trainable=results.non_trainable)
        metrics = replica.updated_metrics(
            results.metrics, batch, results.y_pred
        )
        return state, metrics, results.data_loss

    def _epoch(self, one_batch: Callable[..., Any]) -> Callable[..., Any]:
        """A function that goes over the batches of an epoch."""
        import jax
        import jax.numpy as jnp

        # The candidates of a fold see the same rows: mapped apart, a batch is
        # not copied for each. The loop outside, or it would be traced anew.
        mapped = jax.vmap(one_batch, (0, 0, None, None))
        mapped = jax.vmap(mapped, (0, 0, None, 0))
        results = jax.vmap(jax.vmap(self._replica.metric_results))

        def run(
            state: State,
            data: Arrays,
            full: Tensor,
            rest: Tensor,
            number: Tensor,
        ) -> Any:
            axes = jax.tree.leaves(state)[0].shape[:2]

            def add(carry: Any, rows: Tensor) -> Any:
                state, metrics, total = carry
                state, metrics, loss = mapped(state, metrics, data, rows)
                return state, metrics, total + loss * rows.shape[-1]

            metrics = [
                jnp.broadcast_to(value, (*axes, *value.shape))
                for value in self._metrics
            ]
            total = jnp.zeros(axes, keras.config.floatx())
            carry = state, metrics, total
            if full.shape[1]:
                carry = jax.lax.fori_loop(
                    0,
                    number,
                    lambda index, carry: add(carry, full[:, index]),
                    carry,
                )
            if rest.shape[1]:
                carry = add(carry, rest)
            state, metrics, total = carry
            seen = number * full.shape[2] + rest.shape[1]
            return state, total / seen, results(metrics)

        return run


class _Shards:
    """The devices of this process, each with as many of the candidates.

    Replicas have nothing to do with each other, so `jit`, which follows how
    its arguments are sharded, sends nothing from one device to another.

    Args:
        number: The number of candidates.
    """

    def __init__(self, number: int) -> None:
        import jax

        self.number = number
        self._mesh: Any = None
        config: Any = jax.config
        if (
            config.jax_default_device is not None
            or keras.distribution.distribution() is not None
        ):
            return  # The user has said where to compute.
        devices = jax.local_devices()
        if len(devices) > 1 and number > 1:
            devices = devices[: min(len(devices), number)]
            self._mesh = jax.sharding.Mesh(np.array(devices), ("candidates",))

    def split(self, array: np.ndarray) -> Any:
        """An array of shape (folds, candidates, ...), sharded.

        The last candidate is repeated until all devices have as many.
        """
        import jax

        if self._mesh is None:
            return jax.device_put(array)
        widths = [(0, 0)] * array.ndim
        widths[1] = 0, -self.number % self._mesh.size
        spec = jax.sharding.PartitionSpec(None, "candidates")
        return jax.device_put(
            np.pad(array, widths, mode="edge"),
            jax.sharding.NamedSharding(self._mesh, spec),
        )

    def copied(self, arrays: Any) -> Any:
        """Arrays that each device has."""
        import jax

        if self._mesh is None:
            return jax.device_put(arrays)
        spec = jax.sharding.PartitionSpec()
        return jax.device_put(
            arrays, jax.sharding.NamedSharding(self._mesh, spec)
        )
