"""Replicas on PyTorch: steps mapped by `torch.func.vmap`, and recorded."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from l2keras._keras import backends
from l2keras._types import Tensor
from l2keras.tuning.grid.replica import Arrays, InitialState
from l2keras.tuning.grid.stack import Means, Rows, VariableStack


class TorchStack(VariableStack):
    """Maps by `torch.func.vmap`, and records what follows from that.

    To go through Keras and through `vmap` may take longer than to compute. It
    is done once for batches of each size, and once more to see that the record
    holds: that nothing but tensors changes from batch to batch.
    """

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._recorded: dict[Any, Callable[..., Any]] = {}
        self._compared: set[Any] = set()

    def start(
        self, initial_states: Sequence[InitialState], strengths: np.ndarray
    ) -> None:
        super().start(initial_states, strengths)
        if not self.is_mapped:
            # Dropout draws from the one generator of PyTorch.
            backends.set_random_state(initial_states[0].random)

    def state(self) -> list[np.ndarray]:
        return [*backends.random_state(), *super().state()]

    def restore(self, state: list[np.ndarray]) -> None:
        number = len(backends.random_state())
        backends.set_random_state(state[:number])
        super().restore(state[number:])

    def _train_epoch(self, rows: Rows) -> Means:
        return self._pass(rows, training=True)

    def evaluate(self, rows: Rows) -> Means:
        return self._pass(rows, training=False)

    def _pass(self, rows: Rows, training: bool) -> Means:
        import torch

        if not self.is_mapped:
            # Keras's and PyTorch's loaders draw a number each for every pass.
            torch.empty(2, dtype=torch.int64).random_()
        device = self._strengths.device
        full, rest = (torch.as_tensor(each, device=device) for each in rows)
        metrics, total = self._initial_metrics, torch.zeros((), device=device)
        every_batch = [*full.unbind(1), *([rest] if rest.shape[1] else [])]
        with self._values_in_variables():
            for chosen in every_batch:
                data_loss, metrics = self._one_batch(metrics, chosen, training)
                total = total + data_loss * chosen.shape[1]
        results = self.replica.results
        if self.is_mapped:
            results = torch.func.vmap(torch.func.vmap(results))
        number = rows.full[0].size + rows.rest[0].size
        with torch.no_grad():
            return self._to_means(total / number, results(metrics))

    def _one_batch(
        self, metrics: Arrays, chosen: Tensor, training: bool
    ) -> Any:
        import torch
        from torch.fx.experimental.proxy_tensor import make_fx

        if not self.is_mapped:
            chosen = chosen[0]
        trainable = [variable.value.detach() for variable in self._trainable]
        batch = [each[chosen] for each in self._data]
        arguments = (
            trainable,
            self._non_trainable,
            metrics,
            self._strengths,
            batch,
            self._step(),
        )
        compute: Callable[..., Any] = functools.partial(self._compute, training)
        if self.is_mapped:
            key = training, chosen.shape
            if key not in self._recorded:
                self._recorded[key] = make_fx(compute)(*arguments)
            elif key not in self._compared:
                self._compared.add(key)
                with torch.no_grad():
                    _check_same(
                        compute(*arguments), self._recorded[key](*arguments)
                    )
            compute = self._recorded[key]
        with torch.no_grad():
            data_loss, gradients, non_trainable, metrics = compute(*arguments)
            if training:
                self._optimizer.apply(gradients, self._trainable)
                self._non_trainable = non_trainable
        return data_loss, metrics

    def _compute(self, training: bool, trainable: Arrays, *others: Any) -> Any:
        """Returns data loss, gradients, and new values of the variables."""
        import torch

        def one(*arguments: Any) -> Any:
            return self.replica.loss(*arguments, training=training)  # type: ignore[misc]

        if self.is_mapped:
            # The strengths of a fold see the same rows.
            one = torch.func.vmap(one, (0, 0, 0, 0, None, None))
            one = torch.func.vmap(one, (0, 0, 0, None, 0, None))
        gradients: Sequence[Tensor] = ()
        with torch.set_grad_enabled(training):
            trainable = [each.requires_grad_(training) for each in trainable]
            loss, rest = one(trainable, *others)
            if training:
                gradients = torch.autograd.grad(
                    loss.sum(), trainable, allow_unused=True
                )
        data_loss, *rest = keras.tree.map_structure(torch.detach, rest)
        return data_loss, list(gradients), *rest


def _check_same(one: Any, other: Any) -> None:
    """Raises a RuntimeError unless two steps computed the same."""
    import torch

    for a, b in zip(
        keras.tree.flatten(one), keras.tree.flatten(other), strict=True
    ):
        if a is None or not a.is_floating_point():
            continue
        if not torch.allclose(a, b, rtol=1e-3, atol=1e-6, equal_nan=True):
            raise RuntimeError(
                "not every batch is computed alike: something other than "
                "tensors changes, such as random numbers of NumPy"
            )
