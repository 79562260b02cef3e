"""Random models of many kinds, some of whose channels are off.

Each function takes `draw`, which draws a number or a choice as hypothesis
does, and returns a model.
"""

import keras
import numpy as np
from hypothesis import strategies as st
from keras import layers, ops

from tests.support import BACKEND

ACTIVATIONS = ["relu", "tanh", "sigmoid", "gelu", "elu", "softplus", "linear"]


# Hypothesis tries the first choices first.
def width(draw):
    return draw(st.sampled_from([5, 4, 3, 6, 2]))


def activation(draw):
    return draw(st.sampled_from(ACTIVATIONS))


def yes(draw):
    return draw(st.sampled_from([True, False]))


def padding(draw):
    return draw(st.sampled_from(["same", "valid"]))


def dense(draw, **arguments):
    return layers.Dense(
        width(draw),
        activation=activation(draw),
        use_bias=yes(draw),
        **arguments,
    )


def conv(draw, rank=2, filters=None, **arguments):
    options = {
        "padding": padding(draw),
        "activation": activation(draw),
        "use_bias": yes(draw),
        **arguments,
    }
    cls = getattr(layers, f"Conv{rank}D")
    kernel_size = draw(st.sampled_from([1, 2, 3]))
    return cls(filters or width(draw), kernel_size, **options)


def perceptron(draw):
    hidden = []
    for _ in range(draw(st.integers(1, 3))):
        hidden.append(dense(draw))
        if yes(draw):
            hidden.append(layers.BatchNormalization(scale=yes(draw)))
        hidden.append(
            draw(
                st.sampled_from(
                    [
                        layers.ReLU(max_value=1.0, negative_slope=0.1),
                        layers.LeakyReLU(),
                        layers.ELU(0.5),
                        layers.PReLU(),
                        layers.Dropout(0.5),
                        layers.Activation("tanh"),
                        layers.Rescaling(2.0, 0.5),
                    ]
                )
            )
        )
    return keras.Sequential(
        [keras.Input((width(draw),)), *hidden, layers.Dense(2)]
    )


def convolutional(draw):
    hidden = [conv(draw), layers.BatchNormalization(), layers.ReLU()]
    hidden.append(
        draw(
            st.sampled_from(
                [
                    layers.MaxPooling2D(2, padding="same"),
                    layers.AveragePooling2D(2, padding="same"),
                    layers.ZeroPadding2D(1),
                    layers.UpSampling2D(2, interpolation="bilinear"),
                    layers.Cropping2D(1),
                    layers.SpatialDropout2D(0.5),
                ]
            )
        )
    )
    hidden.append(conv(draw))
    hidden.append(
        draw(
            st.sampled_from(
                [
                    layers.Flatten(),
                    layers.GlobalAveragePooling2D(),
                    layers.GlobalMaxPooling2D(),
                ]
            )
        )
    )
    return keras.Sequential(
        [keras.Input((9, 9, 2)), *hidden, layers.Dense(3, "softmax")]
    )


def depthwise(draw):
    x = inputs = keras.Input((6, 6, 2))
    x = conv(draw, padding="same")(x)
    x = layers.DepthwiseConv2D(
        2,
        padding=padding(draw),
        depth_multiplier=draw(st.integers(1, 2)),
        activation=activation(draw),
        use_bias=yes(draw),
    )(x)
    x = layers.BatchNormalization()(x)
    x = layers.SeparableConv2D(
        width(draw),
        2,
        padding=padding(draw),
        depth_multiplier=draw(st.integers(1, 2)),
        activation=activation(draw),
        use_bias=yes(draw),
    )(x)
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(2)(x))


def residual(draw):
    x = inputs = keras.Input((5, 5, 2))
    filters = width(draw)
    x = conv(draw, filters=filters, padding="same")(x)
    for _ in range(draw(st.integers(1, 2))):
        y = conv(draw, padding="same")(x)
        y = layers.BatchNormalization()(y)
        y = conv(draw, filters=filters, padding="same")(y)
        merge = draw(
            st.sampled_from(
                [layers.Add, layers.Average, layers.Maximum, layers.Subtract]
            )
        )
        x = layers.ReLU()(merge()([x, y]))
    y = conv(draw, padding="same")(x)
    x = layers.Concatenate()([x, y])
    one = layers.Dense(2, name="one")(layers.Flatten()(x))
    other = layers.Dense(2, name="other")(layers.GlobalMaxPooling2D()(y))
    return keras.Model(inputs, {"one": one, "other": other})


