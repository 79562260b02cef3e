"""The kinds of weights: kernels, biases, embeddings, normalizations."""

import re

import keras

from l2keras.weights.paths import Weight

_NORMALIZATIONS = (
    keras.layers.BatchNormalization,
    keras.layers.GroupNormalization,
    keras.layers.LayerNormalization,
    keras.layers.RMSNormalization,
)


def is_normalization(weight: Weight) -> bool:
    """Tells whether a weight is a scale or an offset of a normalization."""
    return isinstance(weight.layer, _NORMALIZATIONS)


def is_bias(weight: Weight) -> bool:
    """Tells whether a weight is a bias, which may have two dimensions.

    The biases of `EinsumDense`, as in `MultiHeadAttention`, and of `GRU` have.
    """
    return weight.variable.name.endswith("bias")


# Names in other people's layers for tables, positions, and learned inputs such
# as the class token of a vision transformer.
_EMBEDDING_NAME = re.compile(
    r"(^|_)(embeddings?|embed|emb|tokens?|table|rel_pos|relative_position)(_|$)"
)


def is_embedding(weight: Weight) -> bool:
    """Tells whether a weight is a table or a learned input, and no factor.

    Every weight of an `Embedding` is; in other layers a weight whose name, or
    else the name of the layer's class, says so: `position_embeddings`,
    `class_token`.
    """
    if isinstance(weight.layer, keras.layers.Embedding):
        return True
    name = weight.variable.name
    if "kernel" in name or is_bias(weight):
        return False
    return bool(_EMBEDDING_NAME.search(name)) or (
        "Embedding" in type(weight.layer).__name__
        and len(weight.variable.shape) >= 2
    )


def is_kernel(weight: Weight) -> bool:
    """Tells whether a weight is one that a default penalty is meant for.

    Weights of two or more dimensions are kernels, except biases, embeddings,
    the weights of normalizations, vectors in a shape to be broadcast, such as
    `(1, 1, n)`, and the slopes of `PReLU`, which a penalty would push to those
    of `ReLU` (He et al., *Delving Deep into Rectifiers*, 2015, section 2.1).
    """
    return (
        weight.is_trained
        and len(weight.variable.shape) >= 2
        and not _is_broadcast(weight)
        and not is_bias(weight)
        and not is_normalization(weight)
        and not is_embedding(weight)
        and not isinstance(weight.layer, keras.layers.PReLU)
    )


def is_depthwise_kernel(weight: Weight) -> bool:
    """Tells whether a kernel has filters for each channel: its last axes."""
    name = weight.variable.name
    return name == "depthwise_kernel" or (
        name == "kernel"
        and isinstance(
            weight.layer,
            keras.layers.DepthwiseConv1D | keras.layers.DepthwiseConv2D,
        )
    )


def _is_broadcast(weight: Weight) -> bool:
    """Tells whether a weight is a vector in a shape to be broadcast.

    Kernels can have such shapes too, as that of `Conv1D(n, 1)` on one channel.
    """
    *first, _ = weight.variable.shape
    return (
        len(first) >= 2
        and all(size == 1 for size in first)
        and "kernel" not in weight.variable.name
    )


def argument(weight: Weight, of: str = "regularizer") -> str | None:
    """The attribute in which a layer keeps a weight's regularizer.

    Args:
        weight: The weight.
        of: `"regularizer"`, or `"constraint"`.
    """
    # `enable_lora` gives a kernel two factors, `lora_kernel_a` and `_b`, and
    # hands them the kernel's regularizer.
    name = re.sub(r"^lora_(\w+)_[ab]$", r"\1", weight.variable.name)
    names = [f"{name}_{of}", f"{name.removesuffix('_kernel')}_{of}"]
    if name == "kernel":  # Of `DepthwiseConv1D` and `DepthwiseConv2D`.
        names.append(f"depthwise_{of}")
    return next((name for name in names if name in vars(weight.layer)), None)
