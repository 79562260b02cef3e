"""Models that are found in memory by their weights."""

import keras
import pytest

from l2keras._keras import memory


@pytest.fixture
def models():
    """Returns models by name: `inner` in `outer`, `beside` with its layer."""
    layer = keras.layers.Dense(2, name="shared")
    inputs = keras.Input((4,))
    inner = keras.Sequential([keras.Input((4,)), layer], name="inner")
    found = [
        inner,
        keras.Model(inputs, keras.layers.ReLU()(inner(inputs)), name="outer"),
        keras.Model(inputs, layer(inputs), name="beside"),
        keras.Model(inputs, keras.layers.Dense(2)(inputs), name="apart"),
    ]
    return {result.name: result for result in found}


def names(weights):
    """Returns the names of the models that have the weights."""
    # But for those that a `Sequential` is made of.
    known = {id(model) for model in memory.models_in_memory()}
    found = [
        model for model in memory.models_with(weights) if id(model) in known
    ]
    assert len({result.name for result in found}) == len(found)
    return {result.name for result in found}


def test_a_model_is_found_by_its_weights(models):
    layer = models["inner"].layers[0]
    assert names([layer.kernel]) == {"inner", "outer", "beside"}
    assert names([]) == set()
    assert names([layer.kernel, models["apart"].layers[-1].bias]) == set(models)


def test_a_weight_that_two_layers_hold_is_found_in_both():
    class Tied(keras.layers.Layer):
        def __init__(self, other):
            super().__init__()
            self.kernel = other.kernel

        def call(self, inputs):
            return inputs @ self.kernel

    first = keras.layers.Dense(2)
    one = keras.Sequential([keras.Input((4,)), first], name="one")
    two = keras.Sequential([keras.Input((4,)), Tied(first)], name="two")
    assert names([first.kernel]) == {one.name, two.name}
    assert names([first.bias]) == {"one"}


def test_a_model_under_construction_is_skipped(models):
    layer = models["inner"].layers[0]
    seen = []

    class Half(keras.Model):
        def __init__(self):
            # Keras has not made a model of it yet.
            seen.append(names([layer.kernel]))
            super().__init__()

    Half()
    assert seen == [{"inner", "outer", "beside"}]
