"""Which model an optimizer trains, and so what the paths are."""

import re

import keras
import numpy as np
import pytest
from decay_cases import X, decay, fit, keras_sgd, network
from helpers import assert_weights


def built(optimizer, variables):
    optimizer.build(variables)
    return set(optimizer.strengths())


def nested():
    inner = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(3, name="a")], name="inner"
    )
    return inner, keras.Sequential(
        [keras.Input((4,)), inner, keras.layers.Dense(2, name="b")]
    )


def test_in_a_loop_the_paths_are_those_of_the_outermost_model():
    inner, outer = nested()
    weights = inner.trainable_variables
    assert built(decay(), weights) == {"inner/a/kernel"}
    assert built(decay(), outer.trainable_variables) == {
        "inner/a/kernel",
        "b/kernel",
    }


def test_the_model_that_is_compiled_goes_first():
    inner, outer = nested()
    for optimizer, held in (
        (one := decay(), one),
        (two := decay(), keras.optimizers.LossScaleOptimizer(two)),
    ):
        inner.compile(held)
        assert built(optimizer, inner.trainable_variables) == {"a/kernel"}
    # Under any name, as where there are several optimizers.
    inner.compile(keras_sgd())
    inner.some_optimizer = decay()
    assert built(inner.some_optimizer, inner.trainable_variables) == {
        "a/kernel"
    }
    assert outer.built


def test_models_that_agree_are_no_trouble():
    inputs = keras.Input((4,))
    hidden = keras.layers.Dense(3, name="a")(inputs)
    outputs = keras.layers.Dense(2, name="b")(hidden)
    model = keras.Model(inputs, outputs)
    both = keras.Model(inputs, [hidden, outputs])
    assert built(decay(), model.trainable_variables) == {"a/kernel", "b/kernel"}
    assert both.built


def test_models_that_disagree_are_an_error():
    inner = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(3, name="a")], name="inner"
    )
    models = [
        keras.Sequential([keras.Input((4,)), inner], name="one"),
        keras.Sequential(
            [
                keras.Input((4,)),
                keras.Sequential([keras.Input((4,)), inner], name="deep"),
            ],
            name="two",
        ),
    ]
    with pytest.raises(ValueError, match="Models") as caught:
        decay().build(inner.trainable_variables)
    assert re.fullmatch(
        "Models '(one|two)' and '(one|two)' both have the variables that the "
        "optimizer was built for, and one is at '(deep/)?inner/a/kernel' in "
        "the first, at '(deep/)?inner/a/kernel' in the second. Say which model "
        r"it trains: `model.compile\(optimizer\)`\.",
        str(caught.value),
    )
    optimizer = decay()
    models[1].compile(optimizer)
    assert built(optimizer, inner.trainable_variables) == {
        "deep/inner/a/kernel"
    }


def test_variables_of_no_model_are_an_error():
    with pytest.raises(ValueError, match="no Keras model") as caught:
        decay().build([keras.Variable(np.ones((2, 2)))])
    assert str(caught.value) == (
        "The optimizer was built for variables that no Keras model in memory "
        "has all of, so it cannot tell the paths of the weights. Build it for "
        "those of one model: `model.compile(optimizer)` and `fit`, or "
        "`optimizer.build(model.trainable_variables)`."
    )


@pytest.mark.skipif(
    not hasattr(keras.optimizers, "MultiOptimizer"), reason="Since Keras 3.15."
)
def test_it_can_be_one_of_several_optimizers():
    start = network().get_weights()
    model = network()
    hidden = decay()
    optimizer = keras.optimizers.MultiOptimizer(
        keras.optimizers.OptimizerMap(keras_sgd(), {".*hidden/.*": hidden})
    )
    fit(model, optimizer, epochs=1, x=np.zeros_like(X))
    assert hidden.strengths() == {"hidden/kernel": 0.1}
    assert_weights(model, [start[0] * 0.99**4, *model.get_weights()[1:]])
    assert model.get_weights()[2] == pytest.approx(start[2])
