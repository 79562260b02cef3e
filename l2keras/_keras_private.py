"""The only place that touches underscore attributes of Keras.

Each function says what Keras offers no public way to do. The attributes are
the same from Keras 3.10 to 3.15.
"""

import contextlib
import contextvars
import gc
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import keras

from l2keras._clock import State
from l2keras._types import Tensor

AroundUpdates: TypeAlias = Callable[
    [Callable[[], None], list[keras.Variable], Tensor], None
]
"""What makes an optimizer's update, given what makes it without."""


def layers_by_path(
    model: keras.layers.Layer,
) -> list[tuple[str, keras.layers.Layer]]:
    """Returns the model and all layers in it, at any depth, each once.

    With each comes its path: the names of the layers on the way to it, each
    with a slash behind, as in `inner/dense/`. The model's own is empty.
    `model.layers` has the first level only, and of a custom layer or an RNN
    nothing below it.
    """
    found: list[tuple[str, keras.layers.Layer]] = []
    seen: set[int] = set()

    def visit(path: str, layer: keras.layers.Layer) -> None:
        if id(layer) not in seen:
            seen.add(id(layer))
            found.append((path, layer))
            for child in layer._layers:
                visit(f"{path}{child.name}/", child)

    visit("", model)
    return found


def own_variables(layer: keras.layers.Layer) -> list[keras.Variable]:
    """Returns the variables that the layer itself made, frozen ones too.

    `layer.weights` has those of the layers inside it as well.
    """
    return layer._trainable_variables + layer._non_trainable_variables


class ToldWhenBuilt:
    """Mixed into the class of a layer, which is told when it has been built.

    Keras replaces `build` on each instance, so a class derived later cannot
    override it for layers that there are.
    """

    def _post_build(self) -> None:
        super()._post_build()  # type: ignore[misc]
        self.on_built()

    def on_built(self) -> None:
        """Called when the layer has been built."""


def is_of_keras(layer: keras.layers.Layer) -> bool:
    """Tells whether the class of a layer is one of Keras's own."""
    return type(layer).__module__.partition(".")[0] == "keras"


def saves_layers_one_by_one(layer: keras.layers.Layer) -> bool:
    """Tells whether the config of a layer has those of its layers.

    Sequential and functional models, but not all classes derived from them.
    """
    if not isinstance(layer, keras.Sequential | keras.Function):
        return False
    if is_of_keras(layer):
        return True
    try:
        return "layers" in layer.get_config()
    except NotImplementedError:
        return False


def models_around(layer: keras.layers.Layer) -> list[keras.Model]:
    """Returns the models that contain a layer, itself if it is one.

    A layer does not know who uses it, so all objects in memory are looked at.
    """
    return [
        each
        for each in _all_models()
        if any(inner is layer for _, inner in layers_by_path(each))
    ]


def models_in_memory() -> list[keras.Model]:
    """Returns all models, but for those that a `Sequential` is made of.

    An optimizer does not know the model that it trains.
    """
    models = _all_models()
    hidden = {
        id(getattr(each, "_functional", None))
        for each in models
        if isinstance(each, keras.Sequential)
    }
    return [each for each in models if id(each) not in hidden]


def _all_models() -> list[keras.Model]:
    classes = {keras.Model}
    fresh = [keras.Model]
    while fresh:
        fresh = [sub for cls in fresh for sub in cls.__subclasses__()]
        classes.update(fresh)
    return [
        each
        for each in gc.get_objects()
        # Not `isinstance`, which would wake objects that load lazily.
        if type(each) in classes
        and hasattr(each, "_layers")  # It is not being constructed.
    ]


def is_trained(layer: keras.layers.Layer, variable: keras.Variable) -> bool:
    """Tells whether a layer made a variable to be trained, be it frozen now.

    `variable.trainable` is false for those of a frozen layer too.
    """
    return any(each is variable for each in layer._trainable_variables)


def carry(layer: keras.layers.Layer, state: State) -> bool:
    """Makes Keras carry `state` through compiled steps with the layer.

    Setting an attribute does it for a layer under construction, but a built
    layer refuses that. Returns whether it was not carried before.
    """
    if any(each is state for each in layer._seed_generators):
        return False
    layer._seed_generators.append(state)
    return True


def carried(layer: keras.layers.Layer) -> list[State]:
    """Returns what `carry` was called with."""
    return [each for each in layer._seed_generators if isinstance(each, State)]


def drop(layer: keras.layers.Layer, state: State) -> None:
    """Undoes `carry`."""
    for index, each in enumerate(layer._seed_generators):
        if each is state:
            del layer._seed_generators[index]
            return


