"""Functions that compact takes to work on each element alone, do."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from l2keras.compaction import elementwise

X = np.array([-7.0, -1.5, -0.7, -0.2, 0.1, 0.3, 0.9, 8.0], "float32")


def public_activations():
    return [
        name
        for name, value in vars(keras.activations).items()
        if callable(value)
        # The last takes two numbers besides.
        and name not in ("deserialize", "get", "serialize", "threshold")
    ]


def is_apart(function):
    """Tells whether each output of a function depends on one input alone."""
    together = ops.convert_to_numpy(function(ops.convert_to_tensor(X[None])))
    if together.shape != (1, len(X)):
        return False
    apart = [
        ops.convert_to_numpy(
            function(ops.convert_to_tensor(np.full((1, 2), x)))
        )
        for x in X
    ]
    return np.allclose(
        together[0], [each[0, 0] for each in apart], rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("name", public_activations())
def test_elementwise_activations_are_recognized(name):
    function = getattr(keras.activations, name)
    assert elementwise.is_activation(function) == is_apart(function)


def test_a_function_named_like_an_activation_is_not_recognized():
    def relu(x):
        return ops.cumsum(x)

    assert not elementwise.is_activation(relu)


OPERATIONS = {
    "relu": ops.relu,
    "leaky_relu": lambda x: ops.leaky_relu(x, 0.3),
    "clip": lambda x: ops.clip(x, 0.0, 6.0),
    "cast": lambda x: ops.cast(x, "float16"),
    "add": lambda x: x + 3.0,
    "multiply": lambda x: x * (1 / 6),
    "subtract": lambda x: 1.0 - x,
    "divide": lambda x: x / 255.0,
    "power": lambda x: ops.abs(x) ** 1.5,
    "silu": keras.activations.silu,
    "hard_silu": ops.hard_silu,
}


def operation_of(function):
    inputs = keras.Input((len(X),))
    outputs = function(inputs)
    return keras.Model(inputs, outputs).operations[-1]


@pytest.mark.parametrize("name", OPERATIONS)
def test_recognized_operations_are_elementwise(name):
    function = OPERATIONS[name]
    assert elementwise.is_operation(operation_of(function))
    assert is_apart(function)


@pytest.mark.parametrize(
    "function", [ops.softmax, ops.cumsum, ops.flip, ops.sort, ops.matmul]
)
def test_operations_across_elements_are_not_recognized(function):
    if function is ops.matmul:
        function = lambda x: ops.matmul(x, np.eye(len(X)))  # noqa: E731
    assert not elementwise.is_operation(operation_of(function))


def test_constants_are_folded_and_unknowns_stay_unknown():
    values = elementwise.computed(
        ops.exp, [np.array([0.0, np.nan, 1.0])], "float32"
    )
    np.testing.assert_allclose(values, [1.0, np.nan, np.e], rtol=1e-6)


@pytest.mark.parametrize(
    ("dtype", "largest"),
    [("float16", 11.0), ("bfloat16", 88.0), ("float32", 88.0)],
)
def test_a_constant_that_overflows_the_dtype_of_a_layer_is_not_finite(
    dtype, largest
):
    layer = layers.Dense(1, activation="exponential", dtype=dtype)
    values = elementwise.activated(layer, np.array([largest, largest + 1.5]))
    assert np.isfinite(values).tolist() == [True, False]
