"""Activations in NumPy, which compact knows constants by."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from l2keras.compaction import elementwise


@pytest.mark.parametrize("name", sorted(elementwise.ACTIVATIONS))
def test_activations_are_those_of_keras(name):
    function = getattr(keras.activations, name, None)
    if function is None:
        pytest.skip("This version of Keras does not have it.")
    x = np.array([-7.0, -1.5, -0.7, -0.2, 0.0, 0.3, 0.9, 2.0, 8.0])
    np.testing.assert_allclose(
        elementwise.activation(function)(x),
        ops.convert_to_numpy(function(ops.convert_to_tensor(x, "float32"))),
        rtol=1e-5,
        atol=1e-6,
    )


@pytest.mark.parametrize(
    ("layer", "function"),
    [
        (layers.ReLU(1.5, 0.1, 0.5), elementwise.relu),
        (layers.ReLU(negative_slope=0.1), elementwise.relu),
        (layers.LeakyReLU(0.4), elementwise.leaky_relu),
        (layers.ELU(0.6), elementwise.elu),
    ],
)
def test_layers_of_activations_are_those_of_keras(layer, function):
    x = np.array([-7.0, -0.2, 0.0, 0.3, 0.9, 2.0, 8.0])
    np.testing.assert_allclose(
        function(layer)(x),
        ops.convert_to_numpy(layer(ops.convert_to_tensor(x, "float32"))),
        rtol=1e-5,
        atol=1e-6,
    )
