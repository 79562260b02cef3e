"""Regularizers taken off a model."""

import warnings
from typing import Any

import keras

from l2keras._keras import layer_tree
from l2keras.models import regularized_layer
from l2keras.models.saving import objects, tell_arguments
from l2keras.models.states import update_states
from l2keras.regularizers import describing
from l2keras.regularizers.base import Regularizer
from l2keras.weights import paths
from l2keras.weights.paths import check_model, own_weights


def strip_regularizers(
    model: keras.Model, *, to_keras: bool = False
) -> keras.Model:
    """Takes off a model all regularizers that need l2keras.

    For whoever serves the model: once saved, it loads where there is Keras
    alone. The model is changed in place, its weights are not touched, and
    Keras's own regularizers stay. Training goes on without the penalties.

    Args:
        model: A Keras model.
        to_keras: Whether to put Keras's own `L1`, `L2` or `L1L2` in place of a
            regularizer that says the same: one of constant strength. Warns of
            those that cannot be said in Keras, and takes them off. Defaults to
            `False`.

    Returns:
        The model.

    Raises:
        TypeError: If `model` is not a Keras model.

    Example:

    >>> import keras, l2keras
    >>> dense = keras.layers.Dense(1, kernel_regularizer=l2keras.L2(0.5))
    >>> model = keras.Sequential([keras.Input((4,)), dense])
    >>> l2keras.strip_regularizers(model, to_keras=True) is model
    True
    >>> dense.kernel_regularizer.get_config()
    {'l2': 0.5}
    """
    check_model(model)
    lost: dict[str, Any] = {}
    placed = layer_tree.layers_by_path(model)
    weights = own_weights(model)
    # One for one, so that what a layer and its weight share stays shared.
    counterparts: dict[int, Any] = {}

    def counterpart(regularizer: Any, path: str) -> Any:
        if not isinstance(regularizer, Regularizer):
            return regularizer
        if id(regularizer) not in counterparts:
            found = _in_keras(regularizer) if to_keras else None
            if to_keras and found is None:
                lost[path] = regularizer
            counterparts[id(regularizer)] = found
        return counterparts[id(regularizer)]

    unsaved = []
    for path, variable, _ in weights:
        variable.regularizer = counterpart(variable.regularizer, path)
    for path, layer in placed:
        for name, value in list(vars(layer).items()):
            if isinstance(value, Regularizer):
                setattr(layer, name, counterpart(value, f"{path}{name}"))
    for path, layer in placed:
        if not regularized_layer.is_remembering(layer):
            continue
        regularized_layer.forget(layer)
        own = own_weights(layer)
        _clear_unused(layer, own)
        if not tell_arguments(layer, own):
            unsaved += [
                f"{path}{w.path}" for w in own if w.variable.regularizer
            ]
    update_states(model)
    _warn_of(model, lost, unsaved)
    return model


def _in_keras(regularizer: Any) -> Any:
    """Returns Keras's own regularizer that says the same, if there is one."""
    parts = describing.constant_parts(regularizer)
    if parts is None:
        return None
    l1, l2 = parts
    if l1 == 0.0:
        return keras.regularizers.L2(l2)
    if l2 == 0.0:
        return keras.regularizers.L1(l1)
    return keras.regularizers.L1L2(l1, l2)


def _clear_unused(layer: keras.layers.Layer, own: list[paths.Weight]) -> None:
    """Clears arguments whose regularizer was taken off all the weights."""
    used = {id(weight.variable.regularizer) for weight in own}
    for _, each in layer_tree.layers_by_path(layer):
        for name, value in list(vars(each).items()):
            if (
                isinstance(value, keras.Regularizer)
                and "activity" not in name
                and id(value) not in used
            ):
                setattr(each, name, None)


def _warn_of(
    model: keras.Model, lost: dict[str, Any], unsaved: list[str]
) -> None:
    """Warns of what stripping could not do."""
    if lost:
        listed = ", ".join(f"{path!r}: {r!r}" for path, r in lost.items())
        warnings.warn(
            "Keras has no regularizer that says the same, so these were taken "
            f"off: {listed}",
            stacklevel=3,
        )
    if unsaved:
        warnings.warn(
            "Their layers have no argument to save a regularizer by, so that "
            "Keras alone will not save those of these weights: "
            f"{', '.join(unsaved)}",
            stacklevel=3,
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Keras's, of lambdas.
            config = keras.saving.serialize_keras_object(model)
    except NotImplementedError:
        return
    needed = sorted(
        {
            each["registered_name"]
            for each in objects(config)
            if str(each.get("registered_name")).startswith("l2keras>")
        }
    )
    if needed:
        warnings.warn(
            f"Model {model.name!r} still needs l2keras to be loaded, since it "
            f"is saved with {', '.join(needed)}. If its optimizer has such a "
            "schedule, compile the model anew with another.",
            stacklevel=3,
        )
