"""What happens inside Keras's training step: the clock, and the loss split.

Keras compiles `train_step` and, inside it, `compute_loss`. Both are replaced on
the model while it trains, and the replacements are compiled with it: no work is
done on the host for a batch, and Keras keeps its asynchronous dispatch, which a
callback with `on_train_batch_end` would turn off.

- `train_step`, when it is done, sets the clock to `optimizer.iterations`: what
  a learning-rate schedule would read, with gradient accumulation, loss scaling
  and several steps per execution.
- `compute_loss` adds the losses that it has just computed to a metric. Keras
  resets and logs metrics itself, during validation under `val_`, so that all
  callbacks see them.
"""

import functools
import weakref
from collections.abc import Callable, Iterable
from typing import Any

import keras
from keras import ops

from l2keras import _validation
from l2keras._keras import backends, trainer_hooks
from l2keras._types import Tensor
from l2keras.models.control import (
    adds_losses_up,
    connect_clock,
    current_strengths,
    regularized,
    scheduled_terms,
)
from l2keras.strengths.clock import Clock
from l2keras.training.metrics import Total
from l2keras.weights import paths


class Instrumentation:
    """The clock and the loss split, put into a model for one training.

    `install` and `remove` bracket the training. What was compiled in between is
    kept for the next time, so that a second training compiles nothing.

    Args:
        model: A built and compiled model.
        penalties: Whether to report each weight's penalty.
        strengths: Whether to report each regularizer's strength.

    Attributes:
        installed: Whether a training is going on.
        split: Whether `compute_loss` has been called since it first was.
        clock: The clock of the model's schedules, `None` if it has none.
    """

    def __init__(
        self, model: keras.Model, penalties: bool, strengths: bool
    ) -> None:
        self.model = model
        self.installed = False
        self.split = False
        self.clock: Clock | None = None
        self._penalties = penalties
        self._strengths = strengths
        self._layout: list[Any] = []
        self._totals: list[Total] = []
        self._metrics: list[Any] = []
        self._strength_metrics: list[Any] = []
        # Attributes of the model that are replaced, with what they were.
        self._replaced: dict[str, Any] = {}
        # Compiled functions (to train, to test): without us, and with.
        self._plain: tuple[Any, Any] = (None, None)
        self._kept: tuple[Any, Any] = (None, None)
        # The function to train that the last training left on the model.
        self._left: Callable[[], Any] = lambda: None

    def __reduce__(self) -> Any:
        """Puts `None` in place of a copy, so that a copied callback starts."""
        return type(None), ()

    def install(self) -> None:
        """Puts clock and loss split into the model.

        Raises:
            RuntimeError: If Keras trains JAX models by way of Flax NNX.
            ValueError: If the model logs numbers of the same names already.
        """
        model = self.model
        if backends.is_nnx_enabled():
            raise RuntimeError(
                "With `KERAS_NNX_ENABLED` Keras compiles the `train_step` of "
                "the model's class, where l2keras cannot follow the "
                "schedules. Unset the environment variable."
            )
        leftover = getattr(model.compute_loss, "instrumentation", None)
        if leftover is not None:
            leftover.remove()  # Its training was broken off.
        self._check_names()
        self.clock, changed = connect_clock(model)
        layout = self._current_layout()
        # Functions of an earlier training are still good if the model has not
        # been compiled since: then the one that `remove` left is still there.
        left = self._left()
        if (
            changed
            or not _same(layout, self._layout)
            or left is None
            or model.train_function is not left
        ):
            self._kept = (None, None)
            self._layout = layout
            self._make_metrics()
            self.split = False
        if changed:
            model.train_function = model.test_function = None
        if self.clock is not None and model.optimizer is not None:
            self.clock.driven = True
        self.installed = True
        self._swap_in()

    def remove(self) -> None:
        """Leaves the model as it was, but for the clock's step."""
        if not self.installed:
            return
        self.installed = False
        if "compute_loss" in self._replaced:
            self._swap_out()
        if self.clock is not None:
            self.clock.driven = False
        model = self.model
        if not _same(self._current_layout(), self._layout):
            # A regularizer was replaced, or given a scale, meanwhile.
            model.train_function = model.test_function = None
        model.make_train_function()
        # Not held: as long as JAX's compiled form of a method lives, it is what
        # JAX finds for that method, even after the model is compiled anew.
        self._plain = (None, None)
        self._left = weakref.ref(model.train_function)

    def renew(self) -> None:
        """Takes up what was changed in the model while it trains."""
        self._plain = (None, None)
        self.clock, _ = connect_clock(self.model)
        if self.clock is not None and self.model.optimizer is not None:
            self.clock.driven = True

    def _swap_in(self) -> None:
        """Replaces methods, metrics and compiled functions by ours."""
        model = self.model
        self._plain = (model.train_function, model.test_function)
        self._replace("compute_loss", self._splitting(model.compute_loss))
        if model.optimizer is not None:
            self._replace("train_step", self._ticking(model.train_step))
        # A function of its own, so that JAX does not take what it compiled of
        # the method for another set of metrics.
        self._replace("test_step", functools.partial(model.test_step))
        for name in ("evaluate", "train_on_batch", "test_on_batch"):
            self._replace(name, self._aside(getattr(model, name)))
        for name in ("fit", "compile"):
            self._replace(name, self._afresh(getattr(model, name)))
        trainer_hooks.add_metrics(model, self._metrics)
        trainer_hooks.note_state(model)
        model.train_function, model.test_function = self._kept
        model.make_train_function()
        model.make_test_function()

    def _swap_out(self) -> None:
        """Undoes `_swap_in`, and keeps what was compiled meanwhile."""
        model = self.model
        self._kept = (model.train_function, model.test_function)
        model.train_function, model.test_function = self._plain
        trainer_hooks.remove_metrics(model, self._metrics)
        for name, value in self._replaced.items():
            delattr(model, name)
            if value is not None:
                setattr(model, name, value)
        self._replaced.clear()

    def _replace(self, name: str, value: Any) -> None:
        """Sets an attribute of the model for the time being."""
        self._replaced[name] = vars(self.model).get(name)
        setattr(self.model, name, value)

    def _aside(self, method: Callable[..., Any]) -> Callable[..., Any]:
        """Returns a method that sees the model as it is without us.

        For what callbacks do during training, such as `model.evaluate` on other
        data, and for what is done after a training that was broken off: Keras
        calls no `on_train_end` then.
        """

        def aside(*args: Any, **kwargs: Any) -> Any:
            if trainer_hooks.is_validation_in_fit(kwargs):
                return method(*args, **kwargs)
            self._swap_out()
            try:
                return method(*args, **kwargs)
            finally:
                if self.installed:
                    self._swap_in()

        return aside

    def _afresh(self, method: Callable[..., Any]) -> Callable[..., Any]:
        """Returns a method that first ends a training that was broken off."""

        def afresh(*args: Any, **kwargs: Any) -> Any:
            self.remove()
            return method(*args, **kwargs)

        return afresh

    def _check_names(self) -> None:
        """Raises a ValueError if Keras logs numbers of our names already."""
        outputs = getattr(self.model, "output_names", None) or []
        taken = set(self.model.metrics_names)
        taken |= trainer_hooks.compiled_metric_names(self.model)
        if len(outputs) > 1:
            taken.update(f"{name}_loss" for name in outputs)
        for name in ("data_loss", "regularization_loss"):
            if name in taken:
                raise ValueError(
                    f"Model {self.model.name!r} logs {name!r} already, which "
                    "l2keras uses for its part of the loss. Give the metric, "
                    "or the output that it is named after, another name."
                )

    def sync_clock(self) -> int | None:
        """Sets the clock by the optimizer; returns the step.

        Between epochs, since a checkpoint may be restored when training begins.
        """
        if self.clock is None or self.model.optimizer is None:
            return None
        step = _validation.check_integer(
            self.model.optimizer.iterations, "optimizer.iterations", minimum=0
        )
        self.clock.write(step)
        return step

    def hide_strengths(self) -> None:
        """Leaves the strengths out of a validation's logs: they are the same.

        Not out of the state: an entry has no variables.
        """
        trainer_hooks.remove_metrics(self.model, self._strength_metrics)

    def show_strengths(self) -> None:
        """Undoes `hide_strengths`."""
        trainer_hooks.remove_metrics(self.model, self._strength_metrics)
        trainer_hooks.add_metrics(self.model, self._strength_metrics)

    def is_logged(self) -> bool:
        """Tells whether Keras finds the metrics: a model can hide them."""
        seen = {id(metric) for metric in self.model.metrics}
        return all(id(metric) in seen for metric in self._metrics)

    def _current_layout(self) -> list[Any]:
        """Returns which regularizers and states compiled functions hold."""
        layout: list[Any] = []
        for _, variable, _ in regularized(self.model):
            regularizer = variable.regularizer
            scale = getattr(regularizer, "_scale", None)
            layout += [variable, variable.trainable, regularizer, scale]
        for _, term in scheduled_terms(self.model):
            layout += [term, term._clock]
        return layout

    def _make_metrics(self) -> None:
        """Makes the metrics: a total, and an entry for each further number."""
        weights = self._paying()
        names = ["data_loss", "regularization_loss"]
        if self._penalties:
            names += [f"regularization_loss/{path}" for path, _, _ in weights]
        num_losses = len(names)
        if self._strengths:
            names += [name for name, _ in self._current_strengths()]
        with backends.variable_scope(self.model):
            if self._passes_metrics_one_by_one():
                self._totals = [Total([name]) for name in names]
            else:
                self._totals = [Total(names)]
        self._metrics = [
            metric for total in self._totals for metric in total.metrics
        ]
        self._strength_metrics = self._metrics[num_losses:]

    def _passes_metrics_one_by_one(self) -> bool:
        """Tells whether each metric needs a variable of its own.

        A training step written for JAX, as Keras's guides have it, hands each
        metric its own variables and no other's.
        """
        return keras.backend.backend() == "jax" and (
            type(self.model).train_step is not keras.Model.train_step
            or type(self.model).test_step is not keras.Model.test_step
        )

    def _paying(self) -> list[paths.Weight]:
        """Returns the regularized weights in the order of `model.losses`."""
        by_id = {id(w.variable): w for w in paths.weights(self.model)}
        return [
            by_id[id(variable)]
            for variable in self.model.trainable_weights
            if variable.regularizer is not None
        ]

    def _current_strengths(self) -> list[tuple[str, Tensor | float]]:
        """Returns the key and the value of each strength at this step."""
        found: list[tuple[str, Tensor | float]] = []
        for path, variable, _ in self._paying():
            strengths = current_strengths(variable.regularizer)
            for name, strength in strengths.items():
                key = f"strength/{path}"
                if len(strengths) > 1:
                    key += f"/{name}"
                found.append((key, strength))
        return found

    def _splitting(self, compute_loss: Callable[..., Tensor]) -> Any:
        """Returns a `compute_loss` that also adds to the metrics."""
        model, totals = self.model, self._totals
        replicas = backends.num_replicas(model)
        logged = self._penalties, self._strengths
        adds_up = adds_losses_up(model)

        def split(*args: Any, **kwargs: Any) -> Tensor:
            with (
                trainer_hooks.losses_computed_once(model) as losses,
                trainer_hooks.compiled_losses(model) as data_losses,
            ):
                loss = compute_loss(*args, **kwargs)
            if loss is None or not totals[0].is_carried():
                return loss
            self.split = True
            regularization = _sum(losses)
            # Not the rest of the loss, if there is another way: beside a large
            # penalty nothing but rounding is left of it.
            data = _sum(data_losses if adds_up else [loss])
            if replicas > 1:
                data = data * replicas
            if not adds_up:
                data = data - regularization
            numbers = [data, regularization]
            if logged[0]:
                # Keras lists the weights' penalties last.
                numbers += losses[len(losses) - len(self._paying()) :]
            if logged[1]:
                numbers += [value for _, value in self._current_strengths()]
            size = _batch_size(*args, **kwargs)
            for total in totals:
                total.add(numbers[: len(total.metrics)], size)
                numbers = numbers[len(total.metrics) :]
            return loss

        split.instrumentation = self  # type: ignore[attr-defined]
        return split

    def _ticking(self, train_step: Callable[..., Any]) -> Callable[..., Any]:
        """Returns a `train_step` that sets the clock when it is done."""
        model = self.model

        def tick(*args: Any, **kwargs: Any) -> Any:
            logs = train_step(*args, **kwargs)
            if self.clock is not None:
                self.clock.write(model.optimizer.iterations)
            return logs

        def tick_jax(state: Any, data: Any) -> Any:
            logs, state = train_step(state, data)
            clock = self.clock
            if clock is None:
                return logs, state
            trainable, non_trainable, optimizer, metrics = state
            variables = zip(model.optimizer.variables, optimizer, strict=True)
            with keras.StatelessScope(state_mapping=list(variables)):
                # A copy: Keras donates both to the next step, where JAX
                # refuses to take one buffer twice.
                step = ops.copy(
                    ops.cast(model.optimizer.iterations, clock.state.dtype)
                )
            non_trainable = [
                step if variable is clock.state else value
                for variable, value in zip(
                    model.non_trainable_variables, non_trainable, strict=True
                )
            ]
            return logs, (trainable, non_trainable, optimizer, metrics)

        return tick_jax if keras.backend.backend() == "jax" else tick


