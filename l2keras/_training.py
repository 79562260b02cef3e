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

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import keras
from keras import ops

from l2keras import _backend, _keras_private, _paths, _validation
from l2keras._clock import Clock, Scale
from l2keras._types import Tensor
from l2keras.regularizers import Regularizer


def set_step(model: keras.Model, step: int) -> None:
    """Puts every schedule of a model at a step of the optimizer.

    For training loops that are not `model.fit`: call it before each step. In
    `fit`, `RegularizationLogger` moves the schedules. Models whose strengths
    are constant are left as they are.

    On JAX the step is one of `model.non_trainable_variables`: in a loop of your
    own, read their values after the call, and pass them to the compiled step.

    Args:
        model: A built Keras model.
        step: Integer >= 0, or `optimizer.iterations`.

    Raises:
        TypeError: If `model` is not a Keras model, or `step` not a number.
        ValueError: If `model` is not built, or `step` is negative.

    Example:

    >>> import keras, l2keras
    >>> ramp = l2keras.LinearSchedule(0.0, 1.0, steps=10)
    >>> dense = keras.layers.Dense(
    ...     1, kernel_initializer="ones", kernel_regularizer=l2keras.L2(ramp)
    ... )
    >>> model = keras.Sequential([keras.Input((4,)), dense])
    >>> l2keras.set_step(model, 5)
    >>> float(sum(model.losses))
    2.0
    """
    step = _validation.check_integer(step, "step", minimum=0)
    clock, changed = connect_clock(model)
    if clock is None:
        return
    if changed:
        _forget_compiled(model)
    clock.write(step)
    clock.driven = True


def set_scale(model: keras.Model, scales: Mapping[str, float]) -> None:
    """Sets the scale of some of a model's regularizers, by their weights.

    What a regularizer returns is its scale times its strength times its
    penalty. The first call for a weight compiles the model's training step
    anew; later ones take effect without. The scale is saved with the model.

    Args:
        model: A built Keras model.
        scales: Dictionary from the path of a weight, or a regular expression
            for some, to a finite number >= 0.

    Raises:
        TypeError: If `model` is not a Keras model, a scale not a number, or a
            regularizer not one of l2keras.
        ValueError: If a scale is negative or not finite, a pattern matches no
            regularized weight, two match one, or one regularizer would have to
            have two scales.

    Example:

    >>> import keras, l2keras
    >>> dense = keras.layers.Dense(
    ...     1, name="hidden", kernel_initializer="ones",
    ...     kernel_regularizer=l2keras.L2(0.5)
    ... )
    >>> model = keras.Sequential([keras.Input((4,)), dense])
    >>> l2keras.set_scale(model, {"hidden/.*": 0.25})
    >>> float(sum(model.losses))
    0.5
    """
    scales = {
        pattern: _validation.check_number(scale, f"scales[{pattern!r}]")
        for pattern, scale in scales.items()
    }
    states = connect_scales(model, scales)
    for pattern, scale in scales.items():
        states[pattern].write(scale)


def regularized(model: keras.Model) -> list[_paths.Weight]:
    """Returns the weights that have a regularizer, frozen ones too."""
    return [
        weight
        for weight in _paths.weights(model)
        if weight.variable.regularizer is not None
    ]


def scheduled_terms(model: keras.Model) -> list[tuple[Any, Regularizer]]:
    """Returns the scheduled regularizers, each with the layer it is used in."""
    used = [
        (weight.layer, weight.variable.regularizer)
        for weight in regularized(model)
    ]
    used += [
        (layer, layer.activity_regularizer)
        for layer in _keras_private.all_layers(model)
    ]
    return [
        (layer, term)
        for layer, regularizer in used
        if isinstance(regularizer, Regularizer)
        for term in regularizer._terms()
        if term._clock is not None
    ]


