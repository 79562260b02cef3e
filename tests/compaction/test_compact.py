"""The units that `compact` removes, and the layers that it skips, and why."""

import re

import keras
import numpy as np
import pytest
from keras import layers, ops

import l2keras
from tests.support import BACKEND
from tests.support.built_models import Custom, sequential
from tests.support.random_architectures import computed, examples


def off(layer, units, bias=0.5, axis=-1):
    """Switches off the first units of a layer, whose biases stay."""
    for variable in layer.weights:
        array = np.array(keras.ops.convert_to_numpy(variable))
        if "kernel" in variable.name or "embeddings" in variable.name:
            np.moveaxis(array, axis, 0)[:units] = 0.0
        elif "bias" in variable.name:
            array[...] = bias
        variable.assign(array)
    return layer


def made(*hidden, shape=(4,), units=3):
    """Returns a sequential model with a last layer."""
    return sequential(shape, *hidden, layers.Dense(units, name="last"))


def dense_relu():
    model = made(layers.Dense(6, activation="relu", name="a"))
    off(model.layers[0], 4)
    return model


def unread():
    model = made(layers.Dense(6, name="a"), layers.Dense(5, name="b"))
    off(model.layers[1], 2, axis=0)
    return model


def without_bias():
    model = sequential(
        (4,),
        layers.Dense(6, name="a"),
        layers.Dense(3, use_bias=False, name="last"),
    )
    off(model.layers[0], 4)
    return model


def activation_with_weights():
    activation = layers.PReLU(alpha_initializer="ones")
    model = sequential(
        (4,),
        layers.Dense(6, name="a"),
        layers.Dense(5, activation, use_bias=False, name="b"),
        layers.Dense(3),
    )
    off(model.layers[0], 4)
    return model


def both_ways():
    model = made(
        layers.Dense(6, name="a"),
        layers.Bidirectional(layers.GRU(2, return_sequences=True)),
        layers.Flatten(),
        shape=(3, 4),
    )
    # A channel that is read one way only stays.
    (forward, _, _, backward, _, _) = model.layers[1].get_weights()
    forward[:4], backward[1:5] = 0.0, 0.0
    weights = model.layers[1].get_weights()
    weights[0], weights[3] = forward, backward
    model.layers[1].set_weights(weights)
    return model


def all_off():
    model = made(layers.Dense(6, name="a"), layers.Dense(5, name="b"))
    off(model.layers[0], 6)
    return model


def all_unread():
    model = made(layers.Dense(6, name="a"), layers.Dense(5, name="b"))
    off(model.layers[2], 3)
    return model


def all_off_to_others(*readers, shape):
    """Returns a model whose first layer is off, which one of them reads."""
    model = made(
        layers.Dense(6, name="a"), *readers, layers.Flatten(), shape=shape
    )
    off(model.layers[0], 6)
    return model


def convolution(padding, value):
    model = made(
        layers.Conv2D(6, 3, name="a"),
        layers.Conv2D(5, 3, padding=padding, name="b"),
        layers.GlobalAveragePooling2D(),
        shape=(7, 7, 2),
    )
    off(model.layers[0], 4, bias=value)
    return model


def normalized():
    model = made(
        layers.Dense(6, name="a"),
        layers.BatchNormalization(name="norm"),
        layers.ReLU(),
    )
    gamma, beta, *moving = model.layers[1].get_weights()
    gamma[:4], beta[:] = 0.0, 0.5
    model.layers[1].set_weights([gamma, beta, *moving])
    return model


def residual(partner_is_off):
    inputs = keras.Input((4,))
    a = layers.Dense(6, name="a")
    b = layers.Dense(6, name="b")
    x = a(inputs)
    x = layers.Add()([x, b(x)])
    model = keras.Model(inputs, layers.Dense(3, name="last")(x))
    off(a, 4)
    if partner_is_off:
        off(b, 4)
    return model