def squeezing(draw):
    x = inputs = keras.Input((4, 4, 3))
    filters = width(draw)
    x = conv(draw, filters=filters, padding="same")(x)
    y = layers.GlobalAveragePooling2D(keepdims=True)(x)
    if yes(draw):
        y = layers.Flatten()(y)
        y = dense(draw)(y)
        y = layers.Dense(filters, "sigmoid")(y)
        y = layers.Reshape((1, 1, filters))(y)
    else:
        y = conv(draw, filters=filters, padding="same")(y)
    x = layers.Multiply()([x, y])
    x = conv(draw)(x)
    return keras.Model(inputs, layers.Dense(2)(layers.Flatten()(x)))


def decoding(draw):
    channels = width(draw)
    x = inputs = keras.Input((width(draw),))
    x = layers.Dense(
        9 * channels, activation=activation(draw), use_bias=yes(draw)
    )(x)
    x = layers.Reshape((3, -1, channels))(x)
    x = layers.Conv2DTranspose(
        width(draw),
        draw(st.sampled_from([1, 2, 3])),
        strides=draw(st.sampled_from([1, 2])),
        padding=padding(draw),
        activation=activation(draw),
        use_bias=yes(draw),
    )(x)
    x = layers.UpSampling2D(2)(x)
    x = conv(draw, padding="same")(x)
    return keras.Model(inputs, layers.Conv2D(1, 3, padding="same")(x))


def recurrent(draw):
    x = inputs = keras.Input((6,), dtype="int32")
    masked = yes(draw)
    x = layers.Embedding(7, width(draw), mask_zero=masked)(x)
    if not masked:
        x = conv(draw, rank=1, padding="causal")(x)
    x = dense(draw)(x)
    x = recurrent_layer(draw, 3)(x)
    x = dense(draw)(x)
    x = layers.GlobalAveragePooling1D()(x)
    return keras.Model(inputs, layers.Dense(2)(x))


def recurrent_layer(draw, units, **arguments):
    cls = draw(st.sampled_from([layers.LSTM, layers.GRU, layers.SimpleRNN]))
    if cls is layers.GRU:
        arguments["reset_after"] = yes(draw)
    arguments = {
        "return_sequences": True,
        "use_bias": yes(draw),
        "activation": draw(st.sampled_from(["tanh", "sigmoid"])),
        **arguments,
    }
    layer = cls(units, **arguments)
    if yes(draw):
        mode = draw(st.sampled_from(["concat", "sum", "mul"]))
        layer = layers.Bidirectional(layer, merge_mode=mode)
    return layer


def states(draw):
    x = inputs = keras.Input((4, 3))
    if yes(draw):
        x = dense(draw)(x)
    layer = recurrent_layer(draw, 4, return_state=True)
    last = recurrent_layer(draw, 3, return_sequences=False)
    x, *others = layer(x)
    x = layers.Concatenate()([last(x), dense(draw)(others[-1])])
    return keras.Model(inputs, layers.Dense(2)(x))


def recurrent_convolutional(draw):
    x = inputs = keras.Input((2, 5, 5, 2))
    x = layers.TimeDistributed(conv(draw))(x)
    x = layers.ConvLSTM2D(
        width(draw),
        draw(st.sampled_from([1, 2])),
        padding=padding(draw),
        use_bias=yes(draw),
    )(x)
    x = layers.Flatten()(x) if yes(draw) else conv(draw)(x)
    return keras.Model(inputs, layers.Dense(2)(layers.Flatten()(x)))


