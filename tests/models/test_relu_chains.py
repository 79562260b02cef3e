"""Which kernels can be scaled against each other: by scaling them."""

import keras
import numpy as np
import pytest

from l2keras.models.relu_chains import relu_chains

layers = keras.layers


def dense(units=4, activation="relu", **arguments):
    return layers.Dense(units, activation, **arguments)


def sequential(*parts, shape=(6,)):
    return keras.Sequential([keras.Input(shape), *parts])


def convolutional():
    return sequential(
        layers.Conv2D(3, 2, activation="relu"),
        layers.MaxPooling2D(),
        layers.Conv2D(3, 2),
        layers.LeakyReLU(),
        layers.GlobalAveragePooling2D(),
        layers.Dropout(0.5),
        dense(2, "softmax"),
        shape=(8, 8, 1),
    )


def residual():
    inputs = keras.Input((4,))
    first = dense()(inputs)
    second = dense()(first)
    return keras.Model(inputs, dense(2, None)(layers.add([first, second])))


def shared():
    layer, inputs = dense(6), keras.Input((6,))
    return keras.Model(inputs, dense(2, None)(layer(layer(inputs))))


def seen_outside():
    inputs = keras.Input((6,))
    hidden = dense()(inputs)
    return keras.Model(inputs, [hidden, dense(2, None)(hidden)])


MODELS = {
    "two": (lambda: sequential(dense(), dense(2, "softmax")), [2]),
    "three": (lambda: sequential(dense(), dense(), dense(2, None)), [3]),
    "tanh": (lambda: sequential(dense(4, "tanh"), dense(), dense(2)), [2]),
    "all tanh": (lambda: sequential(dense(4, "tanh"), dense(2)), []),
    "convolutions": (convolutional, [3]),
    "normalized": (
        lambda: sequential(dense(), layers.BatchNormalization(), dense(2)),
        [],
    ),
    "clipped": (
        lambda: sequential(dense(4, None), layers.ReLU(max_value=6), dense(2)),
        [],
    ),
    "residual": (residual, []),
    "shared": (shared, []),
    "seen outside": (seen_outside, []),
}


@pytest.mark.parametrize("name", MODELS)
def test_chains_are_found(name):
    make, lengths = MODELS[name]
    model = make()
    chains = relu_chains(model)
    assert [len(chain) for chain in chains] == lengths
    kernels = [w for w in model.weights if w.path.endswith("kernel")]
    for chain in chains:
        positions = [
            next(i for i, each in enumerate(kernels) if each is kernel)
            for kernel in chain
        ]
        assert positions == sorted(positions)


@pytest.mark.parametrize("name", ["two", "three", "convolutions"])
def test_the_kernels_of_a_chain_can_be_scaled_against_each_other(name):
    model = MODELS[name][0]()
    (chain,) = relu_chains(model)
    x = np.random.default_rng(0).normal(size=(5, *model.input_shape[1:]))
    before = keras.ops.convert_to_numpy(model(x))
    factors = np.linspace(0.5, 2.0, len(chain))
    factors /= factors.prod() ** (1 / len(chain))
    for kernel, factor in zip(chain, factors, strict=True):
        kernel.assign(kernel * factor)  # The biases are still zero.
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(model(x)), before, rtol=1e-4, atol=1e-6
    )