def multiplied():
    inputs = keras.Input((4,))
    gate = layers.Dense(6, name="gate")
    x = layers.Dense(6, name="a")(inputs)
    x = layers.Multiply()([x, gate(inputs)])
    model = keras.Model(inputs, layers.Dense(3, name="last")(x))
    off(gate, 4, bias=0.0)
    return model


def flattened():
    model = made(
        layers.Conv2D(6, 3, activation="relu", name="a"),
        layers.MaxPooling2D(2),
        layers.Flatten(),
        shape=(7, 7, 2),
    )
    off(model.layers[0], 4)
    return model


def reshaped():
    model = made(
        layers.Dense(12, name="a"),
        layers.Reshape((2, 6)),
        layers.Conv1D(3, 2, name="b"),
        layers.Flatten(),
    )
    # The last two of each six units.
    kernel, bias = model.layers[0].get_weights()
    kernel.reshape(4, 2, 6)[:, :, 4:] = 0.0
    model.layers[0].set_weights([kernel, bias])
    return model


def depthwise():
    model = made(
        layers.Conv2D(6, 3, name="a"),
        layers.DepthwiseConv2D(2, depth_multiplier=2, name="deep"),
        layers.SeparableConv2D(5, 2, name="b"),
        layers.Flatten(),
        shape=(7, 7, 2),
    )
    off(model.layers[0], 4)
    return model


def transposed():
    model = made(
        layers.Conv2DTranspose(6, 3, name="a"),
        layers.Conv2DTranspose(5, 3, name="b"),
        layers.Flatten(),
        shape=(3, 3, 2),
    )
    off(model.layers[0], 4, axis=-2, bias=0.5)
    return model


def recurrent():
    model = made(
        layers.Embedding(7, 6, name="a"),
        layers.Bidirectional(layers.LSTM(5, return_sequences=True)),
        layers.GRU(4, name="b"),
        shape=(3,),
    )
    off(model.layers[0], 4)
    off(model.layers[2], 1, axis=0)
    return model


def einsum():
    model = made(
        layers.EinsumDense("abc,cd->abd", (3, 6), bias_axes="d", name="a"),
        layers.EinsumDense("...x,xy->...y", 5, name="b"),
        layers.Flatten(),
        shape=(3, 4),
    )
    off(model.layers[0], 4)
    return model


def permuted():
    model = made(
        layers.Dense(6, name="a"),
        layers.Permute((2, 1)),
        layers.Flatten(),
        shape=(3, 4),
    )
    off(model.layers[0], 4)
    return model


def repeated():
    model = made(
        layers.Dense(6, name="a"),
        layers.RepeatVector(3),
        layers.LSTM(4, name="b"),
    )
    off(model.layers[0], 4)
    return model


def nested():
    inside = made(layers.Dense(6, name="a"), layers.Dense(5, name="b"))
    inside.name = "inside"
    off(inside.layers[0], 4)
    inputs = keras.Input((4,))
    outputs = layers.Dense(2, name="head")(inside(inputs, training=False))
    return keras.Model(inputs, outputs)


def shared():
    one, other = keras.Input((4,)), keras.Input((4,))
    both = layers.Dense(6, activation="relu", name="a")
    x = layers.Concatenate()([both(one), both(other)])
    model = keras.Model([one, other], layers.Dense(3, name="last")(x))
    off(both, 4)
    return model


def concatenated():
    inputs = keras.Input((4,))
    a, b = layers.Dense(6, name="a"), layers.Dense(5, name="b")
    x = layers.Concatenate()([a(inputs), inputs, b(inputs)])
    model = keras.Model(inputs, layers.Dense(3, name="last")(x))
    off(a, 4)
    return model


def channels_first():
    model = made(
        layers.Conv2D(6, 3, data_format="channels_first", name="a"),
        layers.BatchNormalization(axis=1),
        layers.Conv2D(5, 3, data_format="channels_first", name="b"),
        layers.Flatten(data_format="channels_first"),
        shape=(2, 7, 7),
    )
    off(model.layers[0], 4)
    return model


