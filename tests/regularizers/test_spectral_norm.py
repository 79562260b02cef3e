"""`SpectralNorm` is exact, in value and gradient, whatever the weights."""

import keras
import numpy as np
import pytest
from keras import ops

from l2keras import SpectralNorm
from tests.support import BACKEND, number
from tests.support.gradients import gradient


def largest_singular_value(weights):
    return np.linalg.svd(weights.astype("float64"), compute_uv=False)[0]


@pytest.mark.parametrize("shape", [(7, 5), (5, 7), (1, 6), (3, 2, 2, 5)])
def test_spectral_norm_is_exact_where_singular_values_are_close(shape):
    columns = shape[-1]
    rows = int(np.prod(shape[:-1]))
    rng = np.random.default_rng(3)
    left, right = (
        np.linalg.qr(rng.normal(size=(size, size)))[0]
        for size in (rows, columns)
    )
    values = 2.0 * (1 - 1e-6) ** np.arange(min(rows, columns))
    matrix = (left[:, : len(values)] * values) @ right[: len(values)]
    value = number(SpectralNorm(1.0)(matrix.reshape(shape).astype("float32")))
    assert value == pytest.approx(4.0, rel=1e-6)


def test_the_gradient_of_spectral_norm_is_that_of_the_singular_vectors():
    weights = np.random.default_rng(5).normal(size=(4, 6))
    left, values, right = np.linalg.svd(weights)
    expected = 2 * 0.5 * (values[0] - 1) * np.outer(left[:, 0], right[0])
    slope = gradient(SpectralNorm(0.5, 1.0), weights.astype("float32"))
    np.testing.assert_allclose(slope, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("target", [0.0, 1.0])
def test_the_gradient_of_spectral_norm_is_finite_where_values_are_equal(
    target,
):
    weights = 3 * np.eye(4, dtype="float32")
    slope = gradient(SpectralNorm(1.0, target), weights)
    # Of one of the largest: the slope of it, and of no other.
    slopes = np.linalg.svd(slope.astype("float64"), compute_uv=False)
    np.testing.assert_allclose(
        slopes, [2 * (3 - target), 0, 0, 0], rtol=1e-5, atol=1e-6
    )
    of_zeros = gradient(SpectralNorm(1.0, target), np.zeros((3, 2), "float32"))
    np.testing.assert_array_equal(of_zeros, 0.0)


@pytest.mark.parametrize("size", [1e-15, 1e15])
def test_spectral_norm_is_right_for_weights_of_any_size(size):
    weights = np.random.default_rng(5).normal(size=(4, 6)) * size
    value = number(SpectralNorm(1.0)(weights.astype("float32")))
    expected = largest_singular_value(weights) ** 2
    assert value == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_spectral_norm_of_weights_that_are_not_finite_is_not_finite(bad):
    weights = np.ones((3, 2), "float32")
    weights[1, 0] = bad
    assert not np.isfinite(number(SpectralNorm(1.0)(weights)))


def test_spectral_norm_of_no_weights_is_the_target():
    value = number(SpectralNorm(1.0, target=2.0)(np.ones((3, 0), "float32")))
    assert value == 4.0


def test_spectral_norm_can_be_mapped_over_kernels():
    kernels = np.random.default_rng(5).normal(size=(3, 4, 6))
    values = ops.vectorized_map(
        SpectralNorm(1.0), ops.convert_to_tensor(kernels.astype("float32"))
    )
    expected = [largest_singular_value(kernel) ** 2 for kernel in kernels]
    np.testing.assert_allclose(
        ops.convert_to_numpy(values), expected, rtol=1e-5
    )


def test_training_takes_the_largest_singular_value_to_the_target():
    dense = keras.layers.Dense(
        6,
        use_bias=False,
        kernel_initializer=keras.initializers.RandomNormal(seed=1),
        kernel_regularizer=SpectralNorm(1.0, target=1.0),
    )
    model = keras.Sequential([keras.Input((4,)), dense])
    # Of inputs of zeros, the loss is the penalty alone.
    model.compile(
        keras.optimizers.SGD(0.1), "mse", jit_compile=BACKEND != "torch"
    )
    model.fit(np.zeros((80, 4)), np.zeros((80, 6)), batch_size=1, verbose=0)
    kernel = ops.convert_to_numpy(dense.kernel)
    assert largest_singular_value(kernel) == pytest.approx(1.0, rel=1e-5)
