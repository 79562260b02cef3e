"""State of layers that is in no config is in the smaller model as well."""

import warnings

import keras
import numpy as np
import pytest
from keras import layers

import l2keras
from tests.support.random_architectures import computed, examples

X = np.random.default_rng(0).normal(size=(2, 5, 4)).astype("float32")

STATEFUL = {
    "LSTM": lambda: layers.LSTM(3, stateful=True),
    "GRU": lambda: layers.GRU(3, stateful=True),
    "SimpleRNN": lambda: layers.SimpleRNN(3, stateful=True),
    "Bidirectional": lambda: layers.Bidirectional(layers.GRU(3, stateful=True)),
    "RNN of a cell": lambda: layers.RNN(layers.GRUCell(3), stateful=True),
}


@pytest.mark.parametrize("name", STATEFUL)
def test_states_of_recurrent_layers_are_kept(name):
    inputs = keras.Input(batch_shape=(2, 5, 4))
    hidden = layers.Dense(6, name="hidden")
    layer = STATEFUL[name]()
    model = keras.Model(inputs, layers.Dense(2)(layer(hidden(inputs))))
    kernel, bias = hidden.get_weights()
    kernel[:, :4] = 0.0
    hidden.set_weights([kernel, bias])
    states = keras.tree.flatten(
        layer.states if name != "Bidirectional" else list(layer.states)
    )
    rng = np.random.default_rng(1)
    for state in states:
        state.assign(rng.normal(size=state.shape))
    given = [keras.ops.convert_to_numpy(each) for each in states]
    small, report = l2keras.compact(model)
    assert report.widths["hidden"][1] in (2, 6)
    for state, value in zip(states, given, strict=True):
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(state), value)
    for _ in range(2):  # Both go on from where they are.
        before, after = (
            np.asarray(each.predict(X, batch_size=2, verbose=0))
            for each in (model, small)
        )
        np.testing.assert_allclose(after, before, rtol=1e-5, atol=1e-6)


def quantized(layer, mode):
    with warnings.catch_warnings():  # Of layers that know no such mode.
        warnings.simplefilter("ignore")
        layer.quantize(mode)


KERNELS = {
    "Dense": lambda x: layers.Dense(8, name="b")(x),
    "EinsumDense": lambda x: layers.EinsumDense(
        "abc,cd->abd", (None, 8), bias_axes="d", name="b"
    )(x),
    "MultiHeadAttention": lambda x: layers.MultiHeadAttention(2, 4, name="b")(
        x, x
    ),
    "TimeDistributed": lambda x: layers.TimeDistributed(
        layers.Dense(8), name="b"
    )(x),
}


def model_around(make):
    inputs = keras.Input((5, 4))
    x = make(layers.Dense(8, name="a")(inputs))
    x = layers.GlobalAveragePooling1D()(x)
    x = layers.Dense(6, activation="relu", name="hidden")(x)
    model = keras.Model(inputs, layers.Dense(3, name="last")(x))
    hidden = model.get_layer("hidden")
    kernel, bias = hidden.get_weights()
    kernel[:, :4] = 0.0
    hidden.set_weights([kernel, bias])
    return model


def layers_in(layer):
    """Returns the layers in a layer that have kernels, or itself."""
    if isinstance(layer, layers.MultiHeadAttention):
        return [layer.query_dense, layer.value_dense, layer.output_dense]
    return [getattr(layer, "layer", layer)]


def kinds_of_weights(layer):
    return {
        weight.name: (weight.dtype, weight.trainable)
        for weight in layer.weights
    }


def with_lora(layer):
    rng = np.random.default_rng(2)
    for each in layers_in(layer):
        each.enable_lora(2)
        factors = [each.lora_kernel_a, each.lora_kernel_b]
        for factor in factors:
            factor.assign(rng.normal(size=factor.shape))


def is_known(mode):
    """Tells whether this version of Keras can quantize so."""
    try:
        layers.Dense(1, dtype=f"{mode}_from_float32")
    except ValueError:
        return False
    return True


CHANGES = [
    (mode, lora)
    for mode in ("int8", "int4")
    for lora in (False, True)
    if is_known(mode)
] + [("float8", False), (None, True)]  # Keras computes no LoRA of float8.


@pytest.mark.parametrize(("mode", "lora"), CHANGES)
@pytest.mark.parametrize("name", KERNELS)
def test_quantized_kernels_and_lora_are_kept(name, mode, lora):
    model = model_around(KERNELS[name])
    layer = model.get_layer("b")
    if mode:
        for each in layers_in(layer):
            quantized(each, mode)
    if lora:
        with_lora(layer)
    x = examples(model)
    (before,) = computed(model, x)
    small, report = l2keras.compact(model)
    np.testing.assert_allclose(
        computed(small, x)[0], before, rtol=1e-5, atol=1e-6
    )
    assert report.widths["hidden"] == (6, 2)
    assert report.skipped["b"]
    for one, other in zip(
        layers_in(layer), layers_in(small.get_layer("b")), strict=True
    ):
        assert kinds_of_weights(other) == kinds_of_weights(one)


def test_lora_in_an_attention_is_kept_with_its_regularizers():
    model = model_around(KERNELS["MultiHeadAttention"])
    with_lora(model.get_layer("b"))
    l2keras.apply_regularizers(
        model, {".*lora_kernel_a": l2keras.L1(0.1)}, default=l2keras.L2(0.5)
    )
    small, _ = l2keras.compact(model)
    before, after = (
        {
            record.path: repr(record.regularizer)
            for record in l2keras.penalties(each)
        }
        for each in (model, small)
    )
    assert after == before
    assert "L1" in before["b/query/lora_kernel_a"]


def test_the_reason_for_skipping_lora_does_not_depend_on_regularizers():
    reasons = []
    for applied in (False, True):
        model = model_around(KERNELS["Dense"])
        model.get_layer("b").enable_lora(2)
        if applied:
            l2keras.apply_regularizers(
                model, {"b/lora_kernel_.": l2keras.L2(0.01)}
            )
        reasons.append(l2keras.compact(model)[1].skipped["b"])
    assert reasons == ["it has LoRA"] * 2