def both_ways_of_other_widths():
    """Returns a model whose channels that are off have constants to hand on.

    Nothing comes after: Keras says that it puts out twice the first width.
    """
    a = layers.Dense(6, name="a")
    inputs = keras.Input((3, 4))
    both = layers.Bidirectional(
        layers.LSTM(2, name="b"),
        backward_layer=layers.LSTM(3, go_backwards=True, name="c"),
    )
    model = keras.Model(inputs, both(a(inputs)))
    off(a, 4)
    return model


def one_way_with_a_bias():
    model = made(
        layers.Dense(6, name="a"),
        layers.Bidirectional(
            layers.LSTM(2, use_bias=False),
            backward_layer=layers.LSTM(2, go_backwards=True),
        ),
        shape=(3, 4),
    )
    off(model.layers[0], 4)
    return model


def called(**arguments):
    """Returns a model with one inside, called in two ways."""
    inside = sequential(
        (6,), layers.Dense(5, name="b"), layers.BatchNormalization()
    )
    inputs = keras.Input((4,))
    a, c = layers.Dense(6, name="a"), layers.Dense(6, name="c")
    x = layers.Add()([inside(a(inputs)), inside(c(inputs), **arguments)])
    model = keras.Model(inputs, layers.Dense(3, name="last")(x))
    off(inside.layers[0], 2)
    off(a, 4)
    off(c, 4)
    return model


def computed_by(function, activation=None, shape=(4,), bias=0.5):
    """Returns a model where something is computed of units that are off."""
    inputs = keras.Input(shape)
    a = layers.Dense(6, activation=activation, name="a")
    x = function(a(inputs))
    model = keras.Model(inputs, layers.Dense(3, name="last")(x))
    off(a, 4, bias)
    return model


def distributed():
    """Returns a model of layers in time, one of which gets a bias."""
    a = layers.Dense(6, activation="relu")
    b = layers.Dense(5, use_bias=False, activation=layers.LeakyReLU(0.1))
    model = made(
        layers.TimeDistributed(a, name="a"),
        layers.TimeDistributed(layers.BatchNormalization()),
        layers.TimeDistributed(layers.ReLU(max_value=2.0)),
        layers.TimeDistributed(b, name="b"),
        layers.TimeDistributed(layers.Dropout(0.5)),
        shape=(5, 4),
    )
    off(a, 4)
    off(model.layers[-1], 2, axis=0)
    return model


def distributed_convolutions():
    a = layers.Conv2D(6, 3)
    model = made(
        layers.TimeDistributed(a, name="a"),
        layers.TimeDistributed(layers.DepthwiseConv2D(2)),
        layers.TimeDistributed(layers.MaxPooling2D(2)),
        layers.TimeDistributed(layers.Conv2D(5, 2), name="b"),
        layers.TimeDistributed(layers.GlobalAveragePooling2D()),
        shape=(3, 9, 9, 2),
    )
    off(a, 4)
    return model


def residual_by_operator(function):
    inputs = keras.Input((4,))
    a, b = layers.Dense(6, name="a"), layers.Dense(6, name="b")
    x = a(inputs)
    x = function(x, b(x))
    model = keras.Model(inputs, layers.Dense(3, name="last")(x))
    off(a, 4)
    off(b, 4)
    return model


def reshaped_to_one():
    """Returns a model of which 3 of 6 units go, and 2 more of (3, 1)."""
    model = made(
        layers.Dense(6, name="a"), layers.Reshape((3, 2)), layers.Flatten()
    )
    kernel, bias = model.layers[-1].get_weights()
    kernel[[1, 2, 3, 4, 5]] = 0.0
    model.layers[-1].set_weights([kernel, bias])
    return model


