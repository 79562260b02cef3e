"""Kernels whose scale a batch normalization cancels."""

import keras

from l2keras._keras import layer_tree
from l2keras.weights import kinds
from l2keras.weights.paths import Weight

# Twice the input gives twice the output.
_HOMOGENEOUS = ("linear", "relu", "leaky_relu")


def normalized_kernels(
    model: keras.Model, weights: list[Weight]
) -> list[tuple[Weight, str]]:
    """The kernels straight before a batch normalization.

    Were such a kernel half as large, the model would compute the same.

    Args:
        model: A built model. The order of layers is known in sequential and
            functional models only.
        weights: Weights of it.

    Returns:
        Kernels among the weights, each with the path of the normalization's
        scale.
    """
    normalized = []
    for place, layer in layer_tree.layers_by_path(model):
        if isinstance(layer, keras.layers.BatchNormalization) and layer.scale:
            normalized.append((_tensor(layer, "input"), f"{place}gamma"))
    found = []
    for weight in weights:
        if not kinds.is_kernel(weight) or not _is_homogeneous(weight.layer):
            continue
        output = _tensor(weight.layer, "output")
        for tensor, path in normalized:
            if output is not None and tensor is output:
                found.append((weight, path))
    return found


def _is_homogeneous(layer: keras.layers.Layer) -> bool:
    activation = getattr(layer, "activation", None)
    return (
        activation is None
        or getattr(activation, "__name__", "") in _HOMOGENEOUS
    )


def _tensor(layer: keras.layers.Layer, name: str) -> object:
    """The one symbolic input or output of a layer, if it has one."""
    try:
        return getattr(layer, name)
    except (AttributeError, ValueError):  # It was not called so, or not once.
        return None
