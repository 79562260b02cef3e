"""Whether a layer's config says which regularizers its weights have."""

from collections.abc import Iterator
from typing import Any

import keras

from l2keras._keras import layer_tree
from l2keras.regularizers import describing
from l2keras.weights import kinds
from l2keras.weights.paths import Weight


def units(layer: keras.layers.Layer) -> Iterator[keras.layers.Layer]:
    """Yields the layers whose configs have to say what their weights have.

    Sequential and functional models, also inside such, have the configs of
    their layers in theirs. Any other layer, or model, is saved as a whole. So
    are those classes derived from them that have a config of their own, but
    `clone_model` takes them apart all the same: they come after their layers.
    """
    if isinstance(layer, keras.Sequential | keras.Function):
        for each in layer.layers:
            yield from units(each)
        if layer_tree.saves_layers_one_by_one(layer):
            return
    yield layer


def tell_arguments(layer: keras.layers.Layer, trained: list[Weight]) -> bool:
    """Sets arguments to the regularizers that the weights of a layer have.

    Args:
        layer: A layer.
        trained: The weights in it that are ever trained.

    Returns:
        Whether the layer's config, as it is now, says all of it.
    """
    told = True
    arguments: dict[tuple[int, str], Weight] = {}
    for weight in trained:
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
    except Exception:
        # The layer cannot be saved, as its own error will say; or it reads
        # from the regularizer what the mark has not.
        return False
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