# A row: how to make a model, the widths that are left of it, and how many
# channels are left alone where some are.
WIDTHS = {
    "units with biases": (dense_relu, {"a": 2}),
    "units that nothing reads": (unread, {"a": 4, "b": 5}),
    "a reader without a bias": (without_bias, {"a": 2}),
    "a reader without a bias, whose activation has weights": (
        activation_with_weights,
        {"a": 2, "b": 5},
    ),
    "read both ways": (both_ways, {"a": 3}),
    "read by other widths": (both_ways_of_other_widths, {"a": 2}),
    "read by one way with a bias": (one_way_with_a_bias, {"a": 6}),
    "called in training, too": (
        lambda: called(training=True),
        {"a": 6, "c": 6},
    ),
    "all units": (all_off, {"a": 1, "b": 1}),
    "all units, of which none is read": (all_unread, {"a": 1, "b": 1}),
    "all units, for a recurrent layer": (
        lambda: all_off_to_others(layers.LSTM(2), shape=(3, 4)),
        {"a": 1},
    ),
    "all units, for filters by channel": (
        lambda: all_off_to_others(layers.SeparableConv1D(2, 2), shape=(3, 4)),
        {"a": 1},
    ),
    "all units, for filters that pad": (
        lambda: all_off_to_others(
            layers.Conv1D(2, 3, padding="same", name="b"), shape=(5, 4)
        ),
        {"a": 1, "b": 2},
    ),
    "filters, no padding": (lambda: convolution("valid", 0.5), {"a": 2}),
    "filters, zeros": (lambda: convolution("same", 0.0), {"a": 2}),
    # One of the four does for all of them.
    "filters, padding": (lambda: convolution("same", 0.5), {"a": 3}),
    "gammas": (normalized, {"a": 2}),
    "both of what is added": (lambda: residual(True), {"a": 2, "b": 2}),
    "one of what is added": (lambda: residual(False), {"a": 6, "b": 6}),
    "one of what is multiplied": (multiplied, {"a": 2, "gate": 2}),
    "filters, flattened": (flattened, {"a": 2}),
    "units, reshaped": (reshaped, {"a": 8, "b": 3}),
    "depthwise": (depthwise, {"a": 2, "b": 5}),
    "transposed": (transposed, {"a": 3, "b": 5}),
    "recurrent": (recurrent, {"a": 2}),
    "EinsumDense": (einsum, {"a": 2, "b": 5}),
    "permuted": (permuted, {"a": 2}),
    "repeated": (repeated, {"a": 2}),
    "a model inside": (nested, {"inside/a": 2, "inside/b": 5}),
    "shared": (shared, {"a": 2}),
    "concatenated": (concatenated, {"a": 2, "b": 5}),
    "x + 3.0": (lambda: computed_by(lambda x: x + 3.0), {"a": 2}),
    "x * (1 / 6)": (lambda: computed_by(lambda x: x * (1 / 6)), {"a": 2}),
    "1 - x": (lambda: computed_by(lambda x: 1 - x), {"a": 2}),
    "hard swish by operators": (
        lambda: computed_by(lambda x: x * ops.relu6(x + 3.0) * (1.0 / 6.0)),
        {"a": 2},
    ),
    "relu, an operation": (lambda: computed_by(ops.relu), {"a": 2}),
    "a layer as activation": (
        lambda: computed_by(layers.Dropout(0.5), layers.LeakyReLU(0.1)),
        {"a": 2},
    ),
    "noise of a shape that has no channels": (
        lambda: computed_by(layers.Dropout(0.5, noise_shape=(None, 1))),
        {"a": 2},
    ),
    "x + y": (lambda: residual_by_operator(lambda x, y: x + y), {"a": 2}),
    "x * y": (lambda: residual_by_operator(lambda x, y: x * y), {"b": 2}),
    "concatenated by an operation": (
        lambda: computed_by(lambda x: ops.concatenate([x, x], axis=-1)),
        {"a": 2},
    ),
    "the last place": (
        lambda: computed_by(lambda x: x[:, -1], shape=(5, 4)),
        {"a": 2},
    ),
    "some places, with a new axis": (
        lambda: computed_by(lambda x: x[:, None, ..., 1:3, :], shape=(5, 4)),
        {"a": 2},
    ),
    "the mean of places": (
        lambda: computed_by(lambda x: ops.mean(x, axis=-2), shape=(5, 4)),
        {"a": 2},
    ),
    "the maximum of places, with an axis": (
        lambda: computed_by(
            lambda x: ops.max(x, axis=(1, 2), keepdims=True), shape=(3, 2, 4)
        ),
        {"a": 2},
    ),
    "the sum of places of constants": (
        lambda: computed_by(lambda x: ops.sum(x, axis=1), shape=(5, 4)),
        {"a": 6},
    ),
    "the sum of places of zeros": (
        lambda: computed_by(
            lambda x: ops.sum(x, axis=1), shape=(5, 4), bias=0.0
        ),
        {"a": 2},
    ),
    "zeros whose activity pays": (
        lambda: computed_by(layers.ActivityRegularization(l1=0.5), bias=0.0),
        {"a": 2},
    ),
    "constants whose activity pays": (
        lambda: computed_by(layers.ActivityRegularization(l1=0.5)),
        {"a": 6},
    ),
    "resized": (
        lambda: computed_by(layers.Resizing(3, 3), shape=(6, 6, 4)),
        {"a": 2},
    ),
    "resized with what is around": (
        lambda: computed_by(
            layers.Resizing(3, 3, pad_to_aspect_ratio=True), shape=(6, 8, 4)
        ),
        {"a": 6},
    ),
    "read by a cell": (
        lambda: computed_by(layers.RNN(layers.GRUCell(3)), shape=(5, 4)),
        {"a": 2},
    ),
    "distributed in time": (distributed, {"a": 2, "b": 3}),
    "convolutions distributed in time": (
        distributed_convolutions,
        {"a": 2, "b": 5},
    ),
    "reshaped to one": (reshaped_to_one, {"a": 1}),
    "channels first": (channels_first, {"a": 2, "b": 5}),
}
if BACKEND == "tensorflow":  # Which computes them on GPUs only.
    del WIDTHS["channels first"]


