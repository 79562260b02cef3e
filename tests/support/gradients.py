"""Gradients of functions of one array, by the backend and by NumPy."""

import numpy as np

from tests.support import BACKEND


def gradient(function, array):
    """Returns the gradient of a scalar function at a NumPy array."""
    if BACKEND == "tensorflow":
        import tensorflow as tf

        point = tf.constant(array)
        with tf.GradientTape() as tape:
            tape.watch(point)
            value = function(point)
        return tape.gradient(value, point).numpy()
    if BACKEND == "jax":
        import jax

        return np.asarray(jax.grad(function)(jax.numpy.asarray(array)))
    import torch

    point = torch.tensor(array, requires_grad=True)
    return torch.autograd.grad(function(point), point)[0].numpy()


def differences(function, array, width=1e-5):
    """Returns the gradient of a NumPy function, by central differences."""
    array = array.astype("float64")
    slopes = np.empty_like(array)
    for index in np.ndindex(array.shape):
        ends = []
        for sign in (1, -1):
            moved = array.copy()
            moved[index] += sign * width
            ends.append(function(moved))
        slopes[index] = (ends[0] - ends[1]) / (2 * width)
    return slopes
