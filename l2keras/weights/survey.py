"""One walk over a model: the layers in it, and the weights, by path.

A walk is slow where there are many layers, so one survey is made, and handed
down to every function that needs to know something of the model.
"""

from typing import Any

import keras

from l2keras._keras import layer_tree
from l2keras.weights import paths
from l2keras.weights.paths import Weight


class Survey:
    """The layers and weights of a model, or of any layer, by their paths.

    The weights are found once, when the survey is made. Regularizers, and
    whether a weight is frozen, may change: they are read when asked for.

    Args:
        layer: The model or layer.

    Attributes:
        layer: As given.
        layers: The layer and all layers in it, at any depth, each once. With
            each comes its path with a slash behind, that of the layer itself
            being empty.
        weights: All weights, each once, in the order of the layers.
        trained: Those of them that are for training, be they frozen now, and
            not statistics.
    """

    def __init__(self, layer: keras.layers.Layer) -> None:
        self.layer: Any = layer
        self.layers = layer_tree.layers_by_path(layer)
        self.weights = paths.weights_of(self.layers)
        self.trained = [weight for weight in self.weights if weight.is_trained]

    @classmethod
    def of(cls, model: keras.Model) -> "Survey":
        """The survey of a model, which must be built.

        Raises:
            TypeError: If `model` is not a Keras model.
            ValueError: If it is not built.
        """
        paths.check_built(model)
        return cls(model)

    @property
    def regularized(self) -> list[Weight]:
        """The weights that have a regularizer, frozen ones too."""
        return [
            weight
            for weight in self.weights
            if weight.variable.regularizer is not None
        ]

    @property
    def penalized(self) -> list[Weight]:
        """The weights with a penalty, in the order of `model.losses`."""
        by_id = {id(weight.variable): weight for weight in self.weights}
        return [
            by_id[id(variable)]
            for variable in self.layer.trainable_weights
            if variable.regularizer is not None
        ]