@pytest.mark.parametrize(
    ("make", "widths"),
    [pytest.param(*row, id=name) for name, row in WIDTHS.items()],
)
def test_zero_units_are_removed(make, widths):
    model = make()
    small, report = l2keras.compact(model)
    left = {path: after for path, (_, after) in report.widths.items()}
    assert {path: left[path] for path in widths} == widths
    x = examples(model)
    for one, other in zip(computed(model, x), computed(small, x), strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-5, atol=1e-6)


def stays(*between, shape=(4,)):
    """Returns a model whose first layer has four units that are off."""
    hidden = [layers.Dense(6, name="a"), *between, layers.Flatten()]
    model = made(*hidden, shape=shape)
    off(model.layers[0], 4)
    return model


def with_operation():
    inputs = keras.Input((4,))
    a = layers.Dense(6, name="a")
    outputs = layers.Dense(3)(ops.cumsum(a(inputs), axis=-1))
    off(a, 4)
    return keras.Model(inputs, outputs)


def with_training():
    inputs = keras.Input((4,))
    a = off(layers.Dense(6, name="a"), 4)
    norm = layers.BatchNormalization(name="norm")
    x = norm(a(inputs), training=True)
    off(a, 4)
    return keras.Model(inputs, layers.Dense(3)(x))


def quantized():
    model = made(layers.Dense(6, name="a"), layers.Dense(5, name="b"))
    off(model.layers[0], 4)
    model.layers[1].quantize("int8")
    return model


def off_at_the_end():
    model = made(layers.Dense(4))
    off(model.layers[-1], 2)
    return model


