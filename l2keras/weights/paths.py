"""Weights by path.

A path is the names of the layers on the way from the model, whose own name is
left out since it changes from one model to the next, to the weight's own name:
`hidden/kernel`, or `backbone/block_1/kernel` for a model inside the model. It
mostly is `variable.path`, but that has the model's name in front, may lack the
name of a model inside, and changes when a model is reloaded.
"""

from typing import Any, NamedTuple

import keras

from l2keras._keras import layer_tree


class Weight(NamedTuple):
    """A weight with its place in a model."""

    path: str
    variable: keras.Variable
    layer: keras.layers.Layer  # The one that made it.

    @property
    def is_trained(self) -> bool:
        """Whether it is for training, be it frozen now, and not statistics."""
        return layer_tree.is_trained(self.layer, self.variable)


def check_model(model: Any) -> None:
    """Raises a TypeError unless `model` is a Keras model."""
    if not isinstance(model, keras.Model):
        raise TypeError(
            "Argument `model` must be a Keras model. "
            f"Received: model={model!r} (of type {type(model).__name__})"
        )


def check_built(model: Any) -> None:
    """Raises an error unless `model` is a Keras model that has its weights.

    Raises:
        TypeError: If it is not a Keras model.
        ValueError: If it is not built.
    """
    check_model(model)
    if not model.built:
        raise ValueError(
            f"Model {model.name!r} is not built, so it has no weights yet. "
            "Call `model.build(input_shape)` first, or call it on data."
        )


def weights_of(layers: list[tuple[str, keras.layers.Layer]]) -> list[Weight]:
    """The weights of layers, each once, given the layers' paths."""
    found: dict[int, Weight] = {}
    places: dict[int, str] = {}
    taken: set[str] = set()
    for place, layer in layers:
        for variable in layer_tree.own_variables(layer):
            # A wrapper may hold a weight of the layer that it wraps, which
            # comes later: the inner layer is the one that made it.
            if not place.startswith(places.get(id(variable), place)):
                continue
            places[id(variable)] = place
            # Layers made outside a model may bear one name twice.
            path, number = f"{place}{variable.name}", 1
            while path in taken:
                number += 1
                path = f"{place}{variable.name}_{number}"
            taken.add(path)
            found[id(variable)] = Weight(path, variable, layer)
    return list(found.values())


def weights(model: keras.Model) -> list[Weight]:
    """The weights of a model, each once, in the order of its layers.

    Raises:
        TypeError: If `model` is not a Keras model.
        ValueError: If it is not built.
    """
    check_built(model)
    return own_weights(model)


def own_weights(layer: keras.layers.Layer) -> list[Weight]:
    """The weights of any layer, and of the layers in it, each once."""
    return weights_of(layer_tree.layers_by_path(layer))
