"""What compact refuses, and what it says."""

import keras
import numpy as np
import pytest
from keras import layers
from zoo import sequential, subclassed

import l2keras


@pytest.mark.parametrize("function", [l2keras.compact, l2keras.sparsity])
def test_a_model_must_be_built(function):
    model = keras.Sequential([layers.Dense(3)], name="mine")
    with pytest.raises(ValueError, match=r"Model 'mine' is not built, so it"):
        function(model)


@pytest.mark.parametrize("function", [l2keras.compact, l2keras.sparsity])
def test_a_model_must_be_a_model(function):
    with pytest.raises(TypeError, match="Argument `model` must be a Keras"):
        function(layers.Dense(3))


def test_the_graph_must_be_known():
    model = subclassed()
    with pytest.raises(ValueError, match="Only a sequential") as raised:
        l2keras.compact(model)
    assert str(raised.value) == (
        "Only a sequential or functional model, whose graph is known, can be "
        f"compacted. Received: model={model.name!r} of class `Own`. Compact "
        "the functional models in it, or build it as one."
    )


class Called(keras.Model):
    def call(self, inputs):
        return super().call(inputs) + 1


def test_a_graph_must_be_what_runs():
    inputs = keras.Input((4,))
    with pytest.raises(ValueError, match="of class `Called`"):
        l2keras.compact(Called(inputs, layers.Dense(3)(inputs)))


def small():
    return sequential((4,), layers.Dense(3))


@pytest.mark.parametrize("function", [l2keras.compact, l2keras.sparsity])
@pytest.mark.parametrize("value", [-1.0, np.nan, "0.1"])
def test_a_threshold_must_be_a_size(function, value):
    with pytest.raises((TypeError, ValueError)) as raised:
        function(small(), threshold=value)
    assert str(raised.value).startswith(
        "Argument `threshold` must be a finite number >= 0. Received: "
        f"threshold={value!r}"
    )


def test_inputs_are_dropped_or_not():
    with pytest.raises(TypeError) as raised:
        l2keras.compact(small(), drop_inputs=1)
    assert str(raised.value) == (
        "Argument `drop_inputs` must be a boolean. Received: drop_inputs=1"
    )


class Forgetful(layers.Layer):
    def __init__(self, units):
        super().__init__(name="mine")
        self.units = units

    def call(self, inputs):
        return inputs

    def get_config(self):
        return {"name": self.name}


def test_layers_must_be_such_that_they_can_be_made_again():
    with pytest.raises(ValueError, match="Layer 'mine' of type `Forgetful`"):
        l2keras.compact(sequential((4,), Forgetful(3), layers.Dense(3)))
