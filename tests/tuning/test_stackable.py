"""Which models are trained together by default, where memory is no limit."""

import keras
import pytest

from l2keras.tuning.grid.stackable import is_cheap_to_map

layers = keras.layers


class Own(layers.Layer):
    """A layer that could do anything with its weight."""

    def build(self, shape):
        self.w = self.add_weight(shape=shape[1:])

    def call(self, inputs):
        return inputs * self.w


CHEAP = {
    "several inputs": [layers.Add, layers.Concatenate],
    "activations": [layers.ReLU, layers.LeakyReLU, layers.PReLU],
    "random": [lambda: layers.Dropout(0.1), lambda: layers.GaussianNoise(0.1)],
    "normalized": [layers.BatchNormalization, layers.LayerNormalization],
}
DEAR = {
    "convolution": [
        lambda: layers.Reshape((4, 1)),
        lambda: layers.Conv1D(2, 2),
    ],
    "recurrent": [lambda: layers.Reshape((4, 1)), lambda: layers.LSTM(2)],
    "a stranger's": [Own],
}


@pytest.mark.parametrize("name", {**CHEAP, **DEAR})
def test_only_what_is_slower_together_is_trained_alone(name):
    inputs = outputs = keras.Input((4,))
    for make in {**CHEAP, **DEAR}[name]:
        layer = make()
        if isinstance(layer, (layers.Add, layers.Concatenate)):
            outputs = layer([outputs, layers.Dense(4)(inputs)])
        else:
            outputs = layer(outputs)
    inner = keras.Model(inputs, outputs)
    for model in (inner, keras.Sequential([inner])):
        assert is_cheap_to_map(model) == (name in CHEAP)
