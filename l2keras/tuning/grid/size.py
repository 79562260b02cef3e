"""How much there is to compute for a replica."""

import keras

from l2keras._keras import layer_tree


def numbers_of(model: keras.Model, batch_size: int) -> int:
    """Returns how many numbers a step of training holds in memory, about.

    Weights, their gradients and the optimizer's two slots; and what each layer
    makes of a batch, forward and back.
    """
    numbers = 5 * model.count_params()
    for _, layer in layer_tree.layers_by_path(model):
        for tensor in keras.tree.flatten(getattr(layer, "output", ())):
            numbers += 4 * batch_size * _product(tensor.shape[1:])
    return max(1, numbers)


def _product(shape: tuple[int | None, ...]) -> int:
    product = 1
    for each in shape:
        product *= each or 1
    return product
