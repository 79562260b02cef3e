"""The table of zeros."""

import re

import keras
import numpy as np
import pytest
from keras import layers

import l2keras
from tests.support.built_models import Custom, sequential, subclassed


def printed(model, **arguments):
    texts = []
    l2keras.sparsity(model, line_length=100, print_fn=texts.append, **arguments)
    (text,) = texts
    return text.splitlines()


def model_with_zeros():
    model = sequential(
        (4,),
        layers.Dense(
            6, kernel_regularizer=l2keras.GroupLasso(0.1, axis=0), name="a"
        ),
        layers.BatchNormalization(name="norm"),
        layers.Dense(5, bias_regularizer="l2", name="b"),
        layers.Dense(3, name="last"),
    )
    model.name = "small"
    kernel, bias = model.layers[0].get_weights()
    kernel[1] = 0.0
    model.layers[0].set_weights([kernel, bias])
    kernel, bias = model.layers[2].get_weights()
    kernel[:, :2] = 1e-4
    model.layers[2].set_weights([kernel, bias])
    return model


def test_the_table_has_zeros_groups_and_compacted_shapes():
    *table, unread = printed(model_with_zeros())
    assert re.fullmatch(r"- Unread inputs of 'input_layer\w*': 1", unread)
    assert table == [
        'Sparsity of "small"',
        "",
        " Weight        Shape     Zeros      Off   Compacted",
        " ──────────────────────────────────────────────────",
        " a/kernel      (4, 6)    25.0%   1 of 4      (4, 6)",
        " b/kernel      (6, 5)     0.0%   0 of 5      (6, 5)",
        " b/bias        (5,)     100.0%   5 of 5        (5,)",
        " last/kernel   (5, 3)     0.0%   0 of 3      (5, 3)",
        "",
        "Zeros: 11 of 74 weights (14.9%)",
        "Parameters: 107 -> 107",
        "FLOPs: 138 -> 138",
    ]


def test_small_weights_may_count_as_zero():
    lines = printed(model_with_zeros(), threshold=1e-3)
    assert " b/kernel      (6, 5)    40.0%   2 of 5      (6, 3)" in lines
    assert "Parameters: 107 -> 87 (1.23x)" in lines


def test_savings_of_a_subclassed_model_are_unknown():
    text = " ".join(printed(subclassed()))
    assert "hidden/kernel" in text
    assert (
        "Savings by `compact` are not known: Only a sequential or "
        "functional model"
    ) in text
    assert "Parameters" not in text


def test_sparsity_prints_to_standard_output(capsys):
    model = keras.Sequential([keras.Input((2,)), layers.Dense(1)])
    l2keras.sparsity(model)
    assert capsys.readouterr().out.startswith("Sparsity of ")
    np.testing.assert_array_equal(model.layers[0].get_weights()[1], [0.0])


def test_a_refusal_of_compact_is_shown():
    tied = layers.Dense(4, name="tied")
    inputs = keras.Input((3, 4))
    x = layers.TimeDistributed(tied, name="outer")(inputs)
    model = keras.Model(inputs, tied(x))
    assert (
        "Savings by `compact` are not known: Layer 'tied' must not be in "
        "layer 'outer'"
    ) in " ".join(printed(model))


class Forgetful(layers.Layer):
    """A layer that cannot be made anew from its config."""

    def __init__(self, units):
        super().__init__(name="mine")
        self.units = units

    def call(self, inputs):
        return inputs

    def get_config(self):
        return {"name": self.name}


def test_no_savings_are_shown_where_compact_refuses():
    model = sequential((4,), layers.Dense(3), Forgetful(3), layers.Dense(2))
    with pytest.raises(ValueError, match="mine") as raised:
        l2keras.compact(model)
    text = " ".join(printed(model))
    assert "Parameters" not in text
    first, _, _ = str(raised.value).partition("Received: ")
    assert f"Savings by `compact` are not known: {first}" in text


def test_sparsity_draws_no_random_numbers():
    model = sequential((4,), Custom(3), layers.Dropout(0.5), layers.Dense(2))
    keras.utils.set_random_seed(3)
    kernel = layers.Dense(3).kernel_initializer((2, 3))
    keras.utils.set_random_seed(3)
    printed(model)
    again = layers.Dense(3).kernel_initializer((2, 3))
    np.testing.assert_array_equal(
        *map(keras.ops.convert_to_numpy, (again, kernel))
    )


def test_sparsity_predicts_the_sizes_of_compact():
    model = model_with_zeros()
    off = np.array(keras.ops.convert_to_numpy(model.layers[2].kernel))
    off[:, :3] = 0.0
    model.layers[2].kernel.assign(off)
    small, report = l2keras.compact(model)
    text = "\n".join(printed(model))
    before, after = report.parameters
    assert f"Parameters: {before} -> {after}" in text
    shape = tuple(small.layers[2].kernel.shape)
    assert re.search(rf"^ b/kernel .* {re.escape(str(shape))}$", text, re.M)
