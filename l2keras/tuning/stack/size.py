"""The size of a replica's step of training."""

import math

import keras

from l2keras._keras import layer_tree


def elements_per_step(model: keras.Model, batch_size: int) -> int:
    """An estimate of the numbers that a step of training holds in memory.

    Weights, their gradients and the optimizer's two slots; and the outputs of
    each layer for a batch, forward and back.
    """
    elements = 5 * model.count_params()
    for _, layer in layer_tree.layers_by_path(model):
        for tensor in keras.tree.flatten(getattr(layer, "output", ())):
            elements += (
                4
                * batch_size
                * math.prod(size or 1 for size in tensor.shape[1:])
            )
    return max(1, elements)
