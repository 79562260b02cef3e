"""Replicas on PyTorch: steps mapped by `torch.func.vmap`, and recorded."""

import time
from collections.abc import Hashable, Sequence
from typing import Any

import keras
import numpy as np

from l2keras._keras import backends
from l2keras._types import Tensor
from l2keras.tuning.grid import torch_recording
from l2keras.tuning.grid.replica import Arrays, InitialState
from l2keras.tuning.grid.stack import Means, Rows, VariableStack
from l2keras.tuning.grid.torch_threads import (
    MeasuredThreads,
    number_of_threads_kept,
)


class TorchStack(VariableStack):
    """Maps by `torch.func.vmap`, and records what follows from that.

    To go through Keras and through `vmap` may take longer than to compute. It
    is done once for batches of each size, and once more to see that the record
    holds: that nothing but tensors changes from batch to batch.
    """

    def __init__(self, *args: Any) -> None:
        import torch

        super().__init__(*args)
        self._threads = MeasuredThreads(torch.get_num_threads())
        self._recorded: dict[Hashable, torch_recording.Function] = {}
        self._compared: set[Hashable] = set()
        self._not_recordable: set[Hashable] = set()
        self._metric_names: list[str] = []
        # Whether the last call took the time that others will take.
        self._is_repeating = False

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
        every_batch = [*full.unbind(1), *([rest] if rest.shape[1] else [])]
        metrics, total = self._initial_metrics, torch.zeros((), device=device)
        with (
            self._values_in_variables(),
            number_of_threads_kept(),
            torch.no_grad(),
        ):
            for chosen in every_batch:
                began = time.perf_counter()
                torch.set_num_threads(self._threads.number)
                data_loss, metrics = self._one_batch(metrics, chosen, training)
                total = total + data_loss * chosen.shape[1]
                if (
                    training
                    and self._is_repeating
                    and chosen.shape[1] == full.shape[2]
                ):
                    self._threads.note(time.perf_counter() - began)
            number = rows.full[0].size + rows.rest[0].size
            return self._to_means(total / number, self._results(metrics))

    def _results(self, metrics: Arrays) -> dict[str, Tensor]:
        """Returns the values of the compiled metrics."""
        import torch

        results = self.replica.results
        if self.is_mapped:
            results = torch.func.vmap(torch.func.vmap(results))
        names: list[str] = []

        def values(metrics: Sequence[Tensor]) -> list[Tensor]:
            named = results(list(metrics))
            names.extend(named)
            return list(named.values())

        found = self._call("results", values, metrics)
        if names:
            self._metric_names = names
        return dict(zip(self._metric_names, found, strict=True))

    def _one_batch(
        self, metrics: Arrays, chosen: Tensor, training: bool
    ) -> tuple[Tensor, Arrays]:
        """Goes over one batch; returns data loss, and the metrics' values."""
        key = training, chosen.shape
        first, second = len(self._non_trainable), len(metrics)
        inputs = [*self._non_trainable, *metrics, self._strengths, chosen]
        # An optimizer may do what cannot be recorded, such as to have Python
        # look at the number of the step, while all else can.
        with_update = training and ("update", key) not in self._not_recordable

        def compute(inputs: Sequence[Tensor]) -> list[Any]:
            non_trainable, metrics, others = _split(inputs, first, second)
            data_loss, gradients, non_trainable, metrics = self._compute(
                training, non_trainable, metrics, *others
            )
            if with_update:
                non_trainable = self._update(gradients, non_trainable)
                gradients = []
            return [data_loss, *non_trainable, *metrics, *gradients]

        name = "update" if with_update else "compute"
        data_loss, *values = self._call((name, key), compute, inputs)
        non_trainable, metrics, gradients = _split(values, first, second)
        if training:
            self._non_trainable = (
                non_trainable
                if with_update
                else self._update(gradients, non_trainable)
            )
        return data_loss, metrics

    def _update(self, gradients: Arrays, non_trainable: Arrays) -> Arrays:
        """Has the optimizer make its step; returns what changes with it."""
        self._optimizer.apply(gradients, self._trainable)
        return non_trainable

    def _compute(
        self,
        training: bool,
        non_trainable: Arrays,
        metrics: Arrays,
        strengths: Tensor,
        chosen: Tensor,
    ) -> Any:
        """Returns data loss, gradients, and new values of the variables."""
        import torch

        step = self._step()

        def one(*arguments: Any) -> Any:
            return self.replica.loss(*arguments, step=step, training=training)  # type: ignore[misc]

        if self.is_mapped:
            # The strengths of a fold see the same rows.
            one = torch.func.vmap(one, (0, 0, 0, 0, None))
            one = torch.func.vmap(one, (0, 0, 0, None, 0))
        else:
            chosen = chosen[0]
        batch = [each[chosen] for each in self._data]
        gradients: Sequence[Tensor] = ()
        with torch.set_grad_enabled(training):
            trainable = [
                variable.value.detach().requires_grad_(training)
                for variable in self._trainable
            ]
            loss, rest = one(
                trainable, non_trainable, metrics, strengths, batch
            )
            if training:
                gradients = torch.autograd.grad(
                    loss.sum(), trainable, allow_unused=True
                )
        data_loss, *rest = keras.tree.map_structure(torch.detach, rest)
        return data_loss, list(gradients), *rest

    def _call(
        self,
        key: Hashable,
        function: torch_recording.Function,
        inputs: Sequence[Tensor],
    ) -> list[Any]:
        """Calls a function, or repeats what it did before.

        Args:
            key: What is the same for calls that do the same.
            function: What to call.
            inputs: What to call it with.
        """
        is_called = not self.is_mapped or key in self._not_recordable
        self._is_repeating = is_called or key in self._compared
        if is_called:
            return function(inputs)
        state = [variable.value for variable in self._variables]
        if key not in self._recorded:
            outputs, recorded = torch_recording.record(function, inputs, state)
            if recorded is None:
                self._not_recordable.add(key)
            else:
                self._recorded[key] = recorded
            return outputs
        if key in self._compared:
            return self._recorded[key](inputs)
        self._compared.add(key)
        before = [each.clone() for each in state]
        repeated = [*self._recorded[key](inputs), *(s.clone() for s in state)]
        for each, value in zip(state, before, strict=True):
            each.copy_(value)
        outputs = function(inputs)
        _check_same([*outputs, *state], repeated)
        return outputs


def _split(
    values: Sequence[Any], first: int, second: int
) -> tuple[Arrays, Arrays, Arrays]:
    """Returns so many values, so many others, and the rest."""
    return (
        list(values[:first]),
        list(values[first : first + second]),
        list(values[first + second :]),
    )


def _check_same(ones: Sequence[Any], others: Sequence[Any]) -> None:
    """Raises a RuntimeError unless two steps computed the same."""
    import torch

    for one, other in zip(ones, others, strict=True):
        if one is None or not one.is_floating_point():
            continue
        if not torch.allclose(one, other, rtol=1e-3, atol=1e-6, equal_nan=True):
            raise RuntimeError(
                "not every batch is computed alike: something other than "
                "tensors changes, such as random numbers of NumPy"
            )
