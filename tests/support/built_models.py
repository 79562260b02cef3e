"""Built models to put regularizers on, and the penalties that they have."""

import json
import re

import keras
import numpy as np
import pytest
from keras import ops

import l2keras
from l2keras.weights.survey import Survey
from tests.support import number, takes_functions

register = keras.saving.register_keras_serializable(
    package="l2keras_tests_apply"
)


@register
def cubic(weights):
    return ops.sum(ops.abs(weights) ** 3)


new_keras_only = pytest.mark.skipif(
    not takes_functions(), reason="Keras takes no function here."
)


# Layers and models of other people.


@register
class Custom(keras.layers.Layer):
    """Has two weights, and a layer that Keras gives a name."""

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.inner = keras.layers.Dense(units)

    def build(self, input_shape):
        shape = (input_shape[-1], self.units)
        self.mix = self.add_weight(shape=shape, name="mix")
        self.bias = self.add_weight(shape=shape, name="bias")
        self.inner.build(input_shape)

    def call(self, inputs):
        return self.inner(inputs) + inputs @ (self.mix + self.bias)

    def get_config(self):
        return {**super().get_config(), "units": self.units}


@register
class Lazy(keras.layers.Layer):
    """Leaves it to its first call to build the layers in it."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.first = keras.layers.Dense(3)
        self.second = keras.layers.Dense(2)

    def build(self, input_shape):
        pass

    def call(self, inputs):
        return self.second(self.first(inputs))


@register
class Own(keras.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.hidden = keras.layers.Dense(3, name="hidden")
        self.custom = Custom(2, name="custom")
        self.pair = [keras.layers.Dense(2, name=name) for name in "ab"]

    def call(self, inputs):
        hidden = self.custom(self.hidden(inputs))
        return self.pair[0](hidden) + self.pair[1](hidden)


@register
class OwnFunctional(keras.Model):
    """A functional model whose config is not one."""

    def __init__(self, units=3, **kwargs):
        inputs = keras.Input((4,))
        hidden = keras.layers.Dense(units, name="hidden")(inputs)
        outputs = keras.layers.Dense(2, name="output")(hidden)
        super().__init__(inputs, outputs, **kwargs)
        self.units = units

    def get_config(self):
        return {"units": self.units, "name": self.name}


# A backbone as those of KerasHub: functional, with a config of its own, made of
# layers that know no regularizers, and saved as a preset.


@register
class Positions(keras.layers.Layer):
    """Adds an embedding of each position."""

    def build(self, input_shape):
        self.table = self.add_weight(shape=input_shape[1:], name="embeddings")

    def call(self, inputs):
        return inputs + self.table


@register
class ClassToken(keras.layers.Layer):
    """Puts a learned vector before the others."""

    def build(self, input_shape):
        shape = (1, 1, input_shape[-1])
        self.token = self.add_weight(shape=shape, name="class_token")

    def call(self, inputs):
        token = ops.broadcast_to(
            self.token, (ops.shape(inputs)[0], 1, inputs.shape[-1])
        )
        return ops.concatenate([token, inputs], axis=1)


@register
class Block(keras.layers.Layer):
    """Makes its layers when it is built."""

    def build(self, input_shape):
        width = input_shape[-1]
        self.attention = keras.layers.MultiHeadAttention(2, 2, name="attention")
        self.attention.build(input_shape, input_shape)
        self.norm = keras.layers.LayerNormalization(name="norm")
        self.norm.build(input_shape)
        self.dense = keras.layers.Dense(width, name="dense")
        self.dense.build(input_shape)

    def call(self, inputs):
        return self.dense(self.norm(inputs + self.attention(inputs, inputs)))


@register
class Backbone(keras.Model):
    def __init__(self, vocabulary=6, width=4, dtype=None, **kwargs):
        tokens = keras.Input((3,), dtype="int32")
        embedding = keras.layers.Embedding(
            vocabulary, width, dtype=dtype, name="tokens"
        )
        hidden = Positions(dtype=dtype, name="positions")(embedding(tokens))
        hidden = ClassToken(dtype=dtype, name="token")(hidden)
        for index in range(2):
            hidden = Block(dtype=dtype, name=f"block{index}")(hidden)
        super().__init__(tokens, hidden, **kwargs)
        self.vocabulary, self.width = vocabulary, width

    def get_config(self):
        return {
            "vocabulary": self.vocabulary,
            "width": self.width,
            "name": self.name,
            "trainable": self.trainable,
        }

    @classmethod
    def from_config(cls, config):
        return cls(**config)

    def save_to_preset(self, folder):
        config = keras.saving.serialize_keras_object(self)
        (folder / "config.json").write_text(json.dumps(config))
        self.save_weights(folder / "model.weights.h5")

    @classmethod
    def from_preset(cls, folder, **arguments):
        config = json.loads((folder / "config.json").read_text())
        saved = keras.saving.get_registered_object(config["registered_name"])
        assert issubclass(saved, cls), saved
        config["config"].update(arguments)
        model = keras.saving.deserialize_keras_object(config)
        model.load_weights(folder / "model.weights.h5")
        return model


def sequential(shape, *layers):
    return keras.Sequential([keras.Input(shape), *layers])


def functional():
    inputs = keras.Input((4,))
    one = keras.layers.Dense(3, name="one")(inputs)
    two = keras.layers.Dense(3, name="two")(inputs)
    return keras.Model(inputs, keras.layers.Add()([one, two]))


def backbone():
    return keras.Sequential(
        [
            keras.Input((6, 6, 2)),
            keras.layers.Conv2D(3, 2, name="conv1"),
            keras.layers.BatchNormalization(name="bn"),
            keras.layers.GlobalAveragePooling2D(),
        ],
        name="backbone",
    )


def transfer():
    inputs = keras.Input((6, 6, 2))
    features = backbone()(inputs)
    return keras.Model(inputs, keras.layers.Dense(2, name="head")(features))


def shared():
    inputs = keras.Input((4,))
    layer = keras.layers.Dense(4, name="twice")
    return keras.Model(inputs, layer(layer(inputs)))


def attention(**arguments):
    inputs = keras.Input((3, 4))
    layer = keras.layers.MultiHeadAttention(2, 2, name="mha", **arguments)
    return keras.Model(inputs, layer(inputs, inputs))


def stacked_cells():
    cells = [
        keras.layers.LSTMCell(2, name="one"),
        keras.layers.GRUCell(2, name="two"),
    ]
    return sequential((3, 4), keras.layers.RNN(cells, name="rnn"))


def bidirectional(layer):
    return sequential((3, 4), keras.layers.Bidirectional(layer, name="both"))


def lora():
    layer = keras.layers.Dense(2, name="dense")
    model = sequential((4,), layer, keras.layers.Dense(2, name="head"))
    layer.enable_lora(2)
    layer.lora_kernel_b.assign(np.ones((2, 2)))  # Zeros pay nothing.
    return model


def quantized():
    layer = keras.layers.Dense(2, name="dense")
    model = sequential((4,), layer, keras.layers.Dense(2, name="head"))
    layer.quantize("int8")
    return model


def normalized():
    layers = [
        keras.layers.BatchNormalization(name="batch"),
        keras.layers.LayerNormalization(axis=[1, 2], name="layer"),
        keras.layers.GroupNormalization(2, name="group"),
        keras.layers.Dense(2, name="dense"),
        keras.layers.PReLU(name="slopes"),
    ]
    if hasattr(keras.layers, "RMSNormalization"):
        layers.insert(3, keras.layers.RMSNormalization(name="rms"))
    return sequential((3, 4), *layers)


def embedded():
    return sequential(
        (3,),
        keras.layers.Embedding(5, 2, name="embedding"),
        keras.layers.Flatten(),
        keras.layers.Dense(2, name="head"),
    )


def subclassed():
    model = Own()
    model(np.zeros((2, 4)))
    return model


# A row: how to make the model, and the weights that the default reaches.
ROWS = {
    "Sequential": (
        lambda: sequential(
            (4,),
            keras.layers.Dense(3, name="a"),
            keras.layers.Dense(2, name="b"),
        ),
        ["a/kernel", "b/kernel"],
    ),
    "functional": (functional, ["one/kernel", "two/kernel"]),
    "functional, subclassed": (
        OwnFunctional,
        ["hidden/kernel", "output/kernel"],
    ),
    "backbone": (
        Backbone,
        [
            f"block{index}/{layer}/kernel"
            for index in range(2)
            for layer in (
                "attention/query",
                "attention/key",
                "attention/value",
                "attention/attention_output",
                "dense",
            )
        ],
    ),
    "model in a model": (transfer, ["backbone/conv1/kernel", "head/kernel"]),
    "subclassed": (
        subclassed,
        [
            "hidden/kernel",
            "custom/mix",
            "custom/dense/kernel",
            "a/kernel",
            "b/kernel",
        ],
    ),
    "shared layer": (shared, ["twice/kernel"]),
    "custom layer": (
        lambda: sequential((4,), Custom(3, name="one"), Custom(2, name="two")),
        [
            "one/mix",
            "one/dense/kernel",
            "two/mix",
            "two/dense/kernel",
        ],
    ),
    "built in its first call": (
        lambda: sequential((4,), Lazy(name="lazy")),
        ["lazy/dense/kernel", "lazy/dense/kernel"],
    ),
    "Bidirectional LSTM": (
        lambda: bidirectional(keras.layers.LSTM(2, name="lstm")),
        [
            f"both/{side}_lstm/lstm_cell/{name}"
            for side in ("forward", "backward")
            for name in ("kernel", "recurrent_kernel")
        ],
    ),
    "Bidirectional GRU": (  # Whose bias has two dimensions.
        lambda: bidirectional(keras.layers.GRU(2, name="gru")),
        [
            f"both/{side}_gru/gru_cell/{name}"
            for side in ("forward", "backward")
            for name in ("kernel", "recurrent_kernel")
        ],
    ),
    "RNN of cells": (
        stacked_cells,
        [
            f"rnn/stacked_rnn_cells/{cell}/{name}"
            for cell in ("one", "two")
            for name in ("kernel", "recurrent_kernel")
        ],
    ),
    "ConvLSTM1D": (
        lambda: sequential(
            (3, 6, 2), keras.layers.ConvLSTM1D(2, 2, name="conv")
        ),
        ["conv/conv_lstm_cell/kernel", "conv/conv_lstm_cell/recurrent_kernel"],
    ),
    "SeparableConv2D": (
        lambda: sequential(
            (6, 6, 2), keras.layers.SeparableConv2D(3, 2, name="conv")
        ),
        ["conv/depthwise_kernel", "conv/pointwise_kernel"],
    ),
    "DepthwiseConv1D": (
        lambda: sequential(
            (6, 2), keras.layers.DepthwiseConv1D(2, name="conv")
        ),
        ["conv/kernel"],
    ),
    "DepthwiseConv2D": (
        lambda: sequential(
            (6, 6, 2), keras.layers.DepthwiseConv2D(2, name="conv")
        ),
        ["conv/kernel"],
    ),
    "EinsumDense": (  # Its bias has two dimensions.
        lambda: sequential(
            (4,),
            keras.layers.EinsumDense(
                "ab,bcd->acd", (2, 3), bias_axes="cd", name="einsum"
            ),
        ),
        ["einsum/kernel"],
    ),
    "MultiHeadAttention": (
        attention,
        [
            f"mha/{name}/kernel"
            for name in ("query", "key", "value", "attention_output")
        ],
    ),
    "Embedding": (embedded, ["head/kernel"]),
    "normalizations": (normalized, ["dense/kernel"]),
    "LoRA": (
        lora,
        [
            "dense/kernel",
            "dense/lora_kernel_a",
            "dense/lora_kernel_b",
            "head/kernel",
        ],
    ),
    "int8": (quantized, ["head/kernel"]),
    "TimeDistributed": (
        lambda: sequential(
            (3, 4),
            keras.layers.TimeDistributed(
                keras.layers.Dense(2, name="inner"), name="each"
            ),
        ),
        ["each/inner/kernel"],
    ),
    "SpectralNormalization": (
        lambda: sequential(
            (4,),
            keras.layers.SpectralNormalization(
                keras.layers.Dense(2, name="inner"), name="norm"
            ),
        ),
        ["norm/inner/kernel"],
    ),
}


each_row = pytest.mark.parametrize(
    ("make", "reached"),
    [pytest.param(*row, id=name) for name, row in ROWS.items()],
)


each_model = pytest.mark.parametrize(
    "make", [pytest.param(row[0], id=name) for name, row in ROWS.items()]
)


def without_numbers(path):
    """Returns a path without the numbers that Keras adds to its names."""
    return re.sub(r"_\d+(?=/)", "", path)


def variable(model, path):
    """Returns the variable of a path, by the one that Keras gives it."""
    path = path.removeprefix("backbone/")  # Not in Keras's path.
    (found,) = [
        each for each in model.weights if f"/{each.path}".endswith(f"/{path}")
    ]
    return found


def l2(model, strengths):
    """Returns the L2 penalties of the trained weights, by NumPy."""
    penalties = []
    for path, strength in strengths.items():
        weight = variable(model, path)
        if weight.trainable:
            array = keras.ops.convert_to_numpy(weight).astype("float64")
            penalties.append(strength * np.sum(array**2))
    return penalties


def losses(model):
    return [number(loss) for loss in model.losses]


def assert_pays(model, expected):
    """Asserts the penalties, in any order."""
    assert len(model.losses) == len(expected)
    np.testing.assert_allclose(
        sorted(losses(model)), sorted(expected), rtol=1e-5
    )


def state(model):
    """Returns path, shape and regularizer of each weight."""
    return [
        (
            without_numbers(record.path),
            record.shape,
            keras.saving.serialize_keras_object(record.regularizer),
        )
        for record in l2keras.penalties(model)
    ]


def each_its_own(model):
    """Returns a rule for each weight: a strength of its own, or none."""
    trained = [weight.path for weight in Survey.of(model).trained]
    return {
        path: l2keras.L2(0.01 * number) if number % 4 else None
        for number, path in enumerate(trained, start=1)
    }


def two_layers(**arguments):
    return sequential(
        (4,),
        keras.layers.Dense(3, name="hidden", **arguments),
        keras.layers.BatchNormalization(name="norm"),
        keras.layers.Dense(2, name="output", **arguments),
    )


def described(model):
    """Returns the regularizers by path, those that there are."""
    return {
        record.path: repr(record.regularizer)
        for record in l2keras.penalties(model)
        if record.regularizer is not None
    }