def grouped(draw):
    x = inputs = keras.Input((5, 5, 2))
    groups = draw(st.sampled_from([4, 2, 8]))
    x = conv(draw, filters=8, padding="same")(x)
    y = conv(draw, filters=8, groups=groups, padding="same")(x)
    kind = draw(st.integers(0, 2))
    if kind == 0:
        x = layers.Concatenate()([x, layers.ReLU()(y)])
    else:
        x = layers.Add()([x, y]) if kind == 1 else y
    norm = layers.GroupNormalization(
        groups, scale=yes(draw), center=yes(draw), epsilon=0.1
    )
    x = norm(x)
    if yes(draw):
        x = layers.ReLU()(x)
        x = layers.UnitNormalization(axis=draw(st.sampled_from([-1, 1])))(x)
    x = conv(draw, filters=8, groups=2)(x) if yes(draw) else x
    x = layers.GlobalMaxPooling2D()(x) if yes(draw) else layers.Flatten()(x)
    return keras.Model(inputs, layers.Dense(2)(x))


def shared(draw):
    size = width(draw)
    one, other = keras.Input((size,)), keras.Input((size,))
    first, second = dense(draw), dense(draw)
    slopes, relu = layers.PReLU(), layers.ReLU()
    # The same for both, one of which may know a constant that the other does
    # not.
    x = relu(second(slopes(first(one))))
    y = relu(second(slopes(first(other))))
    z = layers.Concatenate()([x, y, dense(draw)(x)])
    return keras.Model([one, other], layers.Dense(2)(z))


def nested(draw):
    size = width(draw)
    tower = keras.Sequential(
        [keras.Input((size,)), dense(draw), layers.BatchNormalization()],
        name="tower",
    )
    inside = keras.Input((size,))
    head = keras.Model(inside, dense(draw)(dense(draw)(inside)), name="head")
    inputs = keras.Input((3,))
    x = layers.Dense(size, activation=activation(draw))(inputs)
    x = tower(x, training=False)
    x = layers.Dense(size)(x)
    outputs = layers.Dense(2)(head(x))
    if yes(draw):
        again = layers.Dense(size, activation=activation(draw))(head(x))
        outputs = [outputs, head(again)]
    return keras.Model(inputs, outputs)


def rearranged(draw):
    x = inputs = keras.Input((4, 3))
    x = layers.EinsumDense(
        "abc,cd->abd",
        (4, width(draw)),
        bias_axes="d" if yes(draw) else None,
        activation=activation(draw),
    )(x)
    x = layers.Permute((2, 1))(x)
    if yes(draw):
        x = layers.Permute((2, 1))(x)
        x = layers.EinsumDense("...x,xy->...y", width(draw))(x)
    x = layers.Flatten()(x)
    x = dense(draw)(x)
    x = layers.RepeatVector(3)(x)
    x = layers.Conv1D(width(draw), 2, activation=activation(draw))(x)
    x = layers.Reshape((-1,))(x)
    return keras.Model(inputs, layers.Dense(2)(x))


def several_inputs(draw):
    one, other = (
        keras.Input((4,), name="first"),
        keras.Input((5,), name="second"),
    )
    x, y = dense(draw)(one), dense(draw)(other)
    x = layers.Concatenate()([x, y, one])
    size = width(draw)
    x, y = (
        layers.Dense(size, activation=activation(draw))(x) for _ in range(2)
    )
    merge = draw(st.sampled_from([layers.Multiply, layers.Minimum, layers.Add]))
    x = merge()([x, y])
    x = dense(draw)(x)
    model = keras.Model(
        {"first": one, "second": other}, [layers.Dense(2)(x), y]
    )
    return model


def unknown(draw):
    x = inputs = keras.Input((5, 4))
    x = conv(draw, rank=1, filters=4, padding="same")(x)
    kind = draw(st.integers(0, 6))
    if kind == 6:
        x = layers.MultiHeadAttention(2, 2)(x, x)
    else:
        x = [
            lambda: layers.LayerNormalization(),
            lambda: layers.Softmax(),
            lambda: layers.Conv1D(4, 2, groups=2),
            lambda: layers.TimeDistributed(layers.Dense(4)),
            lambda: layers.Dense(4, activation="softmax"),
            lambda: layers.Dense(4, activity_regularizer="l2"),
        ][kind]()(x)
    x = dense(draw)(x)
    x = ops.add(x, 1.0)
    x = dense(draw)(ops.relu(x))
    x = layers.GlobalMaxPooling1D()(x)
    return keras.Model(inputs, layers.Dense(2)(x))