# A row: how to make a model, and the reason that is given for a layer.
LEFT_ALONE = {
    "LayerNormalization": (
        lambda: stays(layers.LayerNormalization(name="b")),
        {"b": "LayerNormalization mixes channels, or is not known"},
    ),
    "a custom layer": (
        lambda: stays(Custom(6, name="b")),
        {"b": "Custom mixes channels, or is not known"},
    ),
    "softmax": (
        lambda: stays(layers.Activation("softmax", name="b")),
        {"b": "it may mix channels"},
    ),
    "softmax of a Dense": (
        lambda: made(layers.Dense(6, activation="softmax", name="b")),
        {"b": "its activation may mix channels"},
    ),
    "an activation of one's own": (
        lambda: made(layers.Dense(6, activation=ops.cumsum, name="b")),
        {"b": "its activation may mix channels"},
    ),
    "a penalty on what is computed": (
        lambda: made(
            layers.Dense(
                6, activity_regularizer="orthogonal_regularizer", name="b"
            )
        ),
        {"b": "its activity pays a penalty"},
    ),
    "an operation": (
        with_operation,
        {"cumsum": "Cumsum is an operation that is not known"},
    ),
    "some channels": (
        lambda: computed_by(lambda x: x[..., 1:]),
        {"get_item": "it takes some of the channels"},
    ),
    "a mean of channels": (
        lambda: computed_by(lambda x: ops.mean(x, axis=-1, keepdims=True)),
        {"mean": "it mixes channels"},
    ),
    "training": (
        with_training,
        {"norm": "it is called with more than its inputs"},
    ),
    "noise of a shape": (
        lambda: stays(layers.Dropout(0.5, noise_shape=(None, 6), name="b")),
        {"b": "its noise has a shape of its own"},
    ),
    "quantized": (quantized, {"b": "it is quantized"}),
    "one of what is added": (
        lambda: residual(False),
        {"a": "4 of 6 are off, but last reads them"},
    ),
    "filters, padding": (
        lambda: convolution("same", 0.5),
        {"a": "1 of 6 are off, but b pads them, and they are not zero"},
    ),
    "all units": (all_off, {"a": "1 of 6 are off, but a layer must have one"}),
    "outputs": (
        off_at_the_end,
        {"last": "2 of 3 are off, but they are outputs of the model"},
    ),
}


@pytest.mark.parametrize("is_called", [True, False])
def test_a_layer_shared_with_a_wrapper_is_an_error(is_called):
    inner = layers.Dense(6, name="inner")
    inputs = keras.Input((3, 4))
    other = inner if is_called else layers.TimeDistributed(inner, name="one")
    x = layers.Concatenate()(
        [other(inputs), layers.TimeDistributed(inner, name="two")(inputs)]
    )
    model = keras.Model(inputs, layers.Dense(2)(x))
    off(inner, 4)
    with pytest.raises(ValueError, match="'inner' must not be in layer 'two'"):
        l2keras.compact(model)


def without_number(path):
    return re.sub(r"_\d+$", "", path)


@pytest.mark.parametrize(
    ("make", "reasons"),
    [pytest.param(*row, id=name) for name, row in LEFT_ALONE.items()],
)
def test_skipped_layers_are_reported_with_a_reason(make, reasons):
    _, report = l2keras.compact(make())
    found = {
        without_number(path): reason
        for path, reason in report.skipped.items()
        if without_number(path) in reasons
    }
    assert found == reasons


def zero_of_constants():
    """Returns a model of whose units only constants are made, which are zero.

    Those that stay are of other constants then, and must not be read.
    """
    model = made(
        layers.Dense(6, name="a"), layers.Dense(5, activation="relu", name="b")
    )
    a, b, _ = model.layers
    a.set_weights([np.zeros((4, 6)), np.ones(6)])
    b.set_weights([np.full((6, 5), -0.5), np.ones(5)])  # relu(1 - 3)
    return model


def test_a_unit_kept_as_a_placeholder_is_not_read():
    model = zero_of_constants()
    small, report = l2keras.compact(model)
    assert report.widths["b"] == (5, 1)
    x = examples(model)
    np.testing.assert_allclose(
        computed(small, x), computed(model, x), rtol=1e-6
    )


def test_activity_losses_are_unchanged():
    inputs = keras.Input((4,))
    a = layers.Dense(6, activation="relu", activity_regularizer="l1", name="a")
    b = layers.Dense(5, activity_regularizer=l2keras.L2(0.5), name="b")
    model = keras.Model(inputs, layers.Dense(3)(b(a(inputs))))
    off(a, 4, bias=0.0)
    off(b, 2, bias=0.0)
    off(model.layers[-1], 3, axis=0)  # The third of b is read by nothing.
    small, report = l2keras.compact(model)
    assert report.widths["a"] == (6, 2)
    assert report.widths["b"] == (5, 3)
    x = keras.ops.convert_to_tensor(examples(model))
    paid = []
    for each in (model, small):
        each(x)
        paid.append([float(loss) for loss in each.losses])
    assert paid[0][0] > 0
    np.testing.assert_allclose(paid[1], paid[0], rtol=1e-5)


