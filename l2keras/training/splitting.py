"""The numbers: what a loss that has just been computed is the sum of.

`compute_loss` is replaced on the model by one that also adds its parts to a
metric. It is compiled with the training step, so no work is done on the host
for a batch, and Keras keeps its asynchronous dispatch, which a callback with
`on_train_batch_end` would turn off. Keras resets and logs the metric itself,
during validation under `val_`.
"""

from collections.abc import Callable, Iterable
from typing import Any

import keras
from keras import ops

from l2keras._keras import backends, trainer_hooks
from l2keras._types import Tensor
from l2keras.training.metrics import LossParts
from l2keras.weights.survey import Survey


class LossSplit:
    """Splits the loss of one model into data loss and regularization loss.

    Args:
        model: A compiled model.
        penalties: Whether to report each weight's penalty.

    Attributes:
        metric: What reports the parts; `None` until the weights are known.
        was_asked: Whether `compute_loss` has been called.
        leaves_penalties_out: Whether `compute_loss` did not read
            `model.losses`, so that the penalties are in no loss.
        testing: Whether an evaluation is going on.
    """

    def __init__(self, model: keras.Model, penalties: bool) -> None:
        self._model = model
        self._penalties = penalties
        self._replicas = backends.num_replicas(model)
        self._adds_up = trainer_hooks.adds_losses_up(model)
        self._number_of_weights = 0
        self.metric: LossParts | None = None
        self.was_asked = False
        self.leaves_penalties_out = False
        self._testing = False
        # Whether Keras's mean weights batches by their size, in training and
        # in testing: only a step of the user's own may not.
        self._is_weighted = {False: True, True: True}
        if model.built or keras.backend.backend() != "tensorflow":
            self.make_metric()

    @property
    def is_plain(self) -> bool:
        """Whether the model's steps are Keras's own."""
        kind = type(self._model)
        return (
            kind.train_step is keras.Model.train_step
            and kind.test_step is keras.Model.test_step
        )

    @property
    def testing(self) -> bool:
        return self._testing

    @testing.setter
    def testing(self, testing: bool) -> None:
        self._testing = testing
        if self.metric is not None:
            self.metric.is_weighted = self._is_weighted[testing]

    def make_metric(self) -> LossParts:
        """Returns the metric, made if there is none yet."""
        if self.metric is None:
            names = ["data_loss", "regularization_loss"]
            if self._penalties:
                paying = Survey(self._model).paying
                names += [f"regularization_loss/{w.path}" for w in paying]
                self._number_of_weights = len(paying)
            with backends.variable_scope(self._model):
                self.metric = LossParts(
                    names,
                    as_dictionary=self.is_plain
                    or keras.backend.backend() == "jax",
                )
        return self.metric

    def splitting(self, compute_loss: Callable[..., Tensor]) -> Any:
        """Returns a `compute_loss` that also adds to the metric."""

        def split(*args: Any, **kwargs: Any) -> Tensor:
            with (
                trainer_hooks.losses_watched(self._model) as losses,
                trainer_hooks.compiled_losses(self._model) as data_losses,
            ):
                loss = compute_loss(*args, **kwargs)
            if loss is None:
                return loss
            if self.metric is None:
                # On TensorFlow Keras makes the variables of a model without
                # inputs in the first step, while it compiles it.
                trainer_hooks.add_metrics(
                    self._model, self.make_metric().metrics
                )
            assert self.metric is not None
            if self.metric.is_carried():
                self.was_asked = True
                paid = losses.values
                if paid and not losses.were_read:
                    self.leaves_penalties_out = True
                    paid = [ops.zeros_like(each) for each in paid]
                self.metric.add(
                    self._parts(loss, data_losses, paid),
                    _batch_size(*args, **kwargs),
                )
            return loss

        return split

    def _parts(
        self, loss: Tensor, data_losses: list[Tensor], paid: list[Tensor]
    ) -> list[Tensor]:
        regularization = _sum(paid)
        # Not the rest of the loss, if there is another way: beside a large
        # penalty nothing but rounding is left of it.
        data = _sum(data_losses if self._adds_up else [loss])
        if self._replicas > 1:
            data = data * self._replicas
        if not self._adds_up:
            data = data - regularization
        # Keras lists the weights' penalties last.
        return [
            data,
            regularization,
            *map(_total, paid[len(paid) - self._number_of_weights :]),
        ]

    def weighing(self, update_state: Callable[..., Any]) -> Callable[..., Any]:
        """Returns an `update_state` of the metric `loss` that is watched.

        For a training step of the user's own, which may take the mean of the
        batches' losses without regard to their sizes, as Keras's guides do.
        """

        def update(value: Any, sample_weight: Any = None) -> Any:
            weighted = sample_weight is not None
            self._is_weighted[self._testing] = weighted
            if self.metric is not None:
                self.metric.is_weighted = weighted
            return update_state(value, sample_weight=sample_weight)

        return update


def _sum(losses: Iterable[Tensor]) -> Tensor | float:
    scalars = [backends.to_float32(_total(loss)) for loss in losses]
    return sum(scalars[1:], start=scalars[0]) if scalars else 0.0


def _total(loss: Tensor) -> Tensor:
    """Returns the sum of a loss, which Keras takes in any shape."""
    return loss if len(loss.shape) == 0 else ops.sum(loss)


def _batch_size(
    x: Any = None, y: Any = None, y_pred: Any = None, *args: Any, **kwargs: Any
) -> Tensor:
    """Returns the number of samples, as Keras weights the loss by it."""
    for data in (x, y_pred, y):
        for each in keras.tree.flatten(data):
            if each is not None:
                return ops.shape(each)[0]
    return 1