def connect_clock(model: keras.Model) -> tuple[Clock | None, bool]:
    """Gives the model's schedules one clock, and Keras the clock to carry.

    One for all, because on JAX each variable of the state costs time at each
    step. Returns the clock, if there are schedules, and whether anything
    changed, so that functions compiled before are out of date.
    """
    terms = scheduled_terms(model)
    if not terms:
        return None, False
    clock = terms[0][1]._clock
    assert clock is not None
    changed = False
    for layer, term in terms:
        if term._clock is not clock:
            assert term._clock is not None
            _keras_private.drop(layer, term._clock)
            term._clock = clock
            changed = True
        changed |= _keras_private.carry(layer, clock)
    return clock, changed


def connect_scales(
    model: keras.Model, rules: Mapping[str, Any]
) -> dict[str, Scale]:
    """Gives the regularizers that each rule names one scale that can change.

    Everything is checked before anything is changed. Functions that were
    compiled without the scales are dropped.
    """
    weights = regularized(model)
    matched = _paths.match(rules, [weight.path for weight in weights])
    ruled: dict[int, tuple[str | None, str]] = {}
    for path, variable, _ in weights:
        pattern = matched.get(path)
        if pattern is not None and not isinstance(
            variable.regularizer, Regularizer
        ):
            raise TypeError(
                f"The regularizer of {path!r} must be one of l2keras to have a "
                f"scale. Received: {variable.regularizer!r}"
            )
        before, other = ruled.setdefault(
            id(variable.regularizer), (pattern, path)
        )
        if before != pattern:
            raise ValueError(
                f"Weights {other!r} and {path!r} share one regularizer, "
                f"{variable.regularizer!r}, which cannot have two scales. Give "
                "each layer a regularizer of its own, or match both weights "
                "with one pattern."
            )
    states, changed = {}, False
    for pattern in rules:
        chosen = [w for w in weights if matched.get(w.path) == pattern]
        scales = {id(w.variable.regularizer._scale) for w in chosen}
        scale = chosen[0].variable.regularizer._scale
        if len(scales) > 1 or not isinstance(scale, Scale):
            with _backend.variable_scope(model):
                scale = Scale(chosen[0].variable.regularizer.scale)
            for _, variable, layer in chosen:
                if isinstance(variable.regularizer._scale, Scale):
                    _keras_private.drop(layer, variable.regularizer._scale)
                variable.regularizer._scale = scale
        for weight in chosen:
            changed |= _keras_private.carry(weight.layer, scale)
        states[pattern] = scale
    if changed:
        _forget_compiled(model)
    return states


def _forget_compiled(model: keras.Model) -> None:
    """Drops the compiled functions; within `fit`, has them made again."""
    training = model.train_function is not None
    model.train_function = model.test_function = None
    if training:
        model.make_train_function(force=True)


class _Total(keras.metrics.Metric):
    """Sums of numbers over batches, each weighted by the batch's size.

    All sums and the weights' sum are in one variable: on JAX each variable of
    the state costs time at each step. The metric reports the first number;
    `_Entry` reports the others.
    """

    def __init__(self, name: str, length: int) -> None:
        super().__init__(name=name, dtype="float32")
        self.sums = self.add_variable(
            (length + 1,), "zeros", dtype="float32", name="sums"
        )

    def add(self, numbers: list[Tensor], size: Tensor) -> None:
        """Adds the numbers of one batch."""
        numbers = [_backend.to_float32(each) for each in (*numbers, 1.0)]
        batch = _backend.stack_detached(numbers)
        self.sums.assign(self.sums + batch * _backend.to_float32(size))

    def mean(self, index: int) -> Tensor:
        """Returns the mean of a number so far, NaN if there was no batch."""
        sums = self.sums.value
        return sums[index] / sums[-1]

    def update_state(self, *args: Any, **kwargs: Any) -> None:
        """Does nothing: custom training steps update every metric they find."""

    def result(self) -> Tensor:
        return self.mean(0)


class _Entry(keras.metrics.Metric):
    """One of the further numbers of a `_Total`."""

    def __init__(self, name: str, total: _Total, index: int) -> None:
        super().__init__(name=name, dtype="float32")
        # In a list of another object's, or Keras would count its variable as
        # this metric's as well.
        self._read = lambda: total.mean(index)

    def update_state(self, *args: Any, **kwargs: Any) -> None:
        """Does nothing, see `_Total`."""

    def result(self) -> Tensor:
        return self._read()


