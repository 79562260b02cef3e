"""Replicas on PyTorch: steps mapped by `torch.func.vmap`, and recorded."""

import time
from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np

from l2keras._keras import backends, layer_tree
from l2keras._types import Tensor
from l2keras.tuning.grid import torch_recording
from l2keras.tuning.grid.hypergradient import Hypergradient
from l2keras.tuning.grid.learner import Learned, Learner
from l2keras.tuning.grid.replica import Arrays, InitialState
from l2keras.tuning.grid.stack import Means, Rows, VariableStack
from l2keras.tuning.grid.torch_threads import (
    MeasuredThreads,
    number_of_threads_kept,
)


class Sums(NamedTuple):
    """What the batches of a pass have come to so far.

    Attributes:
        metrics: Values of the metrics' variables.
        data_loss: Summed over the rows, of shape (folds, candidates).
    """

    metrics: Arrays
    data_loss: Tensor


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
        self._randomness = "error"
        self._draws_random_numbers = any(
            layer_tree.draws_random_numbers(layer)
            for _, layer in layer_tree.layers_by_path(self.replica.model)
        )

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

    def has_axes(self) -> list[bool]:
        return [False] * len(backends.random_state()) + super().has_axes()

    def _train_epoch(self, rows: Rows) -> Means:
        return self._pass(rows, training=True)

    def evaluate(self, rows: Rows) -> Means:
        return self._pass(rows, training=False)

    def _pass(self, rows: Rows, training: bool) -> Means:
        import torch

        if not self.is_mapped:
            # Keras's and PyTorch's loaders draw a number each for every pass.
            torch.empty(2, dtype=torch.int64).random_()
        sums = self.no_sums()
        with (
            self._values_in_variables(),
            number_of_threads_kept(),
            torch.no_grad(),
        ):
            for chosen in self.batches(rows):
                began = time.perf_counter()
                torch.set_num_threads(self._threads.number)
                sums = self.after_batch(sums, chosen, training)
                if (
                    training
                    and self._is_repeating
                    and chosen.shape[1] == rows.full.shape[2]
                ):
                    self._threads.note(time.perf_counter() - began)
            return self.means(sums, rows)

    def batches(self, rows: Rows) -> list[Tensor]:
        """Returns the rows of each batch, of shape (folds, batch size)."""
        import torch

        device = self._strengths.device
        full, rest = (torch.as_tensor(each, device=device) for each in rows)
        return [*full.unbind(1), *([rest] if rest.shape[1] else [])]

    def no_sums(self) -> Sums:
        """Returns what there is before the first batch of a pass."""
        import torch

        zero = torch.zeros((), device=self._strengths.device)
        return Sums(self._initial_metrics, zero)

    def after_batch(self, sums: Sums, chosen: Tensor, training: bool) -> Sums:
        """Goes over one batch."""
        data_loss, metrics = self._one_batch(sums.metrics, chosen, training)
        return Sums(metrics, sums.data_loss + data_loss * chosen.shape[1])

    def means(self, sums: Sums, rows: Rows) -> Means:
        """Returns what a pass over these rows comes to."""
        number = rows.full[0].size + rows.rest[0].size
        return self._to_means(
            sums.data_loss / number, self._results(sums.metrics)
        )

    def _results(self, metrics: Arrays) -> dict[str, Tensor]:
        """Returns the values of the compiled metrics."""
        results = self._mapped(self.replica.results, "r")
        names: list[str] = []

        def values(metrics: Sequence[Tensor]) -> list[Tensor]:
            named = results(list(metrics))
            names.extend(named)
            return list(named.values())

        found = self._call("results", values, metrics)
        if names:
            self._metric_names = names
        return dict(zip(self._metric_names, found, strict=True))

    def _mapped(
        self, function: Callable[..., Any], arguments: str
    ) -> Callable[..., Any]:
        """Returns a function of one replica as one of all, if there are more.

        Args:
            function: Called with what is named, in this order.
            arguments: `r` for an argument with a value for each replica, `c`
                for each candidate, `f` for each fold.
        """
        import torch

        if not self.is_mapped:
            return function
        # The candidates of a fold see the same rows.
        for axes in "rc", "rf":
            mapped = tuple(0 if each in axes else None for each in arguments)
            function = torch.func.vmap(
                function, mapped, randomness=self._randomness
            )
        return function

    def learn(
        self,
        learner: Learner,
        learned: Learned,
        rows: np.ndarray,
        held_out: np.ndarray,
    ) -> Learned:
        import torch

        # There is no `fit` that would draw the same random numbers.
        self._randomness = "different"
        device = self._strengths.device
        batches = [
            torch.as_tensor(each, device=device).unbind(1)
            for each in (rows, held_out)
        ]
        with (
            self._values_in_variables(),
            number_of_threads_kept(),
            torch.no_grad(),
        ):
            for chosen, held in zip(*batches, strict=True):
                began = time.perf_counter()
                torch.set_num_threads(self._threads.number)
                self._strengths = learner.strengths(learned)[None]
                self._one_batch(self._initial_metrics, chosen, training=True)
                learned = self._after_step(learner, learned, held)
                if self._is_repeating:
                    self._threads.note(time.perf_counter() - began)
        return learned

    def _after_step(
        self, learner: Learner, learned: Learned, held_out: Tensor
    ) -> Learned:
        """Returns what is known of the strengths after a step."""
        number = len(self._non_trainable)

        def compute(inputs: Sequence[Tensor]) -> list[Any]:
            non_trainable, learned, others = _split(
                inputs, number, len(Learned._fields)
            )
            known = Learned(*learned)
            signals = self._signals(
                learner.hypergradient, non_trainable, *others
            )
            return list(learner.moved(known, signals))

        inputs = [*self._non_trainable, *learned, self._strengths, held_out]
        key = "learn", held_out.shape
        return Learned(*self._call(key, compute, inputs))

    def _signals(
        self,
        hypergradient: Hypergradient,
        non_trainable: Arrays,
        strengths: Tensor,
        held_out: Tensor,
    ) -> Tensor:
        """Returns what moves the strengths, of shape (folds, strengths)."""
        import torch

        def slopes_of(
            value: Callable[[Arrays], Tensor], at: Arrays
        ) -> Sequence[Tensor]:
            with torch.enable_grad():
                at = [each.detach().requires_grad_() for each in at]
                # Zeros where there are none.
                return torch.autograd.grad(
                    value(at).sum(),
                    at,
                    allow_unused=True,
                    materialize_grads=True,
                )

        def data_loss(trainable: Arrays) -> Tensor:
            return self._losses(
                trainable,
                non_trainable,
                self._initial_metrics,
                strengths,
                held_out,
                training=False,
            )[1][0]

        trainable = [variable.value for variable in self._trainable]
        gradients = slopes_of(data_loss, trainable)
        slopes = slopes_of(
            self._mapped(hypergradient.penalty, "r"),
            hypergradient.copies(trainable),
        )
        signals = self._mapped(hypergradient.signals, "rr")
        return signals(list(gradients), list(slopes)).reshape(
            held_out.shape[0], -1
        )

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
        if training and not with_update:
            non_trainable = self._update(gradients, non_trainable)
        self._non_trainable = non_trainable
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

        gradients: Sequence[Tensor] = ()
        with torch.set_grad_enabled(training):
            trainable = [
                variable.value.detach().requires_grad_(training)
                for variable in self._trainable
            ]
            loss, rest = self._losses(
                trainable, non_trainable, metrics, strengths, chosen, training
            )
            if training:
                gradients = torch.autograd.grad(
                    loss.sum(), trainable, allow_unused=True
                )
        data_loss, *rest = keras.tree.map_structure(torch.detach, rest)
        return data_loss, list(gradients), *rest

    def _losses(
        self,
        trainable: Arrays,
        non_trainable: Arrays,
        metrics: Arrays,
        strengths: Tensor,
        chosen: Tensor,
        training: bool,
    ) -> Any:
        """Returns the results of `Replica.loss`."""
        step = self._step()

        def one(*arguments: Any) -> Any:
            return self.replica.loss(*arguments, step=step, training=training)  # type: ignore[misc]

        if not self.is_mapped:
            strengths, chosen = strengths[0], chosen[0]
        batch = [each[chosen] for each in self._data]
        return self._mapped(one, "rrrcf")(
            trainable, non_trainable, metrics, strengths, batch
        )

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
        is_called = (
            not self.is_mapped
            or self._draws_random_numbers
            or key in self._not_recordable
        )
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