def one_dimensional(draw):
    x = inputs = keras.Input((12, 2))
    x = conv(draw, rank=1, dilation_rate=2)(x)
    x = layers.ZeroPadding1D(1)(x)
    x = conv(draw, rank=1, strides=2)(x)
    x = layers.DepthwiseConv1D(2, padding=padding(draw))(x)
    x = layers.Cropping1D(1)(x)
    x = layers.UpSampling1D(2)(x)
    x = layers.Conv1DTranspose(width(draw), 2)(x)
    x = layers.SeparableConv1D(width(draw), 1, activation=activation(draw))(x)
    x = layers.AveragePooling1D(2)(x)
    return keras.Model(inputs, layers.Dense(2)(layers.Flatten()(x)))


def operating(draw):
    size = width(draw)
    inputs = keras.Input((4,))
    x = draw(
        st.sampled_from(
            [
                lambda x: x / 255.0,
                layers.Rescaling(0.1, offset=0.5),
                layers.Normalization(mean=np.arange(4), variance=np.ones(4)),
                layers.Normalization(axis=None, mean=1.0, variance=2.0),
            ]
        )
    )(inputs)
    x = layers.Dense(size, activation=activation(draw))(x)
    for _ in range(draw(st.integers(1, 3))):
        kind = draw(st.integers(0, 7))
        other = dense(draw)
        again = layers.Dense(size, activation=layers.LeakyReLU(0.1))
        x = [
            lambda x: x + 3.0,
            lambda x: x * (1 / 6),
            lambda x: 1.0 - x,
            lambda x: x * ops.relu6(x + 3.0) * (1.0 / 6.0),
            lambda x, dense=again: x + dense(x),
            lambda x, dense=again: x * dense(x),
            lambda x, dense=again: ops.maximum(dense(x), x),
            lambda x, dense=other, same=again: same(ops.tanh(dense(x))),
        ][kind](x)
    return keras.Model(inputs, layers.Dense(2)(x))


def attending(draw):
    x = inputs = keras.Input((4, 6))
    x = layers.Dense(6)(x)
    heads = draw(st.sampled_from([4, 2, 3, 1]))
    if yes(draw):
        attention = layers.MultiHeadAttention(
            heads, width(draw), use_bias=yes(draw)
        )
    else:
        attention = layers.GroupQueryAttention(
            width(draw), 2 * heads, heads, use_bias=yes(draw)
        )
    y = attention(x, x, use_causal_mask=yes(draw))
    if yes(draw):
        y = attention(y, x)
    x = layers.LayerNormalization()(layers.Add()([x, y]))
    x = layers.Add()([x, layers.Dense(6)(dense(draw)(x))])
    return keras.Model(inputs, layers.Dense(2)(x))


def root_mean_square(draw):
    x = inputs = keras.Input((4, 3))
    x = layers.Dense(6, use_bias=False)(x)
    if yes(draw):
        x = layers.Add()([x, layers.Dense(6, "relu", use_bias=False)(x)])
    for _ in range(draw(st.integers(1, 2))):
        x = layers.RMSNormalization(epsilon=draw(st.sampled_from([1.0, 1e-6])))(
            x
        )
    x = layers.ReLU()(x) if yes(draw) else x
    return keras.Model(inputs, layers.Dense(2)(x))


def in_time(draw):
    distributed = layers.TimeDistributed
    x = inputs = keras.Input((3, 6, 6, 2))
    x = distributed(conv(draw))(x)
    x = distributed(layers.BatchNormalization())(x)
    x = distributed(layers.DepthwiseConv2D(2, padding=padding(draw)))(x)
    x = distributed(layers.GlobalMaxPooling2D())(x)
    x = distributed(dense(draw))(x)
    x = distributed(layers.LeakyReLU())(x)
    x = distributed(dense(draw, activity_regularizer="l2"))(x)
    cell = draw(st.sampled_from([layers.GRUCell, layers.LSTMCell]))
    x = layers.RNN(cell(2), return_sequences=True)(x)
    return keras.Model(inputs, distributed(layers.Dense(2))(x))


