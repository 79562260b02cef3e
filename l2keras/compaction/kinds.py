"""The table of the layers that are known.

A layer that is not in it is left alone: all channels that it is given stay, and
all that it makes.
"""

from typing import Any

import keras
import numpy as np
from keras import layers

from l2keras.compaction import elementwise
from l2keras.compaction.channels import Array
from l2keras.compaction.elementwise import Function
from l2keras.compaction.passing import (
    Concatenating,
    Depthwise,
    Elementwise,
    Merging,
    Normalization,
    Permuting,
    Rearranging,
    Repeating,
    Slopes,
    Spatial,
)
from l2keras.compaction.reading import (
    RECURRENT,
    BothWays,
    Convolution,
    Einsum,
    Recurrent,
    SeparableConvolution,
    Table,
    TransposedConvolution,
    Units,
)
from l2keras.compaction.rules import LeftAlone, Rule


def _product(arrays: list[Array]) -> Array:
    zero = np.any([array == 0 for array in arrays], axis=0)
    return np.where(zero, 0.0, np.prod(arrays, axis=0))


def _identity(layer: Any) -> Function:
    return lambda x: x


def _dropout(layer: Any) -> Function:
    if getattr(layer, "noise_shape", None) is not None:
        raise LeftAlone("its noise has a shape of its own")
    return _identity(layer)


def _rescaling(layer: layers.Rescaling) -> Function | None:
    if np.ndim(layer.scale) or np.ndim(layer.offset):
        return None
    return lambda x: x * layer.scale + layer.offset


def _named(*names: str) -> list[type]:
    """Returns those of these layers that this version of Keras has."""
    found = [getattr(layers, name, None) for name in names]
    return [each for each in found if each is not None]


RULES: dict[type, Rule] = {
    layers.Activation: Elementwise(
        lambda layer: elementwise.activation(layer.activation)
    ),
    layers.ReLU: Elementwise(elementwise.relu),
    layers.LeakyReLU: Elementwise(elementwise.leaky_relu),
    layers.ELU: Elementwise(elementwise.elu),
    layers.PReLU: Slopes(),
    layers.Rescaling: Elementwise(_rescaling),
    **dict.fromkeys(
        _named(
            "GaussianDropout",
            "GaussianNoise",
            "Identity",
            "SpatialDropout1D",
            "SpatialDropout2D",
            "SpatialDropout3D",
        ),
        Elementwise(_identity),
    ),
    layers.AlphaDropout: Elementwise(_dropout),
    layers.Dropout: Elementwise(_dropout),
    layers.BatchNormalization: Normalization(),
    **dict.fromkeys(
        _named(
            *(
                f"{which}{kind}Pooling{rank}D"
                for which in ("", "Global")
                for kind in ("Average", "Max")
                for rank in (1, 2, 3)
            ),
            "Cropping1D",
            "Cropping2D",
            "Cropping3D",
        ),
        Spatial(),
    ),
    **dict.fromkeys(
        _named("ZeroPadding1D", "ZeroPadding2D", "ZeroPadding3D"),
        Spatial(lambda layer: not np.any(layer.padding)),
    ),
    **dict.fromkeys(
        _named("UpSampling1D", "UpSampling2D", "UpSampling3D"),
        Spatial(
            lambda layer: (
                getattr(layer, "interpolation", "nearest")
                in ("nearest", "bilinear")
            )
        ),
    ),
    layers.Flatten: Rearranging(),
    layers.Reshape: Rearranging(),
    layers.Permute: Permuting(),
    layers.RepeatVector: Repeating(),
    layers.Add: Merging(lambda arrays: np.sum(arrays, axis=0)),
    layers.Average: Merging(lambda arrays: np.mean(arrays, axis=0)),
    layers.Maximum: Merging(lambda arrays: np.max(arrays, axis=0)),
    layers.Minimum: Merging(lambda arrays: np.min(arrays, axis=0)),
    layers.Multiply: Merging(_product),
    layers.Subtract: Merging(lambda arrays: arrays[0] - arrays[1]),
    layers.Concatenate: Concatenating(),
    layers.Embedding: Table(),
    layers.Dense: Units(),
    layers.EinsumDense: Einsum(),
    layers.Conv1D: Convolution(),
    layers.Conv2D: Convolution(),
    layers.Conv3D: Convolution(),
    **dict.fromkeys(
        _named("Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose"),
        TransposedConvolution(),
    ),
    **dict.fromkeys(
        _named("SeparableConv1D", "SeparableConv2D"), SeparableConvolution()
    ),
    **dict.fromkeys(_named("DepthwiseConv1D", "DepthwiseConv2D"), Depthwise()),
    **dict.fromkeys(RECURRENT, Recurrent()),
    layers.Bidirectional: BothWays(),
}


def rule_of(layer: Any) -> Rule:
    """Returns the rule of a layer.

    Raises:
        LeftAlone: If there is none.
    """
    rule = RULES.get(type(layer))
    if rule is None:
        name = type(layer).__name__
        if not isinstance(layer, keras.layers.Layer):
            raise LeftAlone(f"{name} is an operation and no layer")
        raise LeftAlone(f"{name} mixes channels, or is not known")
    return rule
