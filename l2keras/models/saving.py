"""How a layer saves the regularizers that its weights have."""

from collections.abc import Iterator
from typing import Any

import keras

from l2keras._keras import layer_tree
from l2keras.models import regularized_layer
from l2keras.regularizers import describing
from l2keras.weights import kinds, paths


def saved_layers(layer: keras.layers.Layer) -> Iterator[keras.layers.Layer]:
    """Yields the layers that Keras saves one by one, each with its config.

    Sequential and functional models, also inside such, have the configs of
    their layers in theirs. Any other layer, or model, is saved as a whole.
    """
    if layer_tree.saves_layers_one_by_one(layer):
        for each in layer.layers:
            yield from saved_layers(each)
    else:
        yield layer


def save_with(layer: keras.layers.Layer, own: list[paths.Weight]) -> None:
    """Has a layer save the regularizers that its weights have now."""
    if not tell_arguments(layer, own):
        regularized_layer.remember(layer)


def tell_arguments(layer: keras.layers.Layer, own: list[paths.Weight]) -> bool:
    """Sets arguments to the regularizers that the weights of a layer have.

    Returns whether the layer's config, as it is now, says all of it.
    """
    told = not regularized_layer.is_remembering(layer)
    arguments: dict[tuple[int, str], paths.Weight] = {}
    for weight in own:
        if not weight.is_trained:
            continue
        regularizer = weight.variable.regularizer
        name = kinds.argument(weight)
        # What an argument of other people's layers is for is not known.
        told &= layer_tree.is_of_keras(weight.layer)
        if name is None:
            told &= regularizer is None
            continue
        first = arguments.setdefault((id(weight.layer), name), weight)
        told &= describing.same(regularizer, first.variable.regularizer)
    places = []
    for (_, name), weight in arguments.items():
        setattr(weight.layer, name, weight.variable.regularizer)
        places.append((weight.layer, name))
    return told and _are_saved(layer, places)


class _Mark(keras.regularizers.Regularizer):
    """Stands in for a regularizer, to be found again in a config."""

    def __init__(self, number: int) -> None:
        self.number = number

    def get_config(self) -> dict[str, Any]:
        return {"number": self.number}


def _are_saved(
    layer: keras.layers.Layer, places: list[tuple[keras.layers.Layer, str]]
) -> bool:
    """Tells whether the config of `layer` says what these attributes hold."""
    before = [getattr(each, name) for each, name in places]
    try:
        for number, (each, name) in enumerate(places):
            setattr(each, name, _Mark(number))
        config = layer.get_config()
    except NotImplementedError:
        return False  # The layer cannot be saved at all, as Keras will say.
    finally:
        for (each, name), value in zip(places, before, strict=True):
            setattr(each, name, value)
    found = {
        each["config"]["number"]
        for each in objects(config)
        if each["class_name"] == _Mark.__name__
    }
    return len(found) == len(places)


def objects(config: Any) -> Iterator[dict[str, Any]]:
    """Yields all that is serialized in a config, at any depth."""
    if isinstance(config, dict):
        if "class_name" in config:
            yield config
        for each in config.values():
            yield from objects(each)
    elif isinstance(config, list | tuple):
        for each in config:
            yield from objects(each)