class Instrumentation:
    """The clock and the loss split, put into a model for one training.

    `install` and `remove` bracket the training. What was compiled in between is
    kept for the next time, so that a second training compiles nothing.

    Args:
        model: A built and compiled model.
        penalties: Whether to report each weight's penalty.
        strengths: Whether to report each regularizer's strength.

    Attributes:
        installed: Whether it is in the model now.
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
        self._layout: list[int] | None = None
        self._metrics: list[Any] = []
        self._strength_metrics: list[Any] = []
        self._replaced: dict[str, Any] = {}
        self._plain: tuple[Any, Any] = (None, None)
        self._kept: tuple[Any, Any] = (None, None)

    def install(self) -> None:
        """Puts clock and loss split into the model.

        Raises:
            RuntimeError: If Keras trains JAX models by way of Flax NNX.
            ValueError: If the model logs numbers of the same names already.
        """
        model = self.model
        if _backend.is_nnx_enabled():
            raise RuntimeError(
                "With `KERAS_NNX_ENABLED` Keras compiles the `train_step` of "
                "the model's class, where l2keras cannot follow the "
                "schedules. Unset the environment variable."
            )
        leftover = getattr(model.compute_loss, "instrumentation", None)
        if leftover is not None:
            leftover.remove()  # Its training was broken off.
        self.clock, changed = connect_clock(model)
        layout = self._current_layout()
        if layout != self._layout:
            self._make_metrics()
            self._layout, self._kept = layout, (None, None)
            self.split = False
        taken = set(model.metrics_names)
        if clash := sorted(taken & {m.name for m in self._metrics}):
            raise ValueError(
                f"Model {model.name!r} logs {clash[0]!r} already, which "
                "l2keras uses for its part of the loss. Give the metric, or "
                "the output that it is named after, another name."
            )
        # Functions of an earlier training are still good if the model has not
        # been compiled since: then the one that `remove` left is still there.
        if model.train_function is None or (
            model.train_function is not self._plain[0]
        ):
            self._kept = (None, None)
        self._plain = (model.train_function, model.test_function)
        if changed:
            self._plain = self._kept = (None, None)

        self.installed = True
        self._replace("compute_loss", self._splitting(model.compute_loss))
        if self.clock is not None:
            self.clock.driven = True
            if model.optimizer is not None:
                self._replace("train_step", self._ticking(model.train_step))
        _keras_private.add_metrics(model, self._metrics)
        if self._kept == (None, None):
            model.make_train_function(force=True)
            model.make_test_function(force=True)
            self._kept = (
                self._guarded(model.train_function),
                self._guarded(model.test_function),
            )
        model.train_function, model.test_function = self._kept

    def remove(self) -> None:
        """Leaves the model as it was, but for the clock's step."""
        if not self.installed:
            return
        self.installed = False
        model = self.model
        self._kept = (model.train_function, model.test_function)
        if self._current_layout() != self._layout:
            # A regularizer was replaced meanwhile.
            self._plain = self._kept = (None, None)
        model.train_function, model.test_function = self._plain
        _keras_private.remove_metrics(model, self._metrics)
        for name, value in self._replaced.items():
            delattr(model, name)
            if value is not None:
                setattr(model, name, value)
        self._replaced.clear()
        if model.train_function is None:
            model.make_train_function()
        self._plain = (model.train_function, model.test_function)
        if self.clock is not None:
            self.clock.driven = False

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
        _keras_private.remove_metrics(self.model, self._strength_metrics)

    def show_strengths(self) -> None:
        """Undoes `hide_strengths`."""
        _keras_private.remove_metrics(self.model, self._strength_metrics)
        _keras_private.add_metrics(self.model, self._strength_metrics)

    def is_logged(self) -> bool:
        """Tells whether Keras finds the metrics: a model can hide them."""
        seen = {id(metric) for metric in self.model.metrics}
        return all(id(metric) in seen for metric in self._metrics)

    def _current_layout(self) -> list[int]:
        """Returns which regularizers and states compiled functions hold."""
        layout = []
        for weight in regularized(self.model):
            regularizer = weight.variable.regularizer
            layout += [id(weight.variable), id(regularizer)]
            layout.append(weight.variable.trainable)
            layout.append(id(getattr(regularizer, "_scale", None)))
        for _, term in scheduled_terms(self.model):
            layout += [id(term), id(term._clock)]
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
        with _backend.variable_scope(self.model):
            self._total = _Total(names[0], len(names))
            entries = [
                _Entry(name, self._total, index)
                for index, name in enumerate(names[1:], start=1)
            ]
        self._metrics = [self._total, *entries]
        self._strength_metrics = self._metrics[num_losses:]

    def _paying(self) -> list[_paths.Weight]:
        """Returns the regularized weights in the order of `model.losses`."""
        by_id = {id(w.variable): w for w in _paths.weights(self.model)}
        return [
            by_id[id(variable)]
            for variable in self.model.trainable_weights
            if variable.regularizer is not None
        ]

    def _current_strengths(self) -> list[tuple[str, Tensor | float]]:
        """Returns the key and the value of each strength at this step."""
        found: list[tuple[str, Tensor | float]] = []
        for path, variable, _ in self._paying():
            if not isinstance(variable.regularizer, Regularizer):
                continue
            strengths = variable.regularizer._strengths()
            for name, strength in strengths:
                key = f"strength/{path}"
                if len(strengths) > 1:
                    twins = [other for other, _ in strengths].count(name) > 1
                    key += f"/{name}"
                    if twins:
                        key += f"_{len(found)}"
                found.append((key, strength))
        return found

    def _splitting(self, compute_loss: Callable[..., Tensor]) -> Any:
        """Returns a `compute_loss` that also adds to the metrics."""
        model, total = self.model, self._total
        replicas = _backend.num_replicas(model)
        logged = self._penalties, self._strengths

        def split(*args: Any, **kwargs: Any) -> Tensor:
            with _keras_private.losses_computed_once(model) as losses:
                loss = compute_loss(*args, **kwargs)
            self.split = True
            if loss is None:
                return loss
            regularization = _sum(losses)
            whole = _backend.to_float32(loss)
            if replicas > 1:
                whole = whole * replicas
            numbers = [whole - regularization, regularization]
            if logged[0]:
                # Keras lists the weights' penalties last.
                numbers += losses[len(losses) - len(self._paying()) :]
            if logged[1]:
                numbers += [value for _, value in self._current_strengths()]
            total.add(numbers, _batch_size(*args, **kwargs))
            return loss

        split.instrumentation = self  # type: ignore[attr-defined]
        return split

    def _ticking(self, train_step: Callable[..., Any]) -> Callable[..., Any]:
        """Returns a `train_step` that sets the clock when it is done."""
        model, clock = self.model, self.clock
        assert clock is not None

        def tick(*args: Any, **kwargs: Any) -> Any:
            logs = train_step(*args, **kwargs)
            clock.write(model.optimizer.iterations)
            return logs

        def tick_jax(state: Any, data: Any) -> Any:
            logs, state = train_step(state, data)
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

    def _guarded(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Returns a function that cleans up if training is broken off in it.

        Keras calls no `on_train_end` after an error or Ctrl-C.
        """

        def guarded(*args: Any) -> Any:
            try:
                return function(*args)
            except StopIteration:
                raise  # The end of the data.
            except BaseException:
                self.remove()
                raise

        return guarded

    def _replace(self, name: str, value: Any) -> None:
        """Sets an attribute of the model for the time being."""
        self._replaced[name] = vars(self.model).get(name)
        setattr(self.model, name, value)


def _sum(losses: Iterable[Tensor]) -> Tensor | float:
    """Returns the sum of losses, which `add_loss` may have given any shape."""
    scalars = [
        _backend.to_float32(loss if len(loss.shape) == 0 else ops.sum(loss))
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
