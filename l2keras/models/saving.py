"""Whether the config of a layer has what its weights have.

That is their regularizers and constraints.
"""

from collections.abc import Iterator
from typing import Any

import keras

from l2keras._keras import layer_tree
from l2keras.regularizers import describing
from l2keras.weights import kinds
from l2keras.weights.paths import Weight


def serialization_roots(
    layer: keras.layers.Layer,
) -> Iterator[keras.layers.Layer]:
    """Yields the layers that are saved as a whole, by one config each.

    Sequential and functional models, also inside such, have the configs of
    their layers in theirs. Any other layer, or model, is saved as a whole. So
    are classes derived from these with a config of their own, but `clone_model`
    takes them apart all the same: they come after their layers.
    """
    if isinstance(layer, keras.Sequential | keras.Function):
        for inner in layer.layers:
            yield from serialization_roots(inner)
        if layer_tree.saves_layers_one_by_one(layer):
            return
    yield layer


def sync_arguments(layer: keras.layers.Layer, trained: list[Weight]) -> bool:
    """Sets a layer's arguments to the regularizers of its weights.

    And to their constraints.

    Args:
        layer: A layer.
        trained: The weights in it that are ever trained.

    Returns:
        Whether the layer's config has them all now.
    """
    is_complete = True
    places = []
    for kind in ("regularizer", "constraint"):
        arguments: dict[tuple[int, str], Weight] = {}
        for weight in trained:
            value = getattr(weight.variable, kind)
            name = kinds.argument(weight, kind)
            # The purpose of an argument of other people's layers is not known.
            is_complete &= layer_tree.is_of_keras(weight.layer)
            if name is None:
                is_complete &= value is None
                continue
            first = arguments.setdefault((id(weight.layer), name), weight)
            is_complete &= describing.same(value, getattr(first.variable, kind))
        for (_, name), weight in arguments.items():
            setattr(weight.layer, name, getattr(weight.variable, kind))
            places.append((weight.layer, name))
    return is_complete and _are_saved(layer, places)


class _Mark(keras.regularizers.Regularizer):
    """A placeholder in a config, to be found there again."""

    def __init__(self, number: int) -> None:
        self.number = number

    def get_config(self) -> dict[str, Any]:
        return {"number": self.number}


def _are_saved(
    layer: keras.layers.Layer, places: list[tuple[keras.layers.Layer, str]]
) -> bool:
    """Tells whether the config of `layer` has the values of attributes."""
    before = [getattr(owner, name) for owner, name in places]
    try:
        for number, (owner, name) in enumerate(places):
            setattr(owner, name, _Mark(number))
        config = layer.get_config()
    except Exception:
        # The layer cannot be saved, as its own error will say; or it reads an
        # attribute of the regularizer that the mark lacks.
        return False
    finally:
        for (owner, name), value in zip(places, before, strict=True):
            setattr(owner, name, value)
    numbers = {
        found["config"]["number"]
        for found in objects(config)
        if found["class_name"] == _Mark.__name__
    }
    return len(numbers) == len(places)


def objects(config: Any) -> Iterator[dict[str, Any]]:
    """Yields the serialized objects in a config, at any depth."""
    if isinstance(config, dict):
        if "class_name" in config:
            yield config
        for value in config.values():
            yield from objects(value)
    elif isinstance(config, list | tuple):
        for value in config:
            yield from objects(value)
