"""The model that an optimizer trains, and so the paths of its weights."""

import gc
import re

import keras
import numpy as np
import pytest
from keras import ops

from l2keras._keras import call_stack
from tests.support import BACKEND, assert_weights
from tests.support.weight_decay_cases import (
    X,
    Y,
    decay,
    fit,
    keras_sgd,
    network,
)


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


def test_paths_are_those_of_the_model_compiled_with_the_optimizer():
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


def test_several_models_with_equal_paths_are_accepted():
    inputs = keras.Input((4,))
    hidden = keras.layers.Dense(3, name="a")(inputs)
    outputs = keras.layers.Dense(2, name="b")(hidden)
    model = keras.Model(inputs, outputs)
    both = keras.Model(inputs, [hidden, outputs])
    assert built(decay(), model.trainable_variables) == {"a/kernel", "b/kernel"}
    assert both.built


def test_several_models_with_different_paths_are_an_error():
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
def test_decay_by_path_in_a_multi_optimizer():
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


# Without a search -------------------------------------------------------------


@pytest.fixture
def no_search(monkeypatch):
    """Hides the objects in memory, so that no model can be found there."""
    monkeypatch.setattr(gc, "get_objects", list)


class HasItsOwnStep(keras.Model):
    """Trains by hand with an optimizer that `compile` knows nothing of."""

    def __init__(self):
        super().__init__()
        self.hidden = keras.layers.Dense(3, use_bias=False, name="hidden")
        self.mine = decay()

    def call(self, x):
        return self.hidden(x)

    if BACKEND == "tensorflow":

        def train_step(self, data):
            import tensorflow as tf

            x, y = data
            with tf.GradientTape() as tape:
                loss = ops.mean(ops.square(self(x) - y))
            weights = self.trainable_variables
            self.mine.apply(tape.gradient(loss, weights), weights)
            return {"loss": loss}

    elif BACKEND == "torch":

        def train_step(self, data):
            x, y = data
            self.zero_grad()
            loss = ops.mean(ops.square(self(x) - y))
            loss.backward()
            weights = self.trainable_variables
            self.mine.apply([weight.value.grad for weight in weights], weights)
            return {"loss": loss}


def trained_by_fit():
    model = network()
    fit(model, decay(), epochs=1)
    return model.optimizer, model


def trained_on_a_batch():
    model = network()
    model.compile(decay(), "categorical_crossentropy")
    model.train_on_batch(X, Y)
    return model.optimizer, model


def built_by_fit_and_inside_others():
    model = network()
    optimizer = decay()
    fit(model, keras.optimizers.LossScaleOptimizer(optimizer), epochs=1)
    return optimizer, model


def compiled_from_its_config():
    model = network()
    model.compile(decay(), "categorical_crossentropy")
    again = network()
    again.compile_from_config(model.get_compile_config())
    return again.optimizer, again


def trained_by_its_own_step():
    if BACKEND == "jax":
        pytest.skip("JAX has no state to build in a step.")
    model = HasItsOwnStep()
    model.compile("sgd", "mse")
    model.fit(X, Y, epochs=1, verbose=0)
    return model.mine, model


@pytest.mark.parametrize(
    "train",
    [
        trained_by_fit,
        trained_on_a_batch,
        built_by_fit_and_inside_others,
        compiled_from_its_config,
        trained_by_its_own_step,
    ],
)
def test_a_model_that_builds_its_optimizer_needs_no_search(no_search, train):
    optimizer, model = train()
    assert set(optimizer.strengths()) == {
        path for path in optimizer.decayed(model) if path.endswith("kernel")
    }
    assert optimizer.strengths()


def test_the_model_of_a_custom_loop_is_searched_for(no_search):
    model = network()
    model.compile(optimizer := decay())
    with pytest.raises(ValueError, match="no Keras model in memory"):
        optimizer.build(model.trainable_variables)


def test_the_training_model_is_preferred_to_others_with_its_optimizer():
    inner, outer = nested()
    optimizer = decay()
    for model in (inner, outer):
        model.compile(optimizer, "mse")
    outer.layers[-1].trainable = False  # Both train the same weights.
    inner.fit(np.zeros((4, 4)), np.zeros((4, 3)), verbose=0)
    assert set(optimizer.strengths()) == {"a/kernel"}


def test_models_on_the_call_stack_are_listed_innermost_first():
    seen = []

    class Calling(keras.Model):
        def __init__(self, then):
            super().__init__()
            self.then = then

        def ask(self):
            return [self.then() for _ in range(1)]

    inner = Calling(lambda: seen.append(call_stack.models_on_stack()))
    outer = Calling(inner.ask)
    outer.ask()
    assert seen == [[inner, outer]]
    assert call_stack.models_on_stack() == []
