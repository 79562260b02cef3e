"""The formulas in NumPy are the truth of the other tests: these are by hand."""

import numpy as np
import pytest

from l2keras import reference
from l2keras.reference import (
    group_lasso,
    l1_regularization,
    l2_regularization,
)

KERNEL = np.array([[1.0, -2.0], [0.5, 0.0]])
BIAS = np.array([-1.0, 3.0])


def test_the_documented_example():
    # 0.01 * (1 + 4 + 0.25 + 0 + 1 + 9)
    assert l2_regularization([KERNEL, BIAS], 0.01) == pytest.approx(0.1525)


def test_l1_by_hand():
    assert l1_regularization(KERNEL, 0.01) == pytest.approx(0.035)
    assert l1_regularization([KERNEL, BIAS], 0.01) == pytest.approx(0.075)


def test_l2_by_hand():
    assert l2_regularization(KERNEL, 0.5) == 2.625
    assert l2_regularization(BIAS, 1.0) == 10.0


def test_the_default_strength_is_one_hundredth():
    assert l1_regularization(BIAS) == pytest.approx(0.04)
    assert l2_regularization(BIAS) == pytest.approx(0.1)
    assert group_lasso(BIAS) == pytest.approx(0.04)


@pytest.mark.parametrize("penalty", [l1_regularization, l2_regularization])
def test_the_penalty_of_several_arrays_is_their_sum(penalty):
    both = penalty(KERNEL, 0.3) + penalty(BIAS, 0.3)
    assert penalty([KERNEL, BIAS], 0.3) == pytest.approx(both)
    assert penalty((KERNEL, BIAS), 0.3) == pytest.approx(both)
    assert penalty([], 0.3) == 0.0


@pytest.mark.parametrize(
    ("axis", "expected"),
    [
        (-1, 5.0 + 12.0),  # The columns (3, 4) and (0, 12).
        (1, 5.0 + 12.0),
        (0, 3.0 + 160**0.5),  # The rows (3, 0) and (4, 12).
        ([0, 1], 3.0 + 0.0 + 4.0 + 12.0),  # Each weight alone.
        ([1, -1], 5.0 + 12.0),  # One axis, named twice.
    ],
    ids=str,
)
def test_group_lasso_by_hand(axis, expected):
    weights = [[3.0, 0.0], [4.0, 12.0]]
    assert group_lasso(weights, 1.0, axis) == pytest.approx(expected)
    assert group_lasso(weights, 0.5, axis) == pytest.approx(expected / 2)


def test_group_lasso_scaled_by_size_by_hand():
    weights = np.ones((4, 9, 2))
    # Two groups of 36 weights, each of norm 6, times the root of 36.
    assert group_lasso(weights, 1.0, scale_by_size=True) == pytest.approx(72.0)
    # Four groups of 18 weights, each of norm and of root of size 18 ** 0.5.
    assert group_lasso(weights, 1.0, 0, True) == pytest.approx(72.0)
    # Single weights have size 1.
    assert group_lasso(weights, 1.0, [0, 1, 2], True) == pytest.approx(72.0)


def test_zero_weights_and_zero_strengths_have_no_penalty():
    for penalty in (l1_regularization, l2_regularization, group_lasso):
        assert penalty(np.zeros((3, 4)), 0.5) == 0.0
        assert penalty(KERNEL, 0.0) == 0.0


def test_values_are_python_floats_summed_in_float64():
    kernel = np.full((1024, 1024), 0.3, "float16")
    exact = float(np.float16(0.3)) ** 2 * 2**20
    value = l2_regularization(kernel, 1.0)
    assert type(value) is float
    assert value == pytest.approx(exact, rel=1e-12)
    assert type(l1_regularization(kernel)) is type(group_lasso(kernel)) is float


@pytest.mark.parametrize("axis", [2, -3])
def test_group_lasso_needs_the_axis(axis):
    # As the class does; NumPy has an error for it.
    with pytest.raises(ValueError, match="axis"):
        group_lasso(KERNEL, 0.5, axis)


def test_every_function_is_documented_with_an_example():
    for name in ("group_lasso", "l1_regularization", "l2_regularization"):
        assert ">>> " in getattr(reference, name).__doc__
