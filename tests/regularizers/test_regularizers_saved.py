"""Saved and copied: regularizers, their steps and scales, and models."""

import copy

import keras
import numpy as np
import pytest
from keras import layers, ops

import l2keras
from l2keras import L1, L2, LinearSchedule
from tests.support import number
from tests.support.regularizer_rows import (
    COPIES,
    STRENGTH,
    build,
    each_regularizer,
    each_strength,
    losses,
    small_model,
    some_weights,
)


@each_regularizer
@each_strength
@pytest.mark.parametrize("duplicate", COPIES, ids=lambda f: f.__name__)
def test_a_copy_is_the_same(make, truth, strength, duplicate):
    regularizer = build(make, strength)
    again = duplicate(regularizer)
    assert again is not regularizer
    assert type(again) is type(regularizer)
    assert again.get_config() == regularizer.get_config()
    assert again.scale == regularizer.scale == 1.0
    weights = some_weights(3, 4)
    np.testing.assert_allclose(
        number(again(ops.array(weights))), truth(weights, STRENGTH), rtol=1e-5
    )


@pytest.mark.parametrize("duplicate", COPIES, ids=lambda f: f.__name__)
def test_a_copy_does_not_share_the_step(duplicate):
    kernel = ops.ones((2,))
    layer = keras.layers.Dense(
        1,
        use_bias=False,
        kernel_initializer="ones",
        kernel_regularizer=L2(LinearSchedule(0.0, 1.0, steps=10)),
    )
    model = keras.Sequential([keras.Input((2,)), layer])
    again = duplicate(layer.kernel_regularizer)
    l2keras.set_step(model, 5)
    assert number(layer.kernel_regularizer(kernel)) == 1.0
    assert number(again(kernel)) == 0.0


@pytest.mark.parametrize("duplicate", COPIES, ids=lambda f: f.__name__)
def test_a_copy_keeps_the_scale(duplicate):
    layer = keras.layers.Dense(1, name="head", kernel_regularizer=L2(0.5))
    model = keras.Sequential([keras.Input((2,)), layer])
    l2keras.set_scale(model, {"head/kernel": 0.25})
    again = duplicate(layer.kernel_regularizer)
    assert again.scale == 0.25
    assert again.get_config() == {"l2": 0.5, "scale": 0.25}
    assert number(again(ops.array([1.0, 3.0]))) == 1.25
    l2keras.set_scale(model, {"head/kernel": 1.0})
    assert again.scale == 0.25


@each_regularizer
@each_strength
def test_scale_multiplies_the_value(make, truth, strength):
    config = build(make, strength).get_config()
    scaled = type(make(STRENGTH)).from_config({**config, "scale": 0.25})
    assert scaled.scale == 0.25
    assert scaled.get_config() == {**config, "scale": 0.25}
    layer = layers.Dense(4, name="head", kernel_regularizer=scaled)
    model = keras.Sequential([keras.Input((3,)), layer])
    kernel = model.get_weights()[0]
    for scale in (None, 2.0, 0.0, 0.5):
        if scale is not None:
            l2keras.set_scale(model, {"head/kernel": scale})
            assert scaled.scale == scale
        expected = (0.25 if scale is None else scale) * truth(kernel, STRENGTH)
        np.testing.assert_allclose(losses(model), [expected], rtol=1e-5)


@pytest.mark.parametrize("duplicate", COPIES, ids=lambda f: f.__name__)
def test_parts_of_a_sum_keep_steps_of_their_own(duplicate):
    ahead = L2.from_config(
        {**L2(LinearSchedule(0.0, 1.0, steps=10)).get_config(), "step": 5}
    )
    both = ahead + L1(LinearSchedule(0.0, 1.0, steps=10))
    weights = ops.array([1.0, -3.0])
    assert number(both(weights)) == 5.0
    assert number(duplicate(both)(weights)) == 5.0


@each_regularizer
@each_strength
@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_a_saved_model_has_the_same_losses(
    make, truth, strength, suffix, tmp_path
):
    model = small_model(build(make, strength))
    path = tmp_path / f"model{suffix}"
    model.save(path)
    again = keras.saving.load_model(path)
    assert len(losses(model)) == 2
    np.testing.assert_allclose(losses(again), losses(model), rtol=1e-6)
    kernel, _ = model.get_weights()
    np.testing.assert_allclose(
        losses(model)[0], truth(kernel, STRENGTH), rtol=1e-5
    )


@each_regularizer
@each_strength
@pytest.mark.parametrize(
    "duplicate",
    [
        keras.models.clone_model,
        lambda model: keras.models.model_from_json(model.to_json()),
        copy.deepcopy,
    ],
    ids=["clone_model", "model_from_json", "deepcopy"],
)
def test_a_copied_model_has_the_same_losses(make, truth, strength, duplicate):
    model = small_model(build(make, strength))
    again = duplicate(model)
    again.set_weights(model.get_weights())
    assert len(losses(model)) == 2
    np.testing.assert_allclose(losses(again), losses(model), rtol=1e-6)