def test_an_unknown_layer_inside_time_distributed_is_skipped():
    model = stays(
        layers.TimeDistributed(layers.LayerNormalization(), name="b"),
        shape=(3, 4),
    )
    _, report = l2keras.compact(model)
    assert report.widths["a"] == (6, 6)
    assert report.skipped["b"] == (
        "the layer in it is not known to work along time"
    )


def input_name(model):
    return model.inputs[0]._keras_history.operation.name


def reads_few():
    model = made(layers.Dense(6, name="a"), shape=(5,))
    kernel, bias = model.layers[0].get_weights()
    kernel[[1, 3]] = 0.0
    model.layers[0].set_weights([kernel, bias])
    return model


def test_unread_inputs_are_reported():
    model = reads_few()
    name = input_name(model)
    small, report = l2keras.compact(model)
    assert report.unread_inputs == {name: [1, 3]}
    assert report.inputs == {name: [0, 1, 2, 3, 4]}
    assert small.input_shape == (None, 5)


def test_unread_inputs_can_be_dropped():
    model = reads_few()
    name = input_name(model)
    small, report = l2keras.compact(model, drop_inputs=True)
    assert report.inputs == {name: [0, 2, 4]}
    x = examples(model)
    np.testing.assert_allclose(
        computed(small, x[..., report.inputs[name]]),
        computed(model, x),
        rtol=1e-5,
        atol=1e-6,
    )


NORMALIZED = {
    "adapted": lambda: adapted(layers.Normalization()),
    "adapted, back": lambda: adapted(layers.Normalization(invert=True)),
    "adapted, as one": lambda: adapted(layers.Normalization(axis=None)),
    "given": lambda: layers.Normalization(
        mean=np.arange(5.0), variance=np.arange(1.0, 6.0)
    ),
    "given, one for all": lambda: layers.Normalization(mean=1.0, variance=2.0),
    "rescaled": lambda: layers.Rescaling(1 / 255, offset=0.5),
    "rescaled, each": lambda: layers.Rescaling(
        [1.0, 2.0, 3.0, 4.0, 5.0], offset=0.5
    ),
    "x / 255.0": lambda: lambda x: x / 255.0,
    "x * 2.0 - 1.0": lambda: lambda x: x * 2.0 - 1.0,
    "batch": layers.BatchNormalization,
}


def adapted(layer):
    layer.adapt(np.random.default_rng(0).normal(3.0, 2.0, (50, 5)))
    return layer


@pytest.mark.parametrize("name", NORMALIZED)
def test_unread_inputs_are_found_behind_normalization(name):
    inputs = keras.Input((5,), name="features")
    a = layers.Dense(6, name="a")
    x = NORMALIZED[name]()(inputs)
    model = keras.Model(inputs, layers.Dense(3)(a(x)))
    kernel, bias = a.get_weights()
    kernel[[1, 3]] = 0.0
    a.set_weights([kernel, bias])
    _, report = l2keras.compact(model)
    assert report.unread_inputs == {"features": [1, 3]}
    assert report.skipped == {}
    small, report = l2keras.compact(model, drop_inputs=True)
    assert report.inputs == {"features": [0, 2, 4]}
    x = examples(model)
    np.testing.assert_allclose(
        computed(small, x[..., report.inputs["features"]]),
        computed(model, x),
        rtol=1e-5,
        atol=1e-6,
    )


