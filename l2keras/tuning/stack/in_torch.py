"""A stack on PyTorch: `torch.func.vmap` of one step, traced by `make_fx`."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np

from l2keras._types import Tensor
from l2keras.tuning.stack.replica import Arrays, Replica, State
from l2keras.tuning.stack.rows import Rows
from l2keras.tuning.stack.size import elements_per_step

# Below so many elements a step is computed by one thread. Several gain little,
# and lose much where others use the machine: they wait for each other after
# each operation.
_ELEMENTS_FOR_THREADS = 2**24


class TorchStack:
    """Maps a step over candidates and folds.

    To go through Keras and `vmap` takes longer than to compute, so the step is
    traced once for batches of each size, and its operations repeated.
    """

    def __init__(
        self, replica: Replica, data: Arrays, shape: tuple[int, int]
    ) -> None:
        self._replica = replica
        self._shape = shape
        self._data = [keras.ops.convert_to_tensor(array) for array in data]
        self._metrics = [
            keras.ops.convert_to_tensor(
                np.broadcast_to(value, (*shape, *value.shape)).copy()
            )
            for value in replica.metrics_at_start()
        ]
        self._traced: dict[Any, Callable[..., Any]] = {}

    def put(self, state: State) -> Any:
        """Tensors of shape (folds, candidates, ...)."""
        return keras.tree.map_structure(keras.ops.convert_to_tensor, state)

    def get(self, arrays: Any) -> Any:
        """Arrays of NumPy."""
        return keras.tree.map_structure(keras.ops.convert_to_numpy, arrays)

    def run(self, state: Any, rows: Rows, training: bool) -> Any:
        import torch

        one_batch = self._train_on if training else self._evaluate_on
        device = (
            self._data[0].device if self._data else torch.get_default_device()
        )
        full, rest = (
            torch.as_tensor(numbers, device=device)
            for numbers in (rows.full[:, : rows.number], rows.rest)
        )
        batches = [*full.unbind(1), *([rest] if rest.shape[1] else [])]
        metrics, total = self._metrics, 0.0
        with torch.no_grad(), self._threads(batches[0].shape[1]):
            for chosen in batches:
                state, metrics, loss = self._call(
                    one_batch, state, metrics, chosen
                )
                total = total + loss * chosen.shape[1]
            results = torch.func.vmap(
                torch.func.vmap(self._replica.metric_results)
            )(metrics)
        number = sum(chosen.shape[1] for chosen in batches)
        return state, total / number, results

    def _call(
        self,
        one_batch: Callable[..., Any],
        state: State,
        metrics: Arrays,
        chosen: Tensor,
    ) -> Any:
        """The results of one batch, from its trace."""
        from torch.fx.experimental.proxy_tensor import make_fx

        key = one_batch, chosen.shape
        structure = state, metrics
        arguments = keras.tree.flatten(structure), chosen, self._rates(state)

        def flat(leaves: Arrays, *others: Any) -> Arrays:
            state, metrics = keras.tree.pack_sequence_as(structure, leaves)
            state, metrics, loss = one_batch(state, metrics, *others)
            return [*keras.tree.flatten((state, metrics)), loss]

        if key not in self._traced:
            self._traced[key] = _simplified(make_fx(flat)(*arguments))
        *leaves, loss = self._traced[key](*arguments)
        state, metrics = keras.tree.pack_sequence_as(structure, leaves)
        return state, metrics, loss

    def _rates(self, state: State) -> Tensor | None:
        """The learning rates, if they follow a schedule.

        Schedules look at the step by Python's `if`, which cannot be traced.
        """
        import torch

        schedule = self._replica.learning_rate_schedule
        if schedule is None:
            return None
        # The same for all candidates.
        steps = self._replica.iterations(state)[:, 0]
        rates = [torch.as_tensor(schedule(step)) for step in steps]
        return torch.stack(rates)[:, None].expand(self._shape)

    def _losses(
        self,
        trainable: Arrays,
        state: State,
        metrics: Arrays,
        chosen: Tensor,
        training: bool,
    ) -> Any:
        """The losses of all replicas, and the results."""
        import torch

        replica = self._replica

        def one(
            trainable: Arrays, state: State, metrics: Arrays, batch: Arrays
        ) -> Any:
            loss, results = replica.loss(
                trainable, state, metrics, batch, training=training
            )
            metrics = replica.updated_metrics(
                results.metrics, batch, results.y_pred
            )
            return loss, results.data_loss, results.non_trainable, metrics

        # The candidates of a fold see the same rows.
        mapped = torch.func.vmap(one, (0, 0, 0, None))
        mapped = torch.func.vmap(mapped, (0, 0, 0, 0))
        batch = [array[chosen] for array in self._data]
        with _contiguous():
            return mapped(trainable, state, metrics, batch)

    def _train_on(
        self,
        state: State,
        metrics: Arrays,
        chosen: Tensor,
        rates: Tensor | None,
    ) -> Any:
        import torch

        with torch.enable_grad():
            trainable = [
                value.detach().requires_grad_() for value in state.trainable
            ]
            loss, data_loss, non_trainable, metrics = self._losses(
                trainable, state, metrics, chosen, training=True
            )
            gradients = torch.autograd.grad(
                loss.sum(), trainable, allow_unused=True
            )
        data_loss, non_trainable, metrics = keras.tree.map_structure(
            torch.detach, (data_loss, non_trainable, metrics)
        )
        known = {
            index: gradient
            for index, gradient in enumerate(gradients)
            if gradient is not None
        }

        def update(
            state: State, known: dict[int, Tensor], rate: Tensor | None
        ) -> State:
            every = [known.get(index) for index in range(len(gradients))]
            return self._replica.updated(state, every, rate)

        state = state._replace(non_trainable=non_trainable)
        axes = 0, 0, None if rates is None else 0
        update = torch.func.vmap(torch.func.vmap(update, axes), axes)
        state = update(state, known, rates)
        return state, metrics, data_loss

    def _evaluate_on(
        self, state: State, metrics: Arrays, chosen: Tensor, rates: Any
    ) -> Any:
        _, data_loss, non_trainable, metrics = self._losses(
            state.trainable, state, metrics, chosen, training=False
        )
        state = state._replace(non_trainable=non_trainable)
        return state, metrics, data_loss

    @contextlib.contextmanager
    def _threads(self, batch_size: int) -> Iterator[None]:
        """A context with one thread, unless a step is large."""
        import torch

        before = torch.get_num_threads()
        replicas = self._shape[0] * self._shape[1]
        elements = replicas * elements_per_step(self._replica.model, batch_size)
        if elements < _ELEMENTS_FOR_THREADS:
            torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(before)


def _contiguous() -> contextlib.AbstractContextManager:
    """A context in which all tensors count as contiguous.

    Keras asks before a convolution, for speed, and `vmap` forbids it.
    """
    import torch
    from torch.overrides import TorchFunctionMode

    class Contiguous(TorchFunctionMode):
        def __torch_function__(
            self, function: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            if function is torch.Tensor.is_contiguous:
                return True
            return function(*args, **(kwargs or {}))

    return Contiguous()


def _simplified(traced: Any) -> Any:
    """A trace without the operations that change nothing."""
    import torch

    graph = traced.graph
    for node in graph.nodes:
        if node.target in (
            torch.ops.aten.detach.default,
            torch.ops.aten.alias.default,
        ):
            node.replace_all_uses_with(node.args[0])
    graph.eliminate_dead_code()
    traced.recompile()
    return traced
