"""Whole groups of channels go, and zeros before a unit normalization."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import l2keras
from tests.support import BACKEND
from tests.support.random_architectures import computed, examples


def assert_same_outputs(model, small):
    x = examples(model)
    for one, other in zip(computed(model, x), computed(small, x), strict=True):
        atol = 1e-6 * max(1.0, np.abs(one).max())
        np.testing.assert_allclose(other, one, rtol=1e-5, atol=atol)


def zero(layer, channels, names=("kernel", "bias", "gamma")):
    """Zeroes what a layer makes of some channels, or some of it."""
    for variable in layer.weights:
        if variable.name in names:
            array = np.array(ops.convert_to_numpy(variable))
            array[..., channels] = 0.0
            variable.assign(array)


def model_of(*hidden, shape=(5, 5, 2)):
    x = inputs = keras.Input(shape)
    for layer in hidden:
        x = layer(x)
    last = layers.Dense(3, name="last")
    model = keras.Model(inputs, last(layers.GlobalMaxPooling2D()(x)))
    rng = np.random.default_rng(0)
    for variable in model.weights:
        variable.assign(rng.normal(size=variable.shape))
    return model


@pytest.mark.parametrize("groups", [2, 4, 8])
def test_groups_of_filters_that_are_zero_are_removed(groups):
    a = layers.Conv2D(8, 1, name="a")
    b = layers.Conv2D(16, 3, groups=groups, padding="same", name="b")
    model = model_of(a, b, layers.ReLU())
    zero(b, slice(0, 16 // groups), ["kernel"])  # Its bias goes to `last`.
    small, report = l2keras.compact(model)
    per_group = 8 // groups
    assert report.widths["a"] == (8, 8 - per_group)
    assert report.widths["b"] == (16, 16 - 2 * per_group)
    assert small.get_layer("b").groups == groups - 1
    assert small.count_params() == report.parameters[1]
    flops = 2 * 25 * (2 * 8 + 9 * per_group * 16) + 2 * 16 * 3
    assert report.flops[0] == flops
    assert_same_outputs(model, small)


def test_groups_of_filters_of_zeros_are_removed():
    a = layers.Conv2D(8, 1, name="a")
    b = layers.Conv2D(8, 3, groups=4, padding="same", name="b")
    model = model_of(a, b)
    zero(a, [2, 3, 4])
    small, report = l2keras.compact(model)
    assert report.widths["a"] == (8, 6)  # The fifth has a neighbour that stays.
    assert report.widths["b"] == (8, 6)
    assert_same_outputs(model, small)


@pytest.mark.parametrize("padding", ["same", "valid"])
def test_groups_of_filters_of_constants_stay_where_there_is_padding(padding):
    a = layers.Conv2D(8, 1, name="a")
    b = layers.Conv2D(8, 3, groups=4, padding=padding, name="b")
    model = model_of(a, b)
    zero(a, [2, 3], ["kernel"])
    small, report = l2keras.compact(model)
    assert report.widths["b"] == (8, 8 if padding == "same" else 6)
    assert_same_outputs(model, small)


def test_one_group_is_kept_when_all_are_zero():
    b = layers.Conv2D(8, 3, groups=4, name="b")
    model = model_of(layers.Conv2D(8, 1, name="a"), b)
    zero(b, slice(0, 8))
    small, report = l2keras.compact(model)
    assert report.widths["b"][1] <= 2
    assert_same_outputs(model, small)


def test_groups_that_are_read_twice_stay_together():
    a = layers.Conv2D(8, 1, name="a")
    b = layers.Conv2D(8, 1, groups=4, name="b")
    inputs = keras.Input((3, 3, 2))
    x = a(inputs)
    y = layers.GlobalMaxPooling2D()(layers.Concatenate()([x, b(x)]))
    model = keras.Model(inputs, layers.Dense(3)(y))
    rng = np.random.default_rng(0)
    for variable in model.weights:
        variable.assign(rng.normal(size=variable.shape))
    zero(b, [0, 1])
    small, report = l2keras.compact(model)
    assert report.widths["b"] == (8, 8)
    assert_same_outputs(model, small)


@pytest.mark.parametrize("center", [True, False])
def test_groups_of_zeros_before_group_normalization_are_removed(center):
    a = layers.Conv2D(8, 3, name="a")
    norm = layers.GroupNormalization(4, center=center, name="norm")
    model = model_of(a, norm)
    zero(a, [0, 1, 2, 6, 7])
    small, report = l2keras.compact(model)
    assert report.widths["a"] == (8, 4)  # The third has a neighbour.
    assert small.get_layer("norm").groups == 2
    assert_same_outputs(model, small)


def test_groups_of_gammas_that_are_zero_are_removed():
    norm = layers.GroupNormalization(4, name="norm")
    model = model_of(layers.Conv2D(8, 3, name="a"), norm)
    zero(norm, [0, 1, 2])
    small, report = l2keras.compact(model)
    assert report.widths["a"] == (8, 6)
    assert_same_outputs(model, small)


def test_constants_before_group_normalization_are_kept():
    a = layers.Conv2D(8, 3, name="a")
    model = model_of(a, layers.GroupNormalization(4, name="norm"))
    zero(a, [0, 1], ["kernel"])
    small, report = l2keras.compact(model)
    assert report.widths["a"] == (8, 8)
    assert_same_outputs(model, small)


@pytest.mark.skipif(
    BACKEND == "tensorflow", reason="It computes them on GPUs only."
)
def test_groups_of_channels_that_come_first_are_removed():
    first = {"data_format": "channels_first"}
    a = layers.Conv2D(8, 3, name="a", **first)
    b = layers.Conv2D(8, 1, groups=4, name="b", **first)
    norm = layers.GroupNormalization(4, axis=1, name="norm")
    inputs = keras.Input((2, 5, 5))
    x = layers.GlobalMaxPooling2D(**first)(norm(b(a(inputs))))
    model = keras.Model(inputs, layers.Dense(3)(x))
    zero(b, [0, 1, 2, 6, 7])
    small, report = l2keras.compact(model)
    assert report.widths["a"] == report.widths["b"] == (8, 4)
    assert_same_outputs(model, small)


@pytest.mark.parametrize("axis", [-1, 1, (1, 3)])
def test_zeros_before_unit_normalization_are_removed(axis):
    a = layers.Conv2D(8, 3, name="a")
    model = model_of(a, layers.UnitNormalization(axis))
    zero(a, [0, 3, 4])
    small, report = l2keras.compact(model)
    assert report.widths["a"] == (8, 5)
    assert_same_outputs(model, small)


def test_constants_before_unit_normalization_are_kept():
    a = layers.Conv2D(8, 3, name="a")
    model = model_of(a, layers.UnitNormalization(name="norm"))
    zero(a, [0, 3, 4], ["kernel"])
    small, report = l2keras.compact(model)
    assert report.widths["a"] == (8, 8)
    assert report.skipped == {"a": "3 of 8 are off, but norm reads them all"}
    assert_same_outputs(model, small)
