"""The regularizer arguments of Keras's layers, and their penalties."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import l2keras
from l2keras import L2, reference
from tests.support import number
from tests.support.regularizer_rows import (
    STEP,
    STRENGTH,
    build,
    by_hand,
    each_regularizer,
    each_strength,
    losses,
    small_model,
    some_weights,
)


@keras.saving.register_keras_serializable(package="l2keras_tests")
class Scaling(layers.Layer):
    """A layer that makes its weight with `add_weight(regularizer=...)`."""

    def __init__(self, regularizer=None, **kwargs):
        super().__init__(**kwargs)
        self.regularizer = regularizer

    def build(self, input_shape):
        self.factors = self.add_weight(
            shape=input_shape[-1:], name="factors", regularizer=self.regularizer
        )

    def call(self, inputs):
        return inputs * self.factors

    def get_config(self):
        regularizer = keras.regularizers.serialize(self.regularizer)
        return {**super().get_config(), "regularizer": regularizer}

    @classmethod
    def from_config(cls, config):
        regularizer = keras.regularizers.deserialize(config.pop("regularizer"))
        return cls(regularizer, **config)


def attention(regularizer):
    inputs = keras.Input((3, 4))
    attend = layers.MultiHeadAttention(
        2, 3, kernel_regularizer=regularizer, bias_regularizer=regularizer
    )
    return keras.Model(inputs, attend(inputs, inputs))


# How to make the layer, the shape of its input, and how many weights pay.
PLACES = {
    "Dense": (
        lambda r: layers.Dense(3, kernel_regularizer=r, bias_regularizer=r),
        (4,),
        2,
    ),
    "Dense, activity": (
        lambda r: layers.Dense(3, activity_regularizer=r),
        (4,),
        1,
    ),
    "Dense, kernel and activity": (
        lambda r: layers.Dense(3, kernel_regularizer=r, activity_regularizer=r),
        (4,),
        2,
    ),
    "Conv2D": (
        lambda r: layers.Conv2D(3, 2, kernel_regularizer=r, bias_regularizer=r),
        (5, 5, 2),
        2,
    ),
    "DepthwiseConv2D": (
        lambda r: layers.DepthwiseConv2D(
            2, depthwise_regularizer=r, bias_regularizer=r
        ),
        (5, 5, 2),
        2,
    ),
    "SeparableConv2D": (
        lambda r: layers.SeparableConv2D(
            3,
            2,
            depthwise_regularizer=r,
            pointwise_regularizer=r,
            bias_regularizer=r,
        ),
        (5, 5, 2),
        3,
    ),
    "LSTM": (
        lambda r: layers.LSTM(
            3,
            kernel_regularizer=r,
            recurrent_regularizer=r,
            bias_regularizer=r,
        ),
        (4, 2),
        3,
    ),
    "Bidirectional(GRU)": (
        lambda r: layers.Bidirectional(
            layers.GRU(3, kernel_regularizer=r, recurrent_regularizer=r)
        ),
        (4, 2),
        4,
    ),
    "BatchNormalization": (
        lambda r: layers.BatchNormalization(
            gamma_regularizer=r, beta_regularizer=r
        ),
        (4,),
        2,
    ),
    "LayerNormalization": (
        lambda r: layers.LayerNormalization(
            gamma_regularizer=r, beta_regularizer=r
        ),
        (4,),
        2,
    ),
    "Embedding": (
        lambda r: layers.Embedding(5, 3, embeddings_regularizer=r),
        (2,),
        1,
    ),
    "EinsumDense": (
        lambda r: layers.EinsumDense(
            "abc,cd->abd",
            output_shape=(None, 3),
            bias_axes="d",
            kernel_regularizer=r,
            bias_regularizer=r,
        ),
        (4, 2),
        2,
    ),
    "MultiHeadAttention": (attention, (3, 4), 8),
    "add_weight": (Scaling, (4,), 1),
}


def place(make, regularizer, shape):
    """Returns a model with the layer, every weight of it random."""
    made = make(regularizer)
    model = (
        made
        if isinstance(made, keras.Model)
        else keras.Sequential([keras.Input(shape), made])
    )
    randomize(model)
    return model


def randomize(model):
    rng = np.random.default_rng(3)
    model.set_weights(
        [rng.uniform(0.1, 1.0, w.shape) for w in model.get_weights()]
    )


@pytest.mark.parametrize(
    ("make", "shape", "paying"),
    [pytest.param(*row, id=name) for name, row in PLACES.items()],
)
@each_strength
def test_every_regularizer_argument_has_the_penalty_of_keras(
    make, shape, paying, strength
):
    ours = place(make, build(L2, strength), shape)
    theirs = place(make, keras.regularizers.L2(STRENGTH), shape)
    again = type(ours).from_config(ours.get_config())
    again.set_weights(ours.get_weights())
    if any(layer.activity_regularizer for layer in theirs.layers):
        for model in (ours, theirs, again):
            model(ops.ones((2, *shape)))
    expected = losses(theirs)
    assert len(expected) == paying
    assert all(value > 0 for value in expected)
    np.testing.assert_allclose(losses(ours), expected, rtol=1e-6)
    np.testing.assert_allclose(losses(again), expected, rtol=1e-6)


def share_of_a_sample(samples):
    """Returns the factor of Keras for the penalties of activities.

    It is 1 / samples, and 1 in the older versions.
    """
    layer = layers.ActivityRegularization(l1=1.0)
    layer(ops.ones((samples, 1)))
    return number(layer.losses[0]) / samples


@by_hand
@each_regularizer
@each_strength
def test_activity_regularizers_in_a_compiled_step(make, truth, strength):
    # In `fit`, TensorFlow does not know the size of the batch while tracing.
    model = keras.Sequential(
        [
            keras.Input((3,)),
            layers.Dense(4, activity_regularizer=build(make, strength)),
        ]
    )
    model.compile("sgd", "mse")
    l2keras.set_step(model, STEP)
    x = some_weights(6, 3)
    y = ops.convert_to_numpy(model(x))  # The mean squared error is 0.
    # `Smoothness` is of neighbours, which are examples here.
    loss = model.fit(x, y, shuffle=False, verbose=0).history["loss"]
    np.testing.assert_allclose(
        loss, [truth(y, STRENGTH) * share_of_a_sample(6)], rtol=1e-4
    )


def test_a_frozen_weight_has_no_penalty():
    layer = layers.Dense(3, kernel_regularizer=L2(0.1))
    model = keras.Sequential([keras.Input((4,)), layer])
    assert len(model.losses) == 1
    layer.trainable = False
    assert model.losses == []
    layer.trainable = True
    assert len(model.losses) == 1


def test_a_shared_layer_is_penalized_once():
    layer = layers.Dense(4, kernel_regularizer=L2(0.1))
    inputs = keras.Input((4,))
    model = keras.Model(inputs, layer(layer(inputs)))
    expected = reference.l2_regularization(model.get_weights()[0], 0.1)
    np.testing.assert_allclose(losses(model), [expected], rtol=1e-6)


@by_hand
@each_regularizer
@each_strength
def test_a_model_trains(make, truth, strength):
    model = small_model(build(make, strength))
    model.compile(keras.optimizers.SGD(0.01), "mse")
    l2keras.set_step(model, STEP)
    x, y = some_weights(4, 3), np.zeros((4, 4))
    before = model.get_weights()
    loss = model.fit(x, y, verbose=0).history["loss"][0]
    kernel, bias = before
    expected = np.mean((x @ kernel + bias) ** 2)
    expected += truth(kernel, STRENGTH) + truth(bias, STRENGTH)
    np.testing.assert_allclose(loss, expected, rtol=1e-5)


@pytest.mark.parametrize("floatx", ["float16", "bfloat16"])
@each_regularizer
@each_strength
def test_the_penalty_of_a_half_precision_model_is_in_its_dtype(
    make, truth, strength, floatx
):
    keras.config.set_floatx(floatx)
    keras.config.set_dtype_policy(floatx)
    loss = build(make, strength)(ops.cast(some_weights(3, 4), floatx))
    assert keras.backend.standardize_dtype(loss.dtype) == floatx
    np.testing.assert_allclose(
        number(ops.cast(loss, "float32")),
        truth(some_weights(3, 4), STRENGTH),
        rtol=0.02,
    )


@pytest.mark.parametrize("axis", [0, -1])
@pytest.mark.parametrize("samples", [2, 4, 6])
def test_orthogonal_of_a_batch_of_unknown_size(axis, samples):
    regularizer = l2keras.Orthogonal(STRENGTH, axis=axis)
    model = keras.Sequential(
        [keras.Input((3,)), layers.Dense(4, activity_regularizer=regularizer)]
    )
    model.compile("sgd", "mse")
    x = some_weights(samples, 3)
    y = ops.convert_to_numpy(model(x))  # The mean squared error is 0.
    expected = l2keras.reference.orthogonal(y, STRENGTH, axis=axis)
    loss = model.evaluate(x, y, verbose=0)
    np.testing.assert_allclose(
        loss, expected * share_of_a_sample(samples), rtol=1e-4
    )
