"""The FLOPs of a report, against those that PyTorch counts."""

import keras
import numpy as np
import pytest
from keras import layers

import l2keras
from tests.support import BACKEND

pytestmark = pytest.mark.skipif(
    BACKEND != "torch", reason="PyTorch counts the FLOPs."
)


def dense():
    inputs = keras.Input((5, 6))
    return keras.Model(inputs, layers.Dense(3)(layers.Dense(8)(inputs)))


def convolutional():
    inputs = keras.Input((9, 9, 2))
    x = layers.Conv2D(4, 3, strides=2)(inputs)
    x = layers.Conv2D(6, 3, padding="same", groups=2)(x)
    x = layers.DepthwiseConv2D(3, depth_multiplier=2)(x)
    x = layers.SeparableConv2D(5, 2)(x)
    return keras.Model(inputs, layers.Dense(3)(layers.Flatten()(x)))


def attending():
    inputs = keras.Input((5, 6))
    x = layers.MultiHeadAttention(4, 2, 3)(inputs, inputs)
    return keras.Model(inputs, layers.Dense(3)(x))


def attending_across():
    queries, keys = keras.Input((5, 6)), keras.Input((7, 4))
    x = layers.MultiHeadAttention(4, 2)(queries, keys)
    return keras.Model([queries, keys], x)


def attending_across_by_name():
    queries, keys = keras.Input((5, 6)), keras.Input((7, 4))
    x = layers.MultiHeadAttention(4, 2)(queries, value=keys)
    return keras.Model([queries, keys], x)


def attending_in_groups():
    inputs = keras.Input((5, 6))
    x = layers.GroupQueryAttention(3, 4, 2)(inputs, inputs)
    return keras.Model(inputs, x)


def recurrent(cell=layers.LSTM):
    inputs = keras.Input((5, 6))
    # Else Keras 3.10 computes the first step once more.
    x = cell(4, return_sequences=True, unroll=True)(inputs)
    return keras.Model(inputs, layers.Dense(3)(x))


def with_gru():
    return recurrent(layers.GRU)


@pytest.mark.parametrize(
    "make",
    [
        dense,
        convolutional,
        attending,
        attending_across,
        attending_across_by_name,
        attending_in_groups,
        recurrent,
        with_gru,
    ],
)
def test_flops_are_those_that_torch_counts(make):
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    model = make()
    x = [np.ones((1, *tensor.shape[1:]), "float32") for tensor in model.inputs]
    # It does not count the fused attention of a CPU.
    with (
        sdpa_kernel(SDPBackend.MATH),
        FlopCounterMode(display=False) as counter,
    ):
        model(x if len(x) > 1 else x[0])
    _, report = l2keras.compact(model)
    assert report.flops == (counter.get_total_flops(),) * 2
