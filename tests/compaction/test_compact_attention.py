"""Heads of attention go, and zeros before an RMS normalization."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import l2keras
from tests.support import BACKEND
from tests.support.random_architectures import computed, examples


def assert_same_outputs(model, small):
    x = examples(model)
    for one, other in zip(computed(model, x), computed(small, x), strict=True):
        atol = 1e-6 * max(1.0, np.abs(one).max())
        np.testing.assert_allclose(other, one, rtol=1e-5, atol=atol)


def attention(cls=layers.MultiHeadAttention, *sizes, **arguments):
    return cls(*(sizes or (4, 2)), name="attention", **arguments)


def model_of(layer, *, given=lambda x: (x, x), **arguments):
    inputs = keras.Input((5, 6))
    x = layer(*given(inputs), **arguments)
    model = keras.Model(inputs, layers.Dense(3, name="last")(x))
    rng = np.random.default_rng(0)
    for variable in layer.weights:
        variable.assign(rng.normal(size=variable.shape))
    return model


def zero(layer, name, indices, axis):
    """Zeroes a weight of an attention at some indices of an axis."""
    (variable,) = (
        weight for weight in layer.weights if weight.path.endswith(f"/{name}")
    )
    array = np.array(ops.convert_to_numpy(variable))
    np.moveaxis(array, axis, 0)[indices] = 0.0
    variable.assign(array)


def zero_output(layer, heads):
    zero(layer, "attention_output/kernel", heads, 0)


def zero_values(layer, heads):
    zero(layer, "value/kernel", heads, 1)
    if layer.get_config()["use_bias"]:
        zero(layer, "value/bias", heads, 0)


ARGUMENTS = {
    "to itself": {},
    "causal": {"use_causal_mask": True},
    "with a key": {"given": lambda x: (x, x, x)},
    "with a mask": {"attention_mask": np.tril(np.ones((1, 5, 5), bool))},
    "told the defaults": {"return_attention_scores": False, "training": False},
}


@pytest.mark.parametrize("use_bias", [True, False])
@pytest.mark.parametrize("switch_off", [zero_output, zero_values])
@pytest.mark.parametrize("name", ARGUMENTS)
def test_zero_heads_are_removed(name, switch_off, use_bias):
    layer = attention(use_bias=use_bias)
    model = model_of(layer, **ARGUMENTS[name])
    switch_off(layer, [0, 2, 3])
    small, report = l2keras.compact(model)
    assert report.widths["attention"] == (4, 1)
    assert small.count_params() == report.parameters[1]
    assert small.get_layer("attention").get_config()["num_heads"] == 1
    assert_same_outputs(model, small)


@pytest.mark.parametrize("use_bias", [True, False])
def test_zero_groups_of_heads_are_removed(use_bias):
    layer = attention(layers.GroupQueryAttention, 2, 6, 3, use_bias=use_bias)
    model = model_of(layer)
    zero_output(layer, [0, 1, 2])  # The first of three, and half of the next.
    small, report = l2keras.compact(model)
    assert report.widths["attention"] == (3, 2)
    config = small.get_layer("attention").get_config()
    assert config["num_query_heads"] == 4
    assert config["num_key_value_heads"] == 2
    assert_same_outputs(model, small)


def test_one_head_is_kept_when_all_are_zero():
    layer = attention()
    model = model_of(layer)
    zero_output(layer, [0, 1, 2, 3])
    small, report = l2keras.compact(model)
    assert report.widths["attention"] == (4, 1)
    assert_same_outputs(model, small)


def test_a_head_whose_values_are_a_bias_is_kept():
    layer = attention()
    model = model_of(layer)
    zero(layer, "value/kernel", [1], 1)
    small, report = l2keras.compact(model)
    assert report.widths["attention"] == (4, 4)
    assert_same_outputs(model, small)


def zero_dimensions(layer, name, head, dimensions):
    """Zeroes what a projection makes of some dimensions of a head."""
    for variable in layer.weights:
        if f"/{name}/" in variable.path:
            array = np.array(ops.convert_to_numpy(variable))
            if name != "attention_output":
                array[..., head, dimensions] = 0.0
            elif array.ndim == 3:
                array[head, dimensions] = 0.0
            variable.assign(array)


@pytest.mark.skipif(
    BACKEND == "jax", reason="Its keys must have the size of its values."
)
@pytest.mark.parametrize("use_gate", [True, False])
@pytest.mark.parametrize("use_bias", [True, False])
def test_zero_dimensions_within_heads_are_removed(use_bias, use_gate):
    arguments = {"use_bias": use_bias}
    if use_gate:
        if "use_gate" not in attention().get_config():
            pytest.skip("This version of Keras has no gate.")
        arguments["use_gate"] = True
    layer = attention(layers.MultiHeadAttention, 2, 5, 4, **arguments)
    model = model_of(layer)
    # Another number of each head: as many stay as the larger one needs.
    zero_dimensions(layer, "query", 0, [0, 2])
    zero_dimensions(layer, "key", 0, [3])
    zero_dimensions(layer, "key", 1, [1, 4])
    zero_dimensions(layer, "value", 0, [0])
    zero_dimensions(layer, "attention_output", 0, [1])
    zero_dimensions(layer, "attention_output", 1, [0, 2, 3])
    small, report = l2keras.compact(model)
    config = small.get_layer("attention").get_config()
    assert (config["key_dim"], config["value_dim"]) == (3, 2)
    ideal = model_of(attention(layers.MultiHeadAttention, 2, 3, 2, **arguments))
    assert report.parameters[1] == ideal.count_params()
    assert_same_outputs(model, small)


def test_zero_dimensions_of_groups_of_heads_are_removed():
    layer = attention(layers.GroupQueryAttention, 5, 4, 2)
    model = model_of(layer)
    zero_dimensions(layer, "key", 0, [0, 1])
    for head in (2, 3):  # Both heads of the second group.
        zero_dimensions(layer, "query", head, [2, 4])
    zero_dimensions(layer, "query", 0, [3])  # One of two.
    zero_dimensions(layer, "value", 0, [4])
    for head in (2, 3):
        zero_dimensions(layer, "attention_output", head, [0, 3])
    small, _ = l2keras.compact(model)
    config = small.get_layer("attention").get_config()
    assert config["head_dim"] == 4  # Of the values of the first group.
    assert_same_outputs(model, small)


def test_a_head_whose_values_are_zero_where_they_are_read_is_removed():
    layer = attention(layers.MultiHeadAttention, 2, 4)
    model = model_of(layer)
    zero_dimensions(layer, "value", 1, [0, 1])
    zero_dimensions(layer, "attention_output", 1, [2, 3])
    small, report = l2keras.compact(model)
    assert report.widths["attention"] == (2, 1)
    assert_same_outputs(model, small)


def test_heads_and_dimensions_are_removed_at_once():
    layer = attention(layers.MultiHeadAttention, 3, 4)
    model = model_of(layer)
    zero_output(layer, [1])
    zero_dimensions(layer, "query", 0, [0, 1, 2])
    zero_dimensions(layer, "query", 2, [1, 2, 3])
    zero(layer, "attention_output/kernel", [0, 3], 1)
    small, _ = l2keras.compact(model)
    config = small.get_layer("attention").get_config()
    assert config["num_heads"] == 2
    assert config["key_dim"] == config["value_dim"] == 2
    assert_same_outputs(model, small)


@pytest.mark.parametrize("arguments", [{}, {"use_causal_mask": True}])
def test_dimensions_of_keys_that_are_a_bias_are_removed(arguments):
    layer = attention()
    model = model_of(layer, **arguments)
    zero(layer, "key/kernel", [0], 2)
    zero(layer, "attention_output/kernel", [1], 1)
    small, _ = l2keras.compact(model)
    assert small.get_layer("attention").get_config()["key_dim"] == 1
    assert_same_outputs(model, small)


def test_dimensions_of_queries_or_values_that_are_a_bias_are_kept():
    layer = attention()
    model = model_of(layer)
    zero(layer, "query/kernel", [0], 2)
    zero(layer, "value/kernel", [0], 2)
    small, _ = l2keras.compact(model)
    config = small.get_layer("attention").get_config()
    assert (config["key_dim"], config["value_dim"]) == (2, 2)
    assert_same_outputs(model, small)


def test_zero_heads_of_an_attention_called_twice_are_removed():
    layer = attention()
    model = model_of(layer, given=lambda x: (layer(x, x), x))
    zero_output(layer, [1])
    small, report = l2keras.compact(model)
    assert report.widths["attention"] == (4, 3)
    assert_same_outputs(model, small)


LEFT_ALONE = {
    "scores of heads": {"return_attention_scores": True},
    "a mask for each head": {"attention_mask": np.ones((1, 4, 5, 5), bool)},
    "training": {"training": True},
}


@pytest.mark.parametrize("name", LEFT_ALONE)
def test_an_attention_whose_heads_are_visible_is_skipped(name):
    layer = attention()
    inputs = keras.Input((5, 6))
    model = keras.Model(inputs, layer(inputs, inputs, **LEFT_ALONE[name]))
    zero_output(layer, [0])
    _, report = l2keras.compact(model)
    assert "attention" not in report.widths


def test_heads_zeroed_by_group_lasso_applied_by_path_are_removed():
    layer = attention()
    model = model_of(layer)
    l2keras.apply_regularizers(
        model,
        {"attention/attention_output/kernel": l2keras.GroupLasso(0.1, axis=0)},
    )
    zero_output(layer, [0, 3])
    small, report = l2keras.compact(model)
    assert report.widths["attention"] == (4, 2)
    assert_same_outputs(model, small)
    before, after = (l2keras.penalties(each) for each in (model, small))
    assert [each.path for each in after] == [each.path for each in before]
    assert float(sum(small.losses)) == pytest.approx(
        float(sum(model.losses)), rel=1e-6
    )
    again = keras.models.clone_model(small)
    assert [record.path for record in l2keras.penalties(again)] == [
        each.path for each in after
    ]


@pytest.mark.slow
def test_a_transformer_trained_with_group_lasso_becomes_smaller():
    layer = attention(layers.MultiHeadAttention, 4, 3, use_bias=False)
    inputs = keras.Input((5, 6))
    x = layers.Add()([inputs, layer(inputs, inputs)])
    hidden = layers.Dense(16, activation="relu", name="hidden")
    y = layers.Dense(6, name="made")(hidden(layers.LayerNormalization()(x)))
    x = layers.Add()([x, y])
    model = keras.Model(inputs, layers.Dense(2, name="last")(x))
    rng = np.random.default_rng(0)
    for variable in model.weights:
        if "kernel" in variable.name:
            variable.assign(rng.normal(size=variable.shape) / 3)
    l2keras.apply_regularizers(
        model,
        {
            "attention/attention_output/kernel": l2keras.GroupLasso(
                0.1, axis=0
            ),
            "attention/(key|value)/kernel": l2keras.GroupLasso(
                0.02, axis=(1, 2)
            ),
            "hidden/kernel": l2keras.GroupLasso(0.02),
        },
    )
    model.compile(l2keras.Proximal(keras.optimizers.Adam(0.02)), "mse")
    x = rng.normal(size=(64, 5, 6)).astype("float32")
    mean = np.broadcast_to(x[..., 1].mean(1, keepdims=True), (64, 5))
    y = np.stack([np.maximum(x[..., 0], 0), mean], -1)
    model.fit(x, y, batch_size=64, epochs=100, verbose=0)
    small, report = l2keras.compact(model)
    assert report.widths["attention"][1] < 4
    assert report.widths["hidden"][1] < 16
    attending = small.get_layer("attention")
    assert attending.key_dim < 3
    assert attending.value_dim < 3
    assert_same_outputs(model, small)


@pytest.mark.parametrize("epsilon", [1e-6, 0.5])
def test_zero_units_before_rms_normalization_are_removed(epsilon):
    a = layers.Dense(6, use_bias=False, name="a")
    norm = layers.RMSNormalization(epsilon=epsilon, name="norm")
    inputs = keras.Input((4,))
    x = norm(a(inputs))
    model = keras.Model(inputs, layers.Dense(3, name="last")(x))
    (kernel,) = a.get_weights()
    kernel[:, :4] = 0.0
    a.set_weights([kernel])
    norm.scale.assign([1.0, 2.0, 3.0, 0.0, 0.5, -1.0])
    small, report = l2keras.compact(model)
    assert report.widths["a"] == (6, 2)
    assert_same_outputs(model, small)
    again, second = l2keras.compact(small)
    assert second.parameters == (report.parameters[1],) * 2
    assert_same_outputs(model, again)


@pytest.mark.parametrize("scale", [1.0, 0.0])
def test_constants_before_rms_normalization_are_kept(scale):
    a = layers.Dense(6, name="a")
    norm = layers.RMSNormalization(name="norm")
    inputs = keras.Input((4,))
    x = norm(a(inputs))
    model = keras.Model(inputs, layers.Dense(3, name="last")(x))
    kernel, bias = a.get_weights()
    kernel[:, :4] = 0.0  # Constants, which are averaged too.
    a.set_weights([kernel, bias + 0.5])
    norm.scale.assign([scale] * 6)
    small, report = l2keras.compact(model)
    assert report.widths["a"] == (6, 6)
    assert report.skipped == {"a": "4 of 6 are off, but norm reads them all"}
    assert_same_outputs(model, small)


def test_a_placeholder_unit_is_not_averaged_by_rms_normalization():
    a = layers.Dense(6, name="a")
    b = layers.Dense(5, activation="relu", name="b")
    inputs = keras.Input((4,))
    x = b(a(inputs))
    # Zeros that are made of constants: relu(1 - 3).
    a.set_weights([np.zeros((4, 6)), np.ones(6)])
    b.set_weights([np.full((6, 5), -0.5), np.ones(5)])
    x = layers.Concatenate()([x, layers.Dense(3, name="c")(inputs)])
    x = layers.RMSNormalization()(x)
    model = keras.Model(inputs, layers.Dense(2)(x))
    small, report = l2keras.compact(model)
    assert report.widths["b"][1] < 5
    assert_same_outputs(model, small)
