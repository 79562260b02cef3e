"""What kind of weight a weight is, and what a regularizer says."""

import re
from typing import Any

import keras

from l2keras._paths import Weight
from l2keras.regularizers import L1, L1L2, L2, Regularizer, Sum

_OF_KERAS = (
    keras.regularizers.L1,
    keras.regularizers.L1L2,
    keras.regularizers.L2,
)
_NORMALIZATIONS = (
    keras.layers.BatchNormalization,
    keras.layers.GroupNormalization,
    keras.layers.LayerNormalization,
    keras.layers.RMSNormalization,
)


def is_normalization(weight: Weight) -> bool:
    """Tells whether it is a scale or an offset of a normalization."""
    return isinstance(weight.layer, _NORMALIZATIONS)


def is_bias(weight: Weight) -> bool:
    """Tells whether it is a bias, which may have two dimensions.

    Those of `EinsumDense` have, and so inside `MultiHeadAttention`, and those
    of `GRU`.
    """
    return weight.variable.name.endswith("bias")


def is_embedding(weight: Weight) -> bool:
    """Tells whether its rows are looked up."""
    return isinstance(weight.layer, keras.layers.Embedding)


def is_kernel(weight: Weight) -> bool:
    """Tells whether a penalty on it is what one means by regularization.

    Weights of two or more dimensions are kernels, but for biases, embeddings,
    what normalization layers have, and the slopes of `PReLU`, which a penalty
    would push to those of `ReLU` (He et al., *Delving Deep into Rectifiers*,
    2015, section 2.1).
    """
    return (
        weight.is_trained
        and len(weight.variable.shape) >= 2
        and not is_bias(weight)
        and not is_normalization(weight)
        and not is_embedding(weight)
        and not isinstance(weight.layer, keras.layers.PReLU)
    )


def argument(weight: Weight) -> str | None:
    """Returns the attribute in which a layer keeps a weight's regularizer."""
    # `enable_lora` gives a kernel two factors, `lora_kernel_a` and `_b`, and
    # hands them the kernel's regularizer.
    name = re.sub(r"^lora_(\w+)_[ab]$", r"\1", weight.variable.name)
    names = [
        f"{name}_regularizer",
        f"{name.removesuffix('_kernel')}_regularizer",
    ]
    if name == "kernel":  # Of `DepthwiseConv1D` and `DepthwiseConv2D`.
        names.append("depthwise_regularizer")
    return next((name for name in names if name in vars(weight.layer)), None)


def same(one: Any, other: Any) -> bool:
    """Tells whether two regularizers are saved alike."""
    return one is other or keras.saving.serialize_keras_object(
        one
    ) == keras.saving.serialize_keras_object(other)


def describe(regularizer: Any) -> str:
    """Returns how to write a regularizer, Keras's own included."""
    if regularizer is None or isinstance(regularizer, Regularizer):
        return repr(regularizer)
    if isinstance(regularizer, keras.Regularizer):
        name = type(regularizer).__name__
        if type(regularizer).__module__.startswith("keras."):
            name = f"Keras {name}"
        try:
            config = regularizer.get_config()
        except NotImplementedError:
            return f"{name}(...)"
        arguments = (f"{key}={_short(each)}" for key, each in config.items())
        return f"{name}({', '.join(arguments)})"
    return getattr(regularizer, "__name__", repr(regularizer))


def constant_parts(regularizer: Any) -> tuple[float, float] | None:
    """Returns the `l1` and `l2` of a regularizer that says nothing else.

    `None` for one that has a schedule, or another penalty.
    """
    if type(regularizer) in _OF_KERAS:
        config = regularizer.get_config()
        return config.get("l1", 0.0), config.get("l2", 0.0)
    if type(regularizer) in (L1, L2):
        if callable(regularizer.strength):
            return None
        strength = regularizer.scale * regularizer.strength
        return (strength, 0.0) if type(regularizer) is L1 else (0.0, strength)
    if type(regularizer) in (Sum, L1L2):
        l1 = l2 = 0.0
        for each in regularizer.regularizers:
            parts = constant_parts(each)
            if parts is None:
                return None
            l1 += regularizer.scale * parts[0]
            l2 += regularizer.scale * parts[1]
        return l1, l2
    return None


def _short(value: Any) -> str:
    # Keras keeps strengths in float32, of which Python prints all the digits.
    return f"{value:.6g}" if isinstance(value, float) else repr(value)
