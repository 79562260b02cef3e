"""Models and arguments that `compact` refuses, and the messages."""

import keras
import numpy as np
import pytest
from keras import layers

import l2keras
from tests.support.built_models import sequential, subclassed


@pytest.mark.parametrize("function", [l2keras.compact, l2keras.sparsity])
def test_a_model_must_be_built(function):
    model = keras.Sequential([layers.Dense(3)], name="mine")
    with pytest.raises(ValueError, match=r"Model 'mine' is not built, so it"):
        function(model)


@pytest.mark.parametrize("function", [l2keras.compact, l2keras.sparsity])
def test_a_model_must_be_a_model(function):
    with pytest.raises(TypeError, match="Argument `model` must be a Keras"):
        function(layers.Dense(3))


def test_a_subclassed_model_is_refused():
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


def test_a_functional_model_with_its_own_call_is_refused():
    inputs = keras.Input((4,))
    with pytest.raises(ValueError, match="of class `Called`"):
        l2keras.compact(Called(inputs, layers.Dense(3)(inputs)))


def small():
    return sequential((4,), layers.Dense(3))


@pytest.mark.parametrize("function", [l2keras.compact, l2keras.sparsity])
@pytest.mark.parametrize("value", [-1.0, np.nan, "0.1"])
def test_a_threshold_must_be_a_finite_number(function, value):
    with pytest.raises((TypeError, ValueError)) as raised:
        function(small(), threshold=value)
    assert str(raised.value).startswith(
        "Argument `threshold` must be a finite number >= 0. Received: "
        f"threshold={value!r}"
    )


def test_drop_inputs_must_be_a_boolean():
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


def test_a_layer_whose_config_forgets_arguments_is_refused():
    with pytest.raises(ValueError, match="Layer 'mine' of type `Forgetful`"):
        l2keras.compact(sequential((4,), Forgetful(3), layers.Dense(3)))


class Failing(layers.Layer):
    def call(self, inputs):
        return inputs

    def get_config(self):
        return {"units": self.unknown}


def test_a_failing_get_config_is_reported_with_its_layer():
    model = sequential((4,), Failing(name="mine"), layers.Dense(3))
    with pytest.raises(ValueError, match="Layer 'mine'") as raised:
        l2keras.compact(model)
    assert str(raised.value) == (
        "Layer 'mine' of type `Failing` must have a config, to be made anew, "
        "but its `get_config` fails. Received: AttributeError: 'Failing' "
        "object has no attribute 'unknown'"
    )


class Named(layers.Layer):
    """Its config says its name and nothing else."""

    def get_config(self):
        return {"name": self.name}


class Wide(Named):
    """Its config does not say how wide it is."""

    def __init__(self, units=3, **kwargs):
        super().__init__(**kwargs)
        self.units = units

    def build(self, input_shape):
        self.mix = self.add_weight(shape=(input_shape[-1], self.units))

    def call(self, inputs):
        return inputs @ self.mix


def test_weights_missing_from_a_config_are_reported():
    model = sequential((4,), Wide(5, name="mine"))
    with pytest.raises(ValueError, match="Layer 'mine'") as raised:
        l2keras.compact(model)
    assert "must have the same weights when it is made anew" in str(
        raised.value
    )
    assert "(4, 5)" in str(raised.value)
    assert "(4, 3)" in str(raised.value)


class Deep(Named):
    """Its config does not say how many layers are in it."""

    def __init__(self, number=1, **kwargs):
        super().__init__(**kwargs)
        self.inner = [layers.Dense(4) for _ in range(number)]

    def call(self, inputs):
        for layer in self.inner:
            inputs = layer(inputs)
        return inputs


def test_layers_missing_from_a_config_are_reported():
    model = sequential((4,), Deep(2, name="mine"))
    with pytest.raises(ValueError, match="the same layers in it") as raised:
        l2keras.compact(model)
    assert str(raised.value).startswith("Layer 'mine' of type `Deep` must")


class OfFour(Named):
    """Cannot be called anew: its config says another size."""

    def __init__(self, size=3, **kwargs):
        super().__init__(**kwargs)
        self.size = size

    def call(self, inputs):
        if inputs.shape[-1] != self.size:
            raise IndexError("size")
        return inputs


def test_a_layer_that_cannot_be_called_again_is_reported():
    inputs = keras.Input((4,))
    model = keras.Model(inputs, OfFour(4, name="mine")(inputs))
    with pytest.raises(ValueError, match=r"Layer 'mine' .* IndexError"):
        l2keras.compact(model)