def weight_decay(model: keras.Model, variable: keras.Variable) -> float:
    """Returns the weight decay of the model's optimizer on a variable.

    `exclude_from_weight_decay` is public, but not what it excluded.
    """
    optimizer: Any = getattr(model, "optimizer", None)
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    decay = getattr(optimizer, "weight_decay", None)
    if not decay or not variable.trainable:
        return 0.0
    return float(decay) if optimizer._use_weight_decay(variable) else 0.0


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
    """Returns the names of the metrics that were given to `compile`.

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
    """Tells the model that its variables are not those that `fit` began with.

    Until Keras 3.11 the JAX trainer lists their shardings once, and fails where
    the list is too short.
    """
    record = getattr(model, "_record_training_state_sharding_spec", None)
    if record is not None:
        record()


def is_validation_in_fit(arguments: dict[str, Any]) -> bool:
    """Tells whether `evaluate` was called with what `fit` calls it with.

    A callback can call it too, and nothing public distinguishes the two.
    """
    return bool(arguments.get("_use_cached_eval_dataset"))


def build_for_training(model: keras.Model, batch: tuple[Any, Any, Any]) -> None:
    """Makes all variables of a compiled model, its metrics and its optimizer.

    Keras does so in the first step of `fit`, by shapes alone.
    """
    model._symbolic_build(data_batch=batch)


def names_of_output_losses(model: keras.Model) -> set[str]:
    """Returns the names under which Keras logs the loss of each output."""
    compiled = model._compile_loss
    return {metric.name for metric in compiled.metrics} if compiled else set()


def public_class(optimizer: keras.Optimizer) -> type:
    """Returns the class under which Keras offers an optimizer.

    On PyTorch it derives classes of its own from these, for speed.
    """
    cls = type(optimizer)
    if not cls.__module__.startswith("keras."):
        return cls
    return getattr(keras.optimizers, cls.__name__, cls)


def is_regularizers_module(module: dict[str, Any]) -> bool:
    """Tells whether these are the globals of Keras's own regularizers."""
    return keras.regularizers.L2.__module__ == module.get("__name__")


def excludes_variables_from_decay(optimizer: keras.Optimizer) -> bool:
    """Tells whether `exclude_from_weight_decay` was called with variables."""
    return bool(getattr(optimizer, "_exclude_from_weight_decay", None))


def draws_random_numbers(layer: keras.layers.Layer) -> bool:
    """Tells whether a layer has a random state of its own, and uses it.

    Recurrent layers have one for their dropout, whether they drop or not.
    """
    rates = [
        getattr(layer, name)
        for name in ("dropout", "recurrent_dropout")
        if isinstance(getattr(layer, name, None), int | float)
    ]
    if rates and not any(rates):
        return False
    return any(not isinstance(e, State) for e in layer._seed_generators)


@contextlib.contextmanager
def losses_given(model: keras.Model, losses: list[Tensor]) -> Iterator[None]:
    """Has `model.losses` return these inside.

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
    """Gives what the losses of `compile` come to, as `compute_loss` is called.

    Keras's own `compute_loss` adds `model.losses` to it.
    """
    values: list[Tensor] = []
    compiled = model._compile_loss
    if compiled is None:
        yield values
        return

    def call(*args: Any) -> Tensor:
        value = type(compiled).call(compiled, *args)
        if value is not None:  # If no output has a loss.
            values.append(value)
        return value

    compiled.call = call
    try:
        yield values
    finally:
        del compiled.call


@contextlib.contextmanager
def losses_computed_once(model: keras.Model) -> Iterator[list[Tensor]]:
    """Gives `model.losses`, and has the model return them again inside.

    Keras computes each penalty anew whenever `model.losses` is read. Compilers
    find the twin and drop it, but PyTorch would do the work twice.
    """
    losses = list(model.losses)
    if model._losses_override or not losses:
        yield losses
        return
    with losses_given(model, losses):
        yield losses


_around_updates: contextvars.ContextVar[AroundUpdates | None] = (
    contextvars.ContextVar("around_updates", default=None)
)


class _UpdateStep:
    """Stands for the update step of one optimizer."""

    def __init__(self, optimizer: Any) -> None:
        self.optimizer = optimizer

    def __call__(
        self, grads: Any, trainable_variables: Any, learning_rate: Any
    ) -> None:
        def update() -> None:
            type(self.optimizer)._backend_update_step(
                self.optimizer, grads, trainable_variables, learning_rate
            )

        around = _around_updates.get()
        if around is None:
            update()
        else:
            around(update, trainable_variables, learning_rate)


def allow_around_updates(optimizer: keras.optimizers.Optimizer) -> None:
    """Lets `around_updates` reach the updates of an optimizer.

    Whether a call of `apply` changes the weights is known inside only: it may
    accumulate gradients, and decides that in the compiled step. All optimizers
    of Keras come by this method exactly once for each change, on all backends,
    with the variables that have gradients and the learning rate of the step.
    """
    if not isinstance(
        getattr(optimizer, "_backend_update_step", None), _UpdateStep
    ):
        optimizer._backend_update_step = _UpdateStep(optimizer)


@contextlib.contextmanager
def around_updates(function: AroundUpdates) -> Iterator[None]:
    """Has each update of a prepared optimizer made by `function`.

    It is called with what makes the update, the variables, and the learning
    rate. Only while the scope is open, and in this thread: on TensorFlow each
    replica has a thread of its own.
    """
    token = _around_updates.set(function)
    try:
        yield
    finally:
        _around_updates.reset(token)


def variable_key(optimizer: keras.optimizers.Optimizer, variable: Any) -> Any:
    """Returns by what an optimizer knows a variable.

    On TensorFlow it may be given its own variables or those of Keras.
    """
    try:
        return optimizer._var_key(variable)
    except AttributeError:  # One that has no value yet, on TensorFlow.
        return id(variable)
