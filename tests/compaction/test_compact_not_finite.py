"""Outputs that are not finite are the same in the smaller model."""

import keras
import numpy as np
import pytest
from keras import layers

import l2keras
from tests.support.built_models import sequential
from tests.support.random_architectures import computed

X = np.random.default_rng(0).normal(size=(3, 4)).astype("float32")


def model_of(activation="relu", dtype=None, **changed):
    """Returns a model whose first hidden unit reads nothing, or is not read."""
    model = sequential(
        (4,),
        layers.Dense(6, activation=activation, dtype=dtype, name="hidden"),
        layers.Dense(2, dtype=dtype, name="last"),
    )
    weights = [np.array(weight, "float32") for weight in model.get_weights()]
    kernel, bias, last, _ = weights
    kernel[:, 0] = changed.get("kernel", kernel[:, 0])
    bias[0] = changed.get("bias", 0.5)
    last[0] = changed.get("last", last[0])
    model.set_weights(weights)
    return model


CASES = {
    "bias is NaN": {"bias": np.nan, "last": 0.0},
    "bias is infinite": {"bias": np.inf, "last": 0.0},
    "kernel is NaN": {"kernel": np.nan, "last": 0.0},
    "kernel is infinite": {"kernel": np.inf, "last": 0.0},
    "NaN of a unit that is off": {"kernel": 0.0, "last": np.nan},
    "exp overflows float32": {
        "activation": "exponential",
        "kernel": 0.0,
        "bias": 95.0,
        "last": [1e-10, -1e-10],
    },
    "exp overflows float32, times zero": {
        "activation": "exponential",
        "kernel": 0.0,
        "bias": 95.0,
        "last": 0.0,
    },
    "exp overflows float16": {
        "activation": "exponential",
        "dtype": "mixed_float16",
        "kernel": 0.0,
        "bias": 12.0,
        "last": [1e-4, -1e-4],
    },
    "a bias overflows float16": {
        "activation": "linear",
        "dtype": "mixed_float16",
        "kernel": 0.0,
        "bias": 1e5,
        "last": 0.0,
    },
}


@pytest.mark.parametrize("name", CASES)
def test_outputs_that_are_not_finite_are_kept(name):
    model = model_of(**CASES[name])
    (before,) = computed(model, X)
    assert not np.isfinite(before).any()
    small, _ = l2keras.compact(model)
    np.testing.assert_array_equal(computed(small, X)[0], before)


def test_a_unit_with_a_bias_of_minus_infinity_is_removed():
    model = model_of(bias=-np.inf)
    (before,) = computed(model, X)
    assert np.isfinite(before).all()
    small, report = l2keras.compact(model)
    np.testing.assert_allclose(computed(small, X)[0], before, rtol=1e-6)
    assert report.skipped == {"hidden": "its bias is not finite everywhere"}


def test_a_large_constant_that_fits_its_dtype_is_folded():
    model = model_of("exponential", "mixed_float16", kernel=0.0, bias=10.0)
    small, report = l2keras.compact(model)
    assert report.widths["hidden"] == (6, 5)
    (before,), (after,) = (computed(each, X) for each in (model, small))
    np.testing.assert_allclose(after, before, rtol=1e-2)


def test_a_constant_that_overflows_in_an_activation_is_reported():
    inputs = keras.Input((4,))
    hidden = layers.Dense(6, name="hidden")
    x = keras.ops.exp(hidden(inputs))
    model = keras.Model(inputs, layers.Dense(2, name="last")(x))
    kernel, bias = hidden.get_weights()
    kernel[:, 0], bias[0] = 0.0, 95.0
    hidden.set_weights([kernel, bias])
    (before,) = computed(model, X)
    small, report = l2keras.compact(model)
    np.testing.assert_array_equal(computed(small, X)[0], before)
    assert report.skipped == {
        "hidden": "1 of 6 are off, but in exp they are not finite"
    }
