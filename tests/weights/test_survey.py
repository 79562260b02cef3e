"""The survey of a model: its layers and weights, and those with penalties."""

import keras
import numpy as np
import pytest

import l2keras
from l2keras.weights.survey import Survey


def nested():
    inner = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(3, name="dense")], name="inner"
    )
    return keras.Sequential(
        [
            keras.Input((4,)),
            inner,
            keras.layers.BatchNormalization(name="norm"),
            keras.layers.Dense(2, name="output"),
        ],
        name="outer",
    )


def paths(weights):
    return [weight.path for weight in weights]


def test_each_layer_and_weight_appears_once_by_its_path():
    model = nested()
    survey = Survey.of(model)
    places = [place for place, _ in survey.layers]
    assert places[0] == ""
    assert {"inner/", "inner/dense/", "norm/", "output/"} <= set(places)
    assert len({id(layer) for _, layer in survey.layers}) == len(places)
    assert paths(survey.weights) == [
        "inner/dense/kernel",
        "inner/dense/bias",
        "norm/gamma",
        "norm/beta",
        "norm/moving_mean",
        "norm/moving_variance",
        "output/kernel",
        "output/bias",
    ]
    assert survey.trained == [
        w for w in survey.weights if "moving" not in w.path
    ]
    assert survey.layer is model


def test_frozen_weights_are_regularized_but_not_penalized():
    model = nested()
    survey = Survey.of(model)
    l2keras.apply_regularizers(model, default=l2keras.L2(0.5))
    model.get_layer("inner").trainable = False
    assert "inner/dense/kernel" in paths(survey.trained)
    assert paths(survey.regularized) == ["inner/dense/kernel", "output/kernel"]
    assert paths(survey.penalized) == ["output/kernel"]


def test_penalized_weights_are_in_the_order_of_model_losses():
    class Backwards(keras.Model):
        """Its own weight, made last, is listed before those of its layers."""

        def __init__(self):
            super().__init__(name="backwards")
            self.second = keras.layers.Dense(2, name="second")
            self.first = keras.layers.Dense(3, name="first")

        def build(self, shape):
            self.first.build(shape)
            self.second.build((None, 3))
            self.scale = self.add_weight(shape=(3,), name="scale")

        def call(self, x):
            return self.second(self.scale * self.first(x))

    model = Backwards()
    model.build((None, 4))
    survey = Survey.of(model)
    strengths = {
        weight.path: i + 1.0 for i, weight in enumerate(survey.weights)
    }
    for weight in survey.weights:
        weight.variable.assign(np.ones(weight.variable.shape))
        weight.variable.regularizer = l2keras.L2(strengths[weight.path])
    assert len(survey.penalized) == 5
    np.testing.assert_allclose(
        [keras.ops.convert_to_numpy(loss) for loss in model.losses],
        [
            strengths[weight.path] * np.prod(weight.variable.shape)
            for weight in survey.penalized
        ],
    )


def test_a_weight_belongs_to_the_layer_that_created_it():
    wrapped = keras.layers.SpectralNormalization(
        keras.layers.Dense(3, name="inner"), name="wrapper"
    )
    model = keras.Sequential([keras.Input((4,)), wrapped])
    (kernel,) = [w for w in Survey.of(model).weights if "kernel" in w.path]
    assert (kernel.path, kernel.layer) == (
        "wrapper/inner/kernel",
        wrapped.layer,
    )


@pytest.mark.parametrize("model", ["model", keras.layers.Dense(1), None])
def test_other_objects_than_models_are_refused(model):
    with pytest.raises(TypeError, match="must be a Keras model"):
        Survey.of(model)


def test_a_model_without_its_weights_is_refused():
    model = keras.Sequential([keras.layers.Dense(1)], name="unbuilt")
    with pytest.raises(ValueError, match="is not built, so it has no"):
        Survey.of(model)
    # A layer may be asked for its weights.
    assert Survey(model).weights == []
