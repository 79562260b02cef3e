"""The parts of a loss, computed with it inside the training step.

`compute_loss` is replaced on the model by one that also adds its parts to a
metric. It is compiled with the training step, so no work is done on the host
for a batch, and Keras keeps its asynchronous dispatch, which a callback with
`on_train_batch_end` would turn off. Keras resets and logs the metric itself,
during validation under `val_`.
"""

import contextlib
import functools
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import keras
from keras import ops

from l2keras._keras import precision, trainer_hooks
from l2keras._keras.backend import backend
from l2keras._types import Tensor
from l2keras.training.metrics import LossParts
from l2keras.weights.survey import Survey

PARTS = ("data_loss", "regularization_loss")


class LossSplit:
    """Splits the loss of one model into data loss and regularization loss.

    Args:
        model: A compiled model.
        has_penalties: Whether to report each weight's penalty.

    Attributes:
        has_penalties: As given.
        is_plain: Whether the model's steps are Keras's own.
        metric: The metric that holds the parts; `None` until the weights are
            known.
        compute_loss_called: Whether a step has called `compute_loss`.
        ignores_losses: Whether `compute_loss` did not read `model.losses`, so
            that the penalties are in no loss.
    """

    def __init__(self, model: keras.Model, has_penalties: bool) -> None:
        self._model = model
        self.has_penalties = has_penalties
        self.is_plain = (
            type(model).train_step is keras.Model.train_step
            and type(model).test_step is keras.Model.test_step
        )
        self.metric: LossParts | None = None
        self.compute_loss_called = False
        self.ignores_losses = False
        self._variables: list[keras.Variable] = []
        self._replicas = backend.num_replicas(model)
        self._adds_up = trainer_hooks.adds_losses_up(model)
        # The thread in which a step is running.
        self._thread: int | None = None
        if (
            model.built
            or not has_penalties
            or keras.backend.backend() != "tensorflow"
        ):
            self._add_metric()

    @property
    def is_hidden(self) -> bool:
        """Whether the model hides the metric from Keras."""
        return self.metric is not None and not any(
            metric is self.metric for metric in self._model.metrics
        )

    def is_up_to_date(self) -> bool:
        """Tells whether the reported weights are those with a penalty now."""
        return self.has_penalties and (
            self.metric is None
            or [id(variable) for variable in _penalized(self._model)]
            == [id(variable) for variable in self._variables]
        )

    def _add_metric(self) -> LossParts:
        model, names = self._model, list(PARTS)
        if self.has_penalties:
            penalized = Survey(model).penalized
            names += [
                f"regularization_loss/{weight.path}" for weight in penalized
            ]
            self._variables = [weight.variable for weight in penalized]
        trackers = [metric for metric in model.metrics if metric.name == "loss"]
        with backend.variable_scope(model):
            self.metric = LossParts(names, [] if self.is_plain else trackers)
        if self._thread is not None:
            self.show(None)
        trainer_hooks.add_metrics(model, [self.metric])
        return self.metric

    @contextlib.contextmanager
    def step(self) -> Iterator[None]:
        """Splits the loss that is computed inside: the loss of a step.

        And no other: callbacks and generators may call `compute_loss` as well.
        """
        self._thread = threading.get_ident()
        self.show(None)
        try:
            yield
        finally:
            self._thread = None
            self.show([])

    def show(self, names: Iterable[str] | None) -> None:
        """Has the metric return some of the numbers, `None` for a step."""
        if self.metric is not None:
            self.metric.shown = None if names is None else frozenset(names)

    def _is_in_step(self) -> bool:
        # A generator may run in another thread, while a step is under way. But
        # the replicas of a step have threads of their own.
        return self._thread is not None and (
            self._replicas > 1 or backend.runs_in(self._thread)
        )

    def wrap_compute_loss(self, compute_loss: Callable[..., Tensor]) -> Any:
        """A `compute_loss` that also adds to the metric."""

        @functools.wraps(compute_loss)
        def split(*args: Any, **kwargs: Any) -> Tensor:
            if not self._is_in_step():
                return compute_loss(*args, **kwargs)
            with (
                trainer_hooks.losses_watched(self._model) as losses,
                trainer_hooks.compiled_losses(self._model) as data_losses,
            ):
                loss = compute_loss(*args, **kwargs)
            if loss is None:
                return loss
            # On TensorFlow Keras makes the variables of a model without inputs
            # in the first step, while it compiles it.
            metric = self.metric or self._add_metric()
            if metric.is_tracked():
                self.compute_loss_called = True
                penalties = losses.values
                if penalties and not losses.were_read:
                    self.ignores_losses = True
                    penalties = [ops.zeros_like(p) for p in penalties]
                metric.add(
                    self._parts(loss, data_losses, penalties),
                    _batch_size(*args, **kwargs),
                )
            return loss

        return split

    def _parts(
        self, loss: Tensor, data_losses: list[Tensor], losses: list[Tensor]
    ) -> list[Tensor]:
        regularization = _total(losses, ops.sum)
        # Not the rest of the loss, if there is another way: beside a large
        # penalty it is nothing but rounding. Keras logs the mean of a loss that
        # has a number for each sample.
        data = _total(data_losses if self._adds_up else [loss], ops.mean)
        if self._replicas > 1:
            data = data * self._replicas
        if not self._adds_up:
            data = data - regularization
        return [data, regularization, *self._penalties(losses)]

    def _penalties(self, losses: list[Tensor]) -> list[Tensor | float]:
        """The penalty of each weight, 0 if it is frozen by now."""
        if not self._variables:
            return []
        penalized = _penalized(self._model)
        # Keras lists the weights' penalties last.
        last = losses[len(losses) - len(penalized) :]
        penalties = {
            # Keras takes a penalty of any shape.
            id(variable): _total([penalty], ops.sum)
            for variable, penalty in zip(penalized, last, strict=True)
        }
        return [penalties.get(id(v), 0.0) for v in self._variables]


def _penalized(model: keras.Model) -> list[keras.Variable]:
    """The variables with a penalty, in the order of `model.losses`."""
    return [
        variable
        for variable in model.trainable_weights
        if variable.regularizer is not None
    ]


def _total(
    losses: Iterable[Tensor], reduce: Callable[[Tensor], Tensor]
) -> Tensor | float:
    """The sum of losses, each reduced to a number."""
    scalars = [
        loss if len(loss.shape) == 0 else reduce(loss)
        for loss in map(precision.to_float32, losses)
    ]
    return sum(scalars[1:], start=scalars[0]) if scalars else 0.0


def _batch_size(
    x: Any = None, y: Any = None, y_pred: Any = None, *args: Any, **kwargs: Any
) -> Tensor:
    """The number of samples, by which Keras weights the loss."""
    for data in (x, y_pred, y):
        for array in keras.tree.flatten(data):
            if array is not None:
                return ops.shape(array)[0]
    return 1
