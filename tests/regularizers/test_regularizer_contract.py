"""Each regularizer of the table keeps the whole contract."""

import inspect

import keras
import numpy as np
import pytest
from keras import ops

import l2keras
from l2keras import L2, Regularizer
from tests.support import BACKEND, number
from tests.support.gradients import differences, gradient
from tests.support.regularizer_rows import (
    ACTIVITY_ROWS,
    ROWS,
    SHAPES,
    STRENGTH,
    build,
    by_hand,
    each_regularizer,
    each_strength,
    each_that_is_not_zero_at_zero,
    each_that_is_zero_at_zero,
    some_weights,
)


def test_every_public_regularizer_has_a_row():
    public = {
        value
        for value in (getattr(l2keras, name) for name in l2keras.__all__)
        if inspect.isclass(value) and issubclass(value, Regularizer)
    }
    rows = {
        type(make(STRENGTH))
        for make, _ in [*ROWS.values(), *ACTIVITY_ROWS.values()]
    }
    assert public - {Regularizer} == rows


@each_regularizer
@each_strength
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_equals_numpy(make, truth, strength, shape):
    weights = some_weights(*shape)
    value = build(make, strength)(ops.array(weights))
    assert tuple(value.shape) == ()
    assert keras.backend.standardize_dtype(value.dtype) == "float32"
    np.testing.assert_allclose(
        number(value), truth(weights, STRENGTH), rtol=1e-5
    )


@each_regularizer
def test_a_variable_an_array_and_a_list_are_weights(make, truth):
    weights = some_weights(3, 4)
    regularizer, expected = make(STRENGTH), truth(weights, STRENGTH)
    for given in (keras.Variable(weights), weights, weights.tolist()):
        np.testing.assert_allclose(
            number(regularizer(given)), expected, rtol=1e-5
        )


@each_regularizer
def test_a_float64_array_is_weights_on_every_backend(make, truth):
    # NumPy's own default, which JAX takes as float32.
    weights = some_weights(3, 4).astype("float64")
    np.testing.assert_allclose(
        number(make(STRENGTH)(weights)), truth(weights, STRENGTH), rtol=1e-5
    )


@each_that_is_zero_at_zero
@each_strength
def test_is_zero_at_zero_and_never_negative(make, truth, strength):
    regularizer = build(make, strength)
    for shape in SHAPES:
        assert number(regularizer(ops.zeros(shape))) == 0.0
        assert number(regularizer(ops.array(-some_weights(*shape)))) > 0.0
    for shape in [(0, 4), (4, 0)]:
        assert number(regularizer(ops.zeros(shape))) == 0.0


@each_that_is_not_zero_at_zero
def test_equals_numpy_at_zero_and_where_there_are_no_weights(make, truth):
    for shape in [*SHAPES, (0, 4), (4, 0)]:
        np.testing.assert_allclose(
            number(make(STRENGTH)(ops.zeros(shape))),
            truth(np.zeros(shape), STRENGTH),
        )


@by_hand
@each_regularizer
@each_strength
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_gradient_is_zero_at_zero(make, truth, strength, shape):
    # Where there is a kink too. On JAX the gradient of `ops.abs` is 1 there,
    # which would pull each weight that is zero away from it.
    slopes = gradient(build(make, strength), np.zeros(shape, "float32"))
    np.testing.assert_array_equal(slopes, np.zeros(shape))


@by_hand
@each_regularizer
def test_gradient_is_finite_where_only_one_group_is_zero(make, truth):
    weights = some_weights(3, 4)
    weights[:, 1] = 0.0
    weights[2] = 0.0
    assert np.isfinite(gradient(make(STRENGTH), weights)).all()


@by_hand
@each_regularizer
@each_strength
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_gradient_equals_the_differences(make, truth, strength, shape):
    weights = some_weights(*shape)
    np.testing.assert_allclose(
        gradient(build(make, strength), weights),
        differences(lambda w: truth(w, STRENGTH), weights),
        rtol=1e-4,
        atol=1e-6,
    )


def test_gradient_of_l2_is_twice_strength_times_weights():
    weights = some_weights(3, 4)
    np.testing.assert_allclose(
        gradient(L2(0.25), weights), 2 * 0.25 * weights, rtol=1e-6
    )


@each_regularizer
@each_strength
def test_is_linear_in_the_strength(make, truth, strength):
    weights = ops.array(some_weights(3, 4))
    once = number(build(make, strength)(weights))
    for factor in (0.0, 0.5, 3.0):
        value = number(build(make, strength, factor * STRENGTH)(weights))
        np.testing.assert_allclose(value, factor * once, rtol=1e-6)


@each_regularizer
@each_strength
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_is_summed_in_float32(make, truth, strength, dtype):
    weights = ops.cast(some_weights(3, 4), dtype)
    value = build(make, strength)(weights)
    assert keras.backend.standardize_dtype(value.dtype) == "float32"
    exact = ops.convert_to_numpy(ops.cast(weights, "float32"))
    np.testing.assert_allclose(number(value), truth(exact, STRENGTH), rtol=1e-5)


@each_regularizer
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_a_large_kernel_in_half_precision_neither_overflows_nor_coarsens(
    make, truth, dtype
):
    # Keras's own L2 of this kernel is infinite in float16.
    weights = ops.full((1024, 1024), 0.3, dtype=dtype)
    exact = ops.convert_to_numpy(ops.cast(weights, "float32"))
    np.testing.assert_allclose(
        number(make(0.01)(weights)), truth(exact, 0.01), rtol=1e-4
    )


def test_l2_of_a_large_kernel_in_half_precision():
    weights = ops.full((1024, 1024), 0.3, dtype="float16")
    np.testing.assert_allclose(number(L2(0.01)(weights)), 944.02, atol=0.01)


@pytest.mark.skipif(BACKEND == "jax", reason="JAX is in float32 by default")
@each_regularizer
@each_strength
def test_float64_stays_float64(make, truth, strength):
    weights = some_weights(3, 4).astype("float64") / 3
    value = build(make, strength)(ops.convert_to_tensor(weights, "float64"))
    assert keras.backend.standardize_dtype(value.dtype) == "float64"
    np.testing.assert_allclose(
        number(value), truth(weights, STRENGTH), rtol=1e-13
    )


@each_regularizer
def test_integers_are_summed_in_float32(make, truth):
    weights = np.arange(-5, 7).reshape(3, 4)
    value = make(STRENGTH)(ops.array(weights, dtype="int32"))
    assert keras.backend.standardize_dtype(value.dtype) == "float32"
    np.testing.assert_allclose(
        number(value), truth(weights, STRENGTH), rtol=1e-6
    )


@pytest.mark.filterwarnings(
    "ignore:Dynamo detected a call to a `functools.lru_cache`"  # In Keras.
)
@each_regularizer
@each_strength
def test_compiled_equals_eager(make, truth, strength, compiled):
    regularizer = build(make, strength)
    for shape in SHAPES[1:]:
        weights = ops.array(some_weights(*shape))
        np.testing.assert_allclose(
            number(compiled(regularizer)(weights)),
            number(regularizer(weights)),
            rtol=1e-6,
        )
