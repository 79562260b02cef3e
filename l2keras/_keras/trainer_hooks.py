"""The private parts of Keras's trainers: metrics, losses, compiled state."""

import contextlib
import inspect
from collections.abc import Iterator
from typing import Any, NamedTuple

import keras

from l2keras._keras import call_stack
from l2keras._keras.backend import backend
from l2keras._types import Tensor


def add_metrics(
    model: keras.Model, metrics: list[keras.metrics.Metric]
) -> None:
    """Lets the model reset and log the metrics as its own.

    The public way is an attribute, which a built model refuses and which
    would have to be found again.
    """
    model._metrics.extend(metrics)


def remove_metrics(
    model: keras.Model, metrics: list[keras.metrics.Metric]
) -> None:
    """Undoes `add_metrics`."""
    for metric in metrics:
        if metric in model._metrics:
            model._metrics.remove(metric)


def compiled_metric_names(model: keras.Model) -> set[str]:
    """The names of the metrics that were given to `compile`.

    `model.metrics_names` has one name for all of them.
    """
    compiled = model._compile_metrics
    if compiled is None:
        return set()
    metrics = keras.tree.flatten(
        [compiled._user_metrics, compiled._user_weighted_metrics]
    )
    return {
        metric if isinstance(metric, str) else getattr(metric, "name", "")
        for metric in metrics
    }


def is_readable(variable: keras.Variable) -> bool:
    """Tells whether a variable has a value here.

    While it trains, Keras's JAX trainer takes the values out of the variables
    and passes them along; a scope gives them back where they are needed.
    """
    try:
        return variable.value is not None
    except TypeError:  # From calling the initializer that is no longer there.
        return False


def note_state(model: keras.Model) -> None:
    """Tells the model that it has other variables than when `fit` began.

    Until Keras 3.11 the JAX trainer lists their shardings once, and fails where
    the list is too short.
    """
    record = getattr(model, "_record_training_state_sharding_spec", None)
    if record is not None:
        record()


def build_for_training(model: keras.Model, batch: tuple[Any, Any, Any]) -> None:
    """Makes all variables of a compiled model, its metrics and its optimizer.

    Keras does so in the first step of `fit`, by shapes alone.
    """
    model._symbolic_build(data_batch=batch)


def names_of_output_losses(model: keras.Model) -> set[str]:
    """The names under which Keras logs the loss of each output."""
    compiled = model._compile_loss
    return {metric.name for metric in compiled.metrics} if compiled else set()


def callbacks_at_work(
    model: keras.Model,
) -> list[list[keras.callbacks.Callback]]:
    """The callbacks of each method under way that trains or evaluates.

    The innermost comes first: a callback may call another. Methods that train
    or test on one batch have no callbacks. The lists are those of Keras: a
    callback that is moved in one is called at its new place.
    """
    found = []
    for frame in call_stack.frames():
        if (
            frame.f_code.co_name
            in ("fit", "evaluate", "train_on_batch", "test_on_batch")
            and frame.f_locals.get("self") is model
        ):
            called = frame.f_locals.get("callbacks")
            found.append(getattr(called, "callbacks", []))
    return found


@contextlib.contextmanager
def losses_given(model: keras.Model, losses: list[Tensor]) -> Iterator[None]:
    """Has `model.losses` return the given losses inside.

    Keras's JAX trainer hands its losses to `compute_loss` in the same way.
    """
    model._losses_override.extend(losses)
    try:
        yield
    finally:
        model._losses_override.clear()


def is_compiled_with_a_loss(model: keras.Model) -> bool:
    """Tells whether `compile` was given a loss for any output."""
    compiled = model._compile_loss
    return compiled is not None and any(
        loss is not None for loss in keras.tree.flatten(compiled._user_loss)
    )


@contextlib.contextmanager
def compiled_losses(model: keras.Model) -> Iterator[list[Tensor]]:
    """Gives the data losses of `compile`, one for each `compute_loss` inside.

    Keras's own `compute_loss` adds `model.losses` to it.
    """
    values: list[Tensor] = []
    thread = backend.this_thread()
    compiled = model._compile_loss
    if compiled is None:
        yield values
        return

    def call(*args: Any) -> Tensor:
        value = type(compiled).call(compiled, *args)
        # None if no output has a loss. Another thread may compute one, too.
        if value is not None and backend.runs_in(thread):
            values.append(value)
        return value

    compiled.call = call
    try:
        yield values
    finally:
        del compiled.call


class _WatchedLosses(list[Tensor]):
    """A list that knows whether its elements were read.

    For the thread that made it: in others it is empty, so that a data set which
    asks the model for its losses has Keras compute them.
    """

    def __init__(self, losses: list[Tensor]) -> None:
        super().__init__(losses)
        self.were_read = False
        self._thread = backend.this_thread()

    def __bool__(self) -> bool:
        # Keras asks this before it hands the list out.
        return super().__len__() > 0 and backend.runs_in(self._thread)

    def __len__(self) -> int:
        self.were_read = True
        return super().__len__()

    def __iter__(self) -> Iterator[Tensor]:
        self.were_read = True
        return super().__iter__()

    def __getitem__(self, index: Any) -> Any:
        self.were_read = True
        return super().__getitem__(index)


class Losses(NamedTuple):
    """The elements of `model.losses` while a loss is computed."""

    values: list[Tensor]
    watched: _WatchedLosses

    @property
    def were_read(self) -> bool:
        """Whether they were read; no if there are none."""
        return self.watched.were_read


@contextlib.contextmanager
def losses_watched(model: keras.Model) -> Iterator[Losses]:
    """Gives `model.losses`, and has the model return them again inside.

    Keras computes each penalty anew whenever `model.losses` is read. Compilers
    find the twin and drop it, but PyTorch would do the work twice. And it tells
    whether a `compute_loss` reads them at all.
    """
    before = model._losses_override
    losses = list(model.losses)
    watched = _WatchedLosses(losses)
    # Not `setattr`, which would put the list into another.
    vars(model)["_losses_override"] = watched
    try:
        yield Losses(losses, watched)
    finally:
        vars(model)["_losses_override"] = before


def adds_losses_up(model: keras.Model) -> bool:
    """Tells whether a model's loss is that of `compile` plus `model.losses`.

    It is, unless the model has a `compute_loss` of its own.
    """
    compute_loss = inspect.unwrap(model.compute_loss)
    return getattr(compute_loss, "__func__", None) is keras.Model.compute_loss
