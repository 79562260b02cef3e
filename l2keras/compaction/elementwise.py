"""Activations in NumPy, for channels that are the same for every example.

In NumPy, since JAX would compile each of them for each number of channels.
"""

import math
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

Function = Callable[[np.ndarray], np.ndarray]

_erf = np.vectorize(math.erf, otypes=[float])


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return np.exp(-np.logaddexp(0.0, -x))


def _elu(x: np.ndarray, alpha: float = 1.0) -> np.ndarray:
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))


def _shrink(x: np.ndarray) -> np.ndarray:
    return np.where(np.abs(x) > 0.5, x, 0.0)


# Those of Keras that work on each element alone. What is not here may mix.
ACTIVATIONS: dict[str, Function] = {
    "celu": _elu,
    "elu": _elu,
    "exponential": np.exp,
    "gelu": lambda x: 0.5 * x * (1 + _erf(x / math.sqrt(2))),
    "hard_shrink": _shrink,
    "hard_sigmoid": lambda x: np.clip(x / 6 + 0.5, 0, 1),
    "hard_silu": lambda x: x * np.clip(x / 6 + 0.5, 0, 1),
    "hard_tanh": lambda x: np.clip(x, -1, 1),
    "leaky_relu": lambda x: np.where(x > 0, x, 0.2 * x),
    "linear": lambda x: x,
    "log_sigmoid": lambda x: -np.logaddexp(0.0, -x),
    "mish": lambda x: x * np.tanh(np.logaddexp(0.0, x)),
    "relu": lambda x: np.maximum(x, 0),
    "relu6": lambda x: np.clip(x, 0, 6),
    "selu": lambda x: 1.0507009873554805 * _elu(x, 1.6732632423543772),
    "sigmoid": _sigmoid,
    "silu": lambda x: x * _sigmoid(x),
    "soft_shrink": lambda x: np.sign(x) * np.maximum(np.abs(x) - 0.5, 0),
    "softplus": lambda x: np.logaddexp(0.0, x),
    "softsign": lambda x: x / (1 + np.abs(x)),
    "sparse_plus": lambda x: np.where(
        x <= -1, 0.0, np.where(x < 1, (x + 1) ** 2 / 4, x)
    ),
    "sparse_sigmoid": lambda x: np.clip(0.5 * (x + 1), 0, 1),
    "squareplus": lambda x: (x + np.sqrt(x**2 + 4)) / 2,
    "tanh": np.tanh,
    "tanh_shrink": lambda x: x - np.tanh(x),
}


def activation(function: Any) -> Function | None:
    """Returns an activation in NumPy, `None` if it is not known."""
    if function is None:
        return ACTIVATIONS["linear"]
    name = getattr(function, "__name__", "")
    # A function of other people's may have the name of one of Keras.
    if getattr(keras.activations, name, None) is not function:
        return None
    return ACTIVATIONS.get(name)


def relu(layer: keras.layers.ReLU) -> Function:
    """Returns what a `ReLU` layer computes, in NumPy."""

    def compute(x: np.ndarray) -> np.ndarray:
        below = (layer.negative_slope or 0.0) * (x - layer.threshold)
        above = x if layer.max_value is None else np.minimum(x, layer.max_value)
        return np.where(x > layer.threshold, above, below)

    return compute


def leaky_relu(layer: keras.layers.LeakyReLU) -> Function:
    """Returns what a `LeakyReLU` layer computes, in NumPy."""
    return lambda x: np.where(x > 0, x, layer.negative_slope * x)


def elu(layer: keras.layers.ELU) -> Function:
    """Returns what an `ELU` layer computes, in NumPy."""
    return lambda x: _elu(x, layer.alpha)
