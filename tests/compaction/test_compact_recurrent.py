"""Units of recurrent layers go, where no output depends on their states."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import l2keras
from tests.support.random_architectures import computed, examples


def assert_same_outputs(model, small):
    x = examples(model)
    for one, other in zip(computed(model, x), computed(small, x), strict=True):
        atol = 1e-6 * max(1.0, np.abs(one).max())
        np.testing.assert_allclose(other, one, rtol=1e-5, atol=atol)


def randomize(layer, seed=0):
    rng = np.random.default_rng(seed)
    for variable in layer.weights:
        variable.assign(rng.normal(size=variable.shape) / 2)
    return layer


def change(layer, change_gate, kinds, number=None):
    """Changes weights of the gate whose activation is added to the states.

    Args:
        layer: A recurrent layer, or one of two.
        change_gate: Function of an array whose last axis is that of units.
        kinds: The kinds of weights.
        number: The number of units. Defaults to that of the layer.
    """
    for variable in layer.weights:
        if variable.name in kinds:
            array = np.array(ops.convert_to_numpy(variable))
            units = number or layer.units
            gates = array.shape[-1] // units
            split = array.reshape(*array.shape[:-1], gates, units)
            change_gate(split[..., min(gates - 1, 2), :])
            variable.assign(array)


EVERY = ("kernel", "recurrent_kernel", "bias")


def zero_units(layer, units, number=None):
    def zero(gate):
        gate[..., units] = 0.0

    change(layer, zero, EVERY, number)


def unread_units(layer, units):
    """Has units read by one another alone."""
    for variable in layer.weights:
        if variable.name == "recurrent_kernel":
            array = np.array(ops.convert_to_numpy(variable))
            others = np.setdiff1d(np.arange(array.shape[-2]), units)
            gates = array.shape[-1] // array.shape[-2]
            split = array.reshape(*array.shape[:-1], gates, array.shape[-2])
            split[..., units, :, :][..., others] = 0.0
            for one in units:
                split[..., one, :, others] = 0.0
            variable.assign(array)


LAYERS = {
    "LSTM": layers.LSTM,
    "GRU": layers.GRU,
    "GRU, reset before": lambda units, **a: layers.GRU(
        units, reset_after=False, **a
    ),
    "SimpleRNN": layers.SimpleRNN,
    "SimpleRNN without a bias": lambda units, **a: layers.SimpleRNN(
        units, use_bias=False, **a
    ),
    "LSTM backward": lambda units, **a: layers.LSTM(
        units, go_backwards=True, **a
    ),
}


def model_of(layer, read=None):
    """Returns a model of a layer, of whose units some are read."""
    inputs = keras.Input((5, 3))
    last = layers.Dense(2, name="last")
    model = keras.Model(inputs, last(layer(inputs)))
    randomize(layer)
    randomize(last, 1)
    if read is not None:
        kernel, bias = last.get_weights()
        kernel[np.setdiff1d(np.arange(len(kernel)), read)] = 0.0
        last.set_weights([kernel, bias])
    return model


@pytest.mark.parametrize("name", LAYERS)
def test_units_whose_states_stay_zero_are_removed(name):
    layer = LAYERS[name](5, name="a")
    model = model_of(layer)
    zero_units(layer, [0, 2, 3])
    small, report = l2keras.compact(model)
    assert report.widths["a"] == (5, 2)
    assert small.count_params() == report.parameters[1]
    ideal = model_of(LAYERS[name](2, name="a"))
    assert report.parameters[1] == ideal.count_params()
    assert_same_outputs(model, small)


@pytest.mark.parametrize("name", LAYERS)
def test_units_that_read_each_other_alone_are_removed(name):
    layer = LAYERS[name](5, name="a", return_sequences=True)
    model = model_of(layer, read=[1, 4])
    unread_units(layer, [0, 2, 3])
    small, report = l2keras.compact(model)
    assert report.widths["a"] == (5, 2)
    assert_same_outputs(model, small)


def test_inputs_that_removed_units_alone_read_are_removed():
    a = layers.Dense(6, name="a")
    b = layers.LSTM(5, name="b")
    inputs = keras.Input((5, 3))
    last = layers.Dense(2, name="last")
    model = keras.Model(inputs, last(b(a(inputs))))
    for number, layer in enumerate((a, b, last)):
        randomize(layer, number)
    zero_units(b, [0, 1])
    kernel, *others = b.get_weights()
    kernel[:4].reshape(4, 4, 5)[:, :, 2:] = 0.0  # Four that two units read.
    b.set_weights([kernel, *others])
    small, report = l2keras.compact(model)
    assert report.widths == {"a": (6, 2), "b": (5, 3), "last": (2, 2)}
    assert_same_outputs(model, small)


def give_a_bias(layer):
    def one(gate):
        gate[..., 0] = 1.0

    change(layer, one, ["bias"])


def read_a_live_unit(layer):
    def one(gate):
        gate[4, 0] = 1.0

    change(layer, one, ["recurrent_kernel"])


@pytest.mark.parametrize("name", ["LSTM", "GRU", "GRU, reset before"])
@pytest.mark.parametrize("wake", [give_a_bias, read_a_live_unit])
def test_units_whose_states_change_are_kept(name, wake):
    layer = LAYERS[name](5, name="a")
    model = model_of(layer)
    zero_units(layer, [0, 2, 3])
    wake(layer)
    small, report = l2keras.compact(model)
    assert report.widths["a"] == (5, 3)
    assert_same_outputs(model, small)


def test_a_bias_of_the_states_of_a_gru_keeps_its_unit():
    layer = layers.GRU(5, name="a")
    model = model_of(layer)
    zero_units(layer, [0, 2, 3])
    bias = layer.get_weights()[2]
    bias[1, 10] = 1.0
    layer.set_weights([*layer.get_weights()[:2], bias])
    small, report = l2keras.compact(model)
    assert report.widths["a"] == (5, 3)
    assert_same_outputs(model, small)


def test_constants_that_cancel_the_bias_keep_a_state_at_zero():
    a = layers.Dense(4, name="a")
    b = layers.SimpleRNN(3, name="b")
    inputs = keras.Input((5, 3))
    last = layers.Dense(2)
    model = keras.Model(inputs, last(b(a(inputs))))
    for number, layer in enumerate((a, b, last)):
        randomize(layer, number)
    kernel, bias = a.get_weights()
    kernel[:, :2], bias[:2] = 0.0, 0.5
    a.set_weights([kernel, bias])
    kernel, states, bias = b.get_weights()
    kernel[2:, 0], states[:, 0] = 0.0, 0.0
    kernel[:2, 0], bias[0] = 1.0, -1.0
    b.set_weights([kernel, states, bias])
    small, report = l2keras.compact(model)
    assert report.widths["a"] == (4, 2)
    assert report.widths["b"] == (3, 2)
    assert_same_outputs(model, small)


@pytest.mark.parametrize("mode", ["concat", "sum", "ave", "mul"])
def test_units_that_are_off_both_ways_are_removed(mode):
    layer = layers.Bidirectional(
        layers.GRU(5, return_sequences=True), merge_mode=mode, name="a"
    )
    model = model_of(layer)
    zero_units(layer.forward_layer, [0, 2, 3])
    # Those of the two ways go in pairs, any of them where they are side by
    # side.
    other = [1, 2, 4] if mode == "concat" else [0, 2, 4]
    zero_units(layer.backward_layer, other)
    small, report = l2keras.compact(model)
    before, left = {"concat": (10, 4), "mul": (5, 3)}.get(mode, (5, 3))
    assert report.widths["a"] == (before, left)
    assert small.count_params() == report.parameters[1]
    assert_same_outputs(model, small)


def test_units_of_a_cell_are_removed():
    cell = layers.LSTMCell(5)
    model = model_of(layers.RNN(cell, name="a"))
    zero_units(cell, [0, 2, 3])
    small, report = l2keras.compact(model)
    assert report.widths["a"] == (5, 2)
    assert small.get_layer("a").cell.units == 2
    assert_same_outputs(model, small)


@pytest.mark.parametrize("padding", ["same", "valid"])
def test_filters_of_a_recurrent_convolution_are_removed(padding):
    a = layers.Conv3D(4, 1, name="a")
    b = layers.ConvLSTM2D(5, 2, padding=padding, name="b")
    inputs = keras.Input((3, 4, 4, 2))
    last = layers.Dense(2, name="last")
    x = layers.GlobalAveragePooling2D()(b(a(inputs)))
    model = keras.Model(inputs, last(x))
    for number, layer in enumerate((a, b, last)):
        randomize(layer, number)
    kernel, bias = a.get_weights()
    kernel[..., :2], bias[:2] = 0.0, 0.5
    a.set_weights([kernel, bias])
    zero_units(b, [0, 2, 3], 5)
    small, report = l2keras.compact(model)
    # Constants cannot go where there are zeros around them.
    assert report.widths["a"] == (4, 4 if padding == "same" else 2)
    assert report.widths["b"] == (5, 2)
    assert_same_outputs(model, small)


def test_states_that_are_returned_are_read():
    layer = layers.LSTM(5, return_state=True, name="a")
    inputs = keras.Input((5, 3))
    outputs, _, cells = layer(inputs)
    first, second = layers.Dense(2), layers.Dense(2)
    model = keras.Model(inputs, [first(outputs), second(cells)])
    for number, each in enumerate((layer, first, second)):
        randomize(each, number)
    for dense, unread in ((first, [0, 1, 2]), (second, [1, 2, 3])):
        kernel, bias = dense.get_weights()
        kernel[unread] = 0.0
        dense.set_weights([kernel, bias])
    unread_units(layer, [1, 2])
    small, report = l2keras.compact(model)
    assert report.widths["a"] == (5, 3)
    assert_same_outputs(model, small)


PENALIZED = {
    "LSTM": lambda: layers.LSTM(5, name="a"),
    "RNN": lambda: layers.RNN(layers.SimpleRNNCell(5), name="a"),
    "Bidirectional": lambda: layers.Bidirectional(layers.GRU(5), name="a"),
}


def recurrent_layers(layer):
    """Returns the layers in a layer that have the weights of units."""
    if isinstance(layer, layers.Bidirectional):
        return [layer.forward_layer, layer.backward_layer]
    return [layer if isinstance(layer, layers.LSTM) else layer.cell]


# Keras 3.10's, of a model that it loaded.
@pytest.mark.filterwarnings("ignore:The structure of `inputs` doesn.t match")
@pytest.mark.parametrize("name", PENALIZED)
def test_smaller_recurrent_layers_are_saved_with_their_penalties(
    name, tmp_path
):
    layer = PENALIZED[name]()
    model = model_of(layer)
    for each in recurrent_layers(layer):
        zero_units(each, [0, 2, 3])
    l2keras.apply_regularizers(model, default=l2keras.GroupLasso(0.1))
    small, report = l2keras.compact(model)
    assert report.widths["a"][1] == 2 * len(recurrent_layers(layer))
    small.save(tmp_path / "small.keras")
    again = keras.models.load_model(tmp_path / "small.keras")
    before, after = (l2keras.penalties(each) for each in (model, again))
    assert [each.path for each in after] == [each.path for each in before]
    assert_same_outputs(model, again)


def test_a_threshold_applies_to_what_units_read_of_each_other():
    layer = layers.LSTM(5, name="a")
    model = model_of(layer)
    zero_units(layer, [0, 1])

    def small(gate):
        gate[..., :2] = 1e-4

    change(layer, small, ["kernel", "recurrent_kernel"])
    _, report = l2keras.compact(model)
    assert report.widths["a"] == (5, 5)
    _, report = l2keras.compact(model, threshold=1e-3)
    assert report.widths["a"] == (5, 3)
    assert 0 < report.change < 1e-2


LEFT_ALONE = {
    "states from elsewhere": (
        lambda: layers.SimpleRNN(3, name="a"),
        lambda x: {"initial_state": [layers.Dense(3)(x[:, 0])]},
        "it is called with more than its inputs",
    ),
    "a softmax": (
        lambda: layers.SimpleRNN(3, activation="softmax", name="a"),
        lambda x: {},
        "its activations may mix channels",
    ),
    "a softmax of gates": (
        lambda: layers.GRU(3, recurrent_activation="softmax", name="a"),
        lambda x: {},
        "its activations may mix channels",
    ),
}


@pytest.mark.parametrize("name", LEFT_ALONE)
def test_units_are_kept_where_it_is_not_sure(name):
    make, arguments, reason = LEFT_ALONE[name]
    layer = make()
    inputs = keras.Input((5, 3))
    x = layer(inputs, **arguments(inputs))
    model = keras.Model(inputs, layers.Dense(2)(x))
    zero_units(layer, [0, 1])
    _, report = l2keras.compact(model)
    assert report.widths.get("a", (3, 3)) == (3, 3)
    assert report.skipped["a"] == reason


def test_units_of_a_stateful_layer_are_kept():
    layer = layers.GRU(3, stateful=True, name="a")
    inputs = keras.Input(batch_shape=(2, 5, 3))
    model = keras.Model(inputs, layers.Dense(2)(layer(inputs)))
    zero_units(layer, [0, 1])
    _, report = l2keras.compact(model)
    assert report.widths["a"] == (3, 3)
    assert report.skipped["a"] == "its states stay for the next batch"


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("name", ["LSTM", "GRU", "SimpleRNN"])
def test_an_output_depends_on_each_unit_that_is_left(name, seed):
    layer = LAYERS[name](6, name="a")
    model = model_of(layer)
    rng = np.random.default_rng(seed)
    for variable in model.weights:
        array = rng.normal(size=variable.shape)
        off = rng.random(variable.shape) < (0.5 if variable.ndim > 1 else 0.9)
        variable.assign(np.where(off, 0.0, array))
    kernel, bias = model.layers[-1].get_weights()
    kernel[2:] = 0.0
    model.layers[-1].set_weights([kernel, bias])
    small, report = l2keras.compact(model)
    assert_same_outputs(model, small)
    number = report.widths["a"][1]
    x = examples(small)
    (before,) = computed(small, x)
    for unit in range(number if number > 1 else 0):
        weights = small.get_weights()
        for variable in small.weights:
            if variable.path.endswith(("recurrent_kernel", "last/kernel")):
                array = np.array(ops.convert_to_numpy(variable))
                array[unit] = 0.0
                variable.assign(array)
        (after,) = computed(small, x)
        small.set_weights(weights)
        assert np.abs(after - before).max() > 1e-7