def reshaped(draw):
    channels = width(draw)
    x = inputs = keras.Input((4,))
    x = layers.Dense(3 * channels, activation=activation(draw))(x)
    shape = draw(st.sampled_from([(3, channels), (channels, 3)]))
    x = layers.Reshape(shape)(x)
    if yes(draw):
        x = layers.Permute((2, 1))(x)
    x = layers.Flatten()(x) if yes(draw) else dense(draw)(x)
    return keras.Model(inputs, layers.Dense(2)(layers.Flatten()(x)))


def channels_first(draw):
    first = {"data_format": "channels_first"}
    x = inputs = keras.Input((3, 7, 7))
    if yes(draw):
        x = layers.Rescaling(0.1)(x)
    x = conv(draw, **first)(x)
    x = layers.BatchNormalization(axis=1)(x)
    y = conv(draw, padding="same", **first)(x)
    if yes(draw):
        y = layers.GroupNormalization(1, axis=1)(y)
    x = layers.Concatenate(axis=1)([x, y])
    x = layers.MaxPooling2D(2, **first)(x)
    x = layers.DepthwiseConv2D(2, padding=padding(draw), **first)(x)
    x = conv(draw, **first)(layers.ZeroPadding2D(1, **first)(x))
    x = draw(
        st.sampled_from(
            [layers.Flatten(**first), layers.GlobalMaxPooling2D(**first)]
        )
    )(x)
    return keras.Model(inputs, layers.Dense(2)(x))


ARCHITECTURES = [
    perceptron,
    convolutional,
    depthwise,
    residual,
    squeezing,
    decoding,
    recurrent,
    states,
    recurrent_convolutional,
    grouped,
    shared,
    nested,
    rearranged,
    several_inputs,
    unknown,
    one_dimensional,
    operating,
    attending,
    root_mean_square,
    in_time,
    reshaped,
    *([] if BACKEND == "tensorflow" else [channels_first]),
]


def switch_off(model, seed, share):
    """Gives a model random weights, a share of whose channels is off."""
    rng = np.random.default_rng(seed)
    for variable in model.weights:
        shape = tuple(variable.shape)
        array = rng.normal(size=shape)
        if "variance" in variable.name:
            array = array**2 + 0.5
        elif "kernel" in variable.name or "embeddings" in variable.name:
            for axis in (-1, -2, -3)[: len(shape)]:  # Units, inputs, heads.
                off = rng.random(shape[axis]) < share
                ones = [1] * len(shape)
                ones[axis] = -1
                array = np.where(off.reshape(ones), 0, array)
            if "embeddings" in variable.name and share:
                array[:, 0] = 0.5
        elif len(shape):
            array = np.where(rng.random(shape) < share, 0, array)
        variable.assign(array)
    return model


def examples(model, seed=0, count=8):
    """Returns inputs for a model, as it takes them."""
    rng = np.random.default_rng(seed)

    def example(tensor):
        shape = (count, *tensor.shape[1:])
        if "int" in tensor.dtype:
            return rng.integers(0, 7, shape)
        return rng.normal(size=shape).astype("float32")

    return keras.tree.map_structure(example, inputs_of(model))


def inputs_of(model):
    """Returns the inputs that a model takes, nested as it takes them."""
    if isinstance(model, keras.Sequential):
        return model.inputs[0]
    return model.input


def without_dropped(model, x, inputs):
    """Returns inputs without the channels that a smaller model is not given.

    Args:
        model: The smaller model.
        x: The inputs of the model that it was made of.
        inputs: Those that are given, by name: `report.inputs`.
    """
    given = []
    for each, tensor, indices in zip(
        keras.tree.flatten(x),
        keras.tree.flatten(inputs_of(model)),
        inputs.values(),
        strict=True,
    ):
        for axis in range(1, each.ndim):
            if each.shape[axis] != tensor.shape[axis]:
                each = np.take(each, indices, axis)
        given.append(each)
    return keras.tree.pack_sequence_as(inputs_of(model), given)


def computed(model, x):
    """Returns a model's outputs as arrays."""
    if BACKEND == "jax":  # Which compiles one function sooner than each part.
        outputs = model.predict_on_batch(x)
    else:
        outputs = keras.tree.map_structure(
            ops.convert_to_numpy, model(x, training=False)
        )
    return [
        np.asarray(output, "float64") for output in keras.tree.flatten(outputs)
    ]