def test_unread_inputs_are_found_after_other_layers_are_compacted():
    model = reshaped_to_one()
    a = model.layers[0]
    kernel, bias = a.get_weights()
    kernel[[0, 2], 0] = 0.0
    a.set_weights([kernel, bias])
    name = input_name(model)
    small, report = l2keras.compact(model, drop_inputs=True)
    assert report.unread_inputs == {name: [0, 2]}
    assert report.inputs == {name: [1, 3]}
    x = examples(model)
    np.testing.assert_allclose(
        computed(small, x[:, [1, 3]]), computed(model, x), rtol=1e-5, atol=1e-6
    )


@pytest.mark.skipif(
    BACKEND == "tensorflow", reason="It computes channels first on GPUs only."
)
def test_channels_first_inputs_can_be_dropped():
    model = channels_first()
    kernel, bias = model.layers[0].get_weights()
    kernel[:, :, 1] = 0.0
    model.layers[0].set_weights([kernel, bias])
    small, report = l2keras.compact(model, drop_inputs=True)
    assert report.skipped == {}
    assert report.unread_inputs == {input_name(model): [1]}
    x = examples(model)
    np.testing.assert_allclose(
        computed(small, x[:, :1]), computed(model, x), rtol=1e-5, atol=1e-6
    )


@pytest.mark.skipif(
    BACKEND == "tensorflow", reason="It computes channels first on GPUs only."
)
def test_channels_first_before_an_unknown_layer():
    inputs = keras.Input((2, 7, 7))
    a = layers.Conv2D(6, 3, data_format="channels_first", name="a")
    x = a(inputs)
    y = layers.GroupNormalization(3, axis=1)(
        layers.Conv2D(6, 3, data_format="channels_first", name="b")(inputs)
    )
    x = layers.Concatenate(axis=1)([x, y])
    x = layers.Conv2D(3, 1, data_format="channels_first", name="c")(x)
    model = keras.Model(inputs, layers.Flatten()(x))
    off(a, 4)
    small, report = l2keras.compact(model)
    assert report.widths["a"] == (6, 2)
    x = examples(model)
    np.testing.assert_allclose(
        computed(small, x), computed(model, x), rtol=1e-5, atol=1e-6
    )


def nearly_off():
    model = made(layers.Dense(6, activation="relu", name="a"))
    kernel, bias = model.layers[0].get_weights()
    kernel[:, :4] = 1e-3
    kernel[0, 5] = 1e-3
    model.layers[0].set_weights([kernel, bias])
    return model


def test_a_threshold_reports_the_change_of_the_outputs():
    model = nearly_off()
    assert l2keras.compact(model)[1].widths["a"] == (6, 6)
    assert l2keras.compact(model)[1].change is None
    small, report = l2keras.compact(model, threshold=2e-3)
    assert report.widths["a"] == (6, 2)
    assert 1e-6 < report.change < 0.05
    # The rest is unchanged.
    np.testing.assert_array_equal(
        small.layers[0].get_weights()[0],
        model.layers[0].get_weights()[0][:, 4:],
    )
    assert "Outputs changed by" in str(report)


def test_a_threshold_applies_to_all_kernels_of_a_layer():
    model = both_ways()
    weights = model.layers[1].get_weights()
    weights[0][1:4] = weights[3][1:4] = 1e-4
    model.layers[1].set_weights(weights)
    _, report = l2keras.compact(model, threshold=1e-3)
    assert report.widths["a"] == (6, 3)


def test_a_threshold_reports_an_unknown_change_of_the_outputs():
    model = sequential(
        (None, 4), layers.Dense(6), layers.GRU(3), layers.Dense(2)
    )
    _, report = l2keras.compact(model, threshold=1e-9)
    assert report.change is None
    assert "The change of the outputs is not known" in str(report)


def test_the_report_prints_as_a_table():
    model = reads_few()
    off(model.layers[0], 2)
    name = input_name(model)
    _, report = l2keras.compact(model)
    assert str(report).splitlines() == [
        "",
        " Layer   Width   Compacted",
        " ─────────────────────────",
        " a           6           4",
        " last        3           3",
        "",
        "Parameters: 57 -> 39 (1.46x)",
        "FLOPs: 96 -> 64 (1.5x)",
        f"- Unread inputs of '{name}': 1, 3",
    ]
