"""The table of the layers that are known, with their rules.

A layer that is not in it is left alone: all its input and output channels stay.
"""

from typing import Any

import keras
from keras import layers

from l2keras._keras import graphs, layer_tree
from l2keras.compaction import elementwise
from l2keras.compaction.attention import Attention
from l2keras.compaction.consumers import (
    Convolution,
    DenseLike,
    DenseRule,
    EinsumDenseRule,
    EmbeddingRule,
    SeparableConvolution,
    TransposedConvolution,
)
from l2keras.compaction.groups import GroupedConvolution, GroupStandardization
from l2keras.compaction.passing import (
    Activation,
    Concatenating,
    Depthwise,
    Elementwise,
    Identity,
    Normalization,
    Permuting,
    PReLURule,
    Rearranging,
    Reducing,
    Repeating,
    RootMeanSquare,
    Scaling,
    Slicing,
    Spatial,
    Standardization,
    UnitNorm,
)
from l2keras.compaction.recurrent import (
    LAYERS,
    BidirectionalRule,
    CellRule,
    Recurrent,
    RecurrentConvolution,
)
from l2keras.compaction.rules import (
    NotCompactable,
    Rule,
    check_plain,
    comes_first,
)
from l2keras.models.terms import starts_in
from l2keras.weights.survey import Survey


def _named(*names: str) -> list[type]:
    """The layers of these names that this version of Keras has."""
    found = [getattr(layers, name, None) for name in names]
    return [layer for layer in found if layer is not None]


def _repeats_constants(layer: Any) -> bool:
    method = getattr(layer, "interpolation", "nearest")
    return method in ("nearest", "bilinear")


RULES: dict[type, Rule] = {
    **dict.fromkeys(elementwise.LAYERS, Elementwise()),
    layers.Activation: Activation(),
    layers.PReLU: PReLURule(),
    layers.Rescaling: Scaling(),
    layers.Normalization: Standardization(),
    **dict.fromkeys(
        _named(
            "AlphaDropout",
            "Dropout",
            "GaussianDropout",
            "GaussianNoise",
            "Identity",
            "SpatialDropout1D",
            "SpatialDropout2D",
            "SpatialDropout3D",
        ),
        Identity(),
    ),
    layers.BatchNormalization: Normalization(),
    **dict.fromkeys(_named("RMSNormalization"), RootMeanSquare()),
    layers.UnitNormalization: UnitNorm(),
    layers.GroupNormalization: GroupStandardization(),
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
        Spatial(lambda layer: not any(keras.tree.flatten(layer.padding))),
    ),
    **dict.fromkeys(
        _named("UpSampling1D", "UpSampling2D", "UpSampling3D"),
        Spatial(_repeats_constants),
    ),
    layers.Resizing: Spatial(
        lambda layer: (
            _repeats_constants(layer) and not layer.pad_to_aspect_ratio
        )
    ),
    layers.ActivityRegularization: Identity(),
    layers.Flatten: Rearranging(),
    layers.Reshape: Rearranging(),
    layers.Permute: Permuting(),
    layers.RepeatVector: Repeating(),
    **dict.fromkeys(
        _named("Add", "Average", "Maximum", "Minimum", "Subtract"),
        Elementwise(),
    ),
    layers.Multiply: Elementwise(is_product=True),
    layers.Concatenate: Concatenating(),
    layers.Embedding: EmbeddingRule(),
    layers.Dense: DenseRule(),
    layers.EinsumDense: EinsumDenseRule(),
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
    **dict.fromkeys(LAYERS, Recurrent()),
    **dict.fromkeys(
        _named("ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D"),
        RecurrentConvolution(),
    ),
    layers.Bidirectional: BidirectionalRule(),
    layers.RNN: CellRule(),
    layers.MultiHeadAttention: Attention(
        ("num_heads",), ("key_dim", "value_dim")
    ),
    layers.GroupQueryAttention: Attention(
        ("num_query_heads", "num_key_value_heads"), ("head_dim", "head_dim")
    ),
}


# The operations that are not of each element alone.
OPERATIONS: dict[str, Rule] = {
    "Concatenate": Concatenating(),
    "GetItem": Slicing(),
    **dict.fromkeys(["Max", "Mean", "Min"], Reducing()),
    "Sum": Reducing(keeps_values=False),
}


_ALIKE_ALONG_TIME = (
    DenseLike,
    Depthwise,
    Elementwise,
    EmbeddingRule,
    Identity,
    Spatial,
)


def computing(operation: Any) -> Any:
    """The layer that does the computing of an operation."""
    if isinstance(operation, layers.TimeDistributed):
        return operation.layer
    return operation


def _is_alike_along_time(layer: Any) -> bool:
    """Tells whether a layer acts on channels alike with more dimensions.

    The channels are along the last of them.
    """
    if type(layer) is layers.BatchNormalization:
        return layer.axis in (-1, [-1])
    return isinstance(RULES.get(type(layer)), _ALIKE_ALONG_TIME) and not (
        comes_first(layer) or isinstance(layer, layers.EinsumDense)
    )


def rule_of(layer: Any) -> Rule:
    """The rule of a layer, or of an operation that is none.

    Raises:
        NotCompactable: If there is none.
    """
    cls = type(layer)
    name = cls.__name__
    if not isinstance(layer, keras.layers.Layer):
        if name in OPERATIONS and graphs.is_of_keras(cls, "call"):
            return OPERATIONS[name]
        if not elementwise.is_operation(layer):
            raise NotCompactable(f"{name} is an operation that is not known")
        return Elementwise(is_product=name == "Multiply")
    saves_regularizers = isinstance(layer, layer_tree.BuildHook)
    if saves_regularizers:  # A class that was derived for that.
        cls = next((base for base in cls.__mro__ if base in RULES), cls)
    if cls is layers.TimeDistributed:
        if not _is_alike_along_time(layer.layer):
            raise NotCompactable(
                "the layer in it is not known to work along time"
            )
        cls = type(layer.layer)
    if cls not in RULES:
        raise NotCompactable(f"{name} mixes channels, or is not known")
    rule = RULES[cls]
    if type(rule) is Convolution and computing(layer).groups > 1:
        rule = GroupedConvolution()
    if saves_regularizers and _has_starts(layer):
        raise NotCompactable(
            "its weights have starts (`FromStart`), which would not fit "
            "smaller weights, so call `strip_regularizers` first"
        )
    # It saves the number of its weights, and might get a bias.
    if saves_regularizers and isinstance(rule, DenseLike):
        check_plain(layer)
        raise NotCompactable(
            "none of its arguments takes its regularizers, so call "
            "`strip_regularizers` first"
        )
    return rule


def _has_starts(layer: Any) -> bool:
    """Tells whether weights in a layer have starts, which are as large."""
    return any(
        start.states
        for weight in Survey(layer).regularized
        for start in starts_in(weight.variable.regularizer)
    )
