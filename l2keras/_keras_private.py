"""The only place that touches underscore attributes of Keras.

Each function says what Keras offers no public way to do. The attributes are
the same from Keras 3.10 to 3.15.
"""

import contextlib
import gc
from collections.abc import Iterator
from typing import Any

import keras

from l2keras._clock import State
from l2keras._types import Tensor


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
        for each in gc.get_objects()
        # Not `isinstance`, which would wake objects that load lazily.
        if issubclass(type(each), keras.Model)
        and any(inner is layer for _, inner in layers_by_path(each))
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


@contextlib.contextmanager
def losses_computed_once(model: keras.Model) -> Iterator[list[Tensor]]:
    """Gives `model.losses`, and has the model return them again inside.

    Keras computes each penalty anew whenever `model.losses` is read. Compilers
    find the twin and drop it, but PyTorch would do the work twice. Keras's JAX
    trainer hands its losses to `compute_loss` in the same way.
    """
    losses = list(model.losses)
    if model._losses_override or not losses:
        yield losses
        return
    model._losses_override.extend(losses)
    try:
        yield losses
    finally:
        model._losses_override.clear()
