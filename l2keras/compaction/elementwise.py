"""Functions of each element alone, of channels that are constant.

They are computed by Keras, in the type that a layer computes in: values that
overflow there are not finite here either.
"""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from l2keras._keras import graphs
from l2keras.compaction.channels import Array

Function = Callable[..., Any]

# Functions of `keras.activations`. The others may mix elements.
_ACTIVATIONS = """
    celu elu exponential gelu hard_shrink hard_sigmoid hard_silu hard_tanh
    leaky_relu linear log_sigmoid mish relu relu6 selu sigmoid silu soft_shrink
    softplus softsign sparse_plus sparse_sigmoid squareplus tanh tanh_shrink
"""

# The operations that `keras.ops` and the operators of tensors put into a graph.
_OPERATIONS = """
    Absolute Add Cast Celu Clip Cos Divide Elu Exp Expm1 Gelu HardShrink
    HardSigmoid HardSilu HardTanh LeakyRelu Log Log1p LogSigmoid Maximum Minimum
    Mish Multiply Negative Power ReLU Reciprocal Relu Relu6 Rsqrt Selu Sigmoid
    Sign Silu Sin SoftShrink Softplus Softsign SparsePlus SparseSigmoid Sqrt
    Square Squareplus Subtract Tanh TanhShrink Threshold TrueDivide
"""

# Layers without weights.
LAYERS: tuple[type, ...] = (
    keras.layers.Activation,
    keras.layers.ELU,
    keras.layers.LeakyReLU,
    keras.layers.ReLU,
)


def is_activation(function: Any) -> bool:
    """Tells whether an activation works on each element alone."""
    if function is None:
        return True
    if type(function) is keras.layers.Activation:
        return is_activation(function.activation)
    if type(function) in LAYERS:
        return True
    name = getattr(function, "__name__", "")
    # A custom function may have the name of one of Keras.
    known = getattr(keras.activations, name, None) is function
    return known and name in _ACTIVATIONS.split()


def is_operation(operation: Any) -> bool:
    """Tells whether an operation that is no layer works on each alone."""
    cls = type(operation)
    is_known = cls.__name__ in _OPERATIONS.split()
    return is_known and graphs.is_of_keras(cls, "call")


def computed(function: Function, arrays: list[Array], dtype: str) -> Array:
    """Computes a function of constants.

    Args:
        function: It is called with as many tensors as there are arrays.
        arrays: Constants; NaN for each that is not known.
        dtype: The type of the tensors.

    Returns:
        Constants. NaN where one is not known, infinite where it is not finite.
    """
    known = ~np.any(np.isnan(arrays), axis=0)
    values = np.full(known.shape, np.nan)
    number = int(known.sum())
    if number:
        # JAX compiles the function for each size: powers of two are few.
        size = 1 << (number - 1).bit_length()
        result = function(
            *(_tensor(np.resize(array[known], size), dtype) for array in arrays)
        )
        numbers = ops.convert_to_numpy(result)[:number].astype("float64")
        values[known] = np.where(np.isfinite(numbers), numbers, np.inf)
    return values


def activated(layer: Any, values: Array) -> Array:
    """Constants after the activation of a layer."""
    return computed(
        lambda x: x if layer.activation is None else layer.activation(x),
        [values],
        layer.compute_dtype,
    )


def _tensor(array: Array, dtype: str) -> Any:
    wide = "float64" if dtype == "float64" else "float32"
    return ops.cast(ops.convert_to_tensor(array.astype(wide)), dtype)