def when_built(model: keras.Model, action: Callable[[], None]) -> None:
    """Does something to a model as soon as it has its variables.

    At once, if it has them. On TensorFlow Keras makes those of a model without
    inputs in the first training step, while it compiles it; then just before.
    """
    if model.built or keras.backend.backend() != "tensorflow":
        action()
    elif isinstance(model.train_function, _FirstStep):
        model.train_function.actions.append(action)
    else:
        model.train_function = _FirstStep(model, action)


class _FirstStep:
    """Stands in for a model's `train_function` until it is first called."""

    def __init__(self, model: keras.Model, action: Callable[[], None]) -> None:
        self.actions = [action]
        self._model = model
        self._train_function = model.train_function

    def __call__(self, iterator: Any) -> Any:
        model = self._model
        model.train_function = self._train_function
        x, _, _ = keras.utils.unpack_x_y_sample_weight(iterator.element_spec)
        model(
            keras.tree.map_structure(
                lambda spec: keras.KerasTensor(spec.shape, spec.dtype.name), x
            )
        )
        for action in self.actions:
            action()
        return model.train_function(iterator)


def _same(one: list[Any], other: list[Any]) -> bool:
    """Tells whether two lists hold the same objects."""
    return len(one) == len(other) and all(
        a is b for a, b in zip(one, other, strict=True)
    )


def _sum(losses: Iterable[Tensor]) -> Tensor | float:
    """Returns the sum of losses, which `add_loss` may have given any shape."""
    scalars = [
        backends.to_float32(loss if len(loss.shape) == 0 else ops.sum(loss))
        for loss in losses
    ]
    return sum(scalars[1:], start=scalars[0]) if scalars else 0.0


def _batch_size(
    x: Any = None, y: Any = None, y_pred: Any = None, *args: Any, **kwargs: Any
) -> Tensor:
    """Returns the number of samples, as Keras weights the loss by it."""
    for data in (x, y_pred, y):
        for each in keras.tree.flatten(data):
            if each is not None:
                return ops.shape(each)[0]
    return 1
