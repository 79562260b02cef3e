"""The proximal steps of penalties that are not convex: no point costs less."""

import numpy as np
import pytest
from keras import ops

from l2keras import L1, MCP, SCAD, GroupLasso, GroupMCP, reference
from l2keras.regularizers.proximal_terms import proximal_terms, stepped
from tests.support import BACKEND

PENALTIES = {
    "MCP": (MCP(1.0, gamma=0.75), lambda u: reference.mcp(u, 1.0, 0.75)),
    "SCAD": (SCAD(1.0, gamma=0.75), lambda u: reference.scad(u, 1.0, 0.75)),
    "SCAD, a=1.5": (
        SCAD(1.0, gamma=0.75, a=1.5),
        lambda u: reference.scad(u, 1.0, 0.75, a=1.5),
    ),
}

# From steps under which the cost is convex to such that are far beyond.
THRESHOLDS = [1e-3, 0.1, 0.3, 0.5, 0.74, 0.76, 1.0, 1.5, 4.0, 1e3]


def after_step(regularizer, weights, thresholds):
    (term,) = proximal_terms(regularizer, weights.shape)
    found = stepped([term], ops.array(weights), [ops.array(thresholds)])
    return ops.convert_to_numpy(found).astype("float64")


@pytest.mark.parametrize("each_its_own", [False, True])
@pytest.mark.parametrize("threshold", THRESHOLDS)
@pytest.mark.parametrize(
    ("regularizer", "penalty"), PENALTIES.values(), ids=PENALTIES
)
def test_a_step_of_single_weights_is_the_cheapest_of_all(
    regularizer, penalty, threshold, each_its_own
):
    weights = np.linspace(-2, 2, 81).astype("float32")
    t = np.float32(threshold)
    if each_its_own:
        t = np.full(weights.shape, t)
    after = after_step(regularizer, weights, t)
    grid = np.linspace(-2, 2, 4001)  # With the weights, and zero, in it.
    costs = np.array([penalty(point) for point in grid])
    for weight, found in zip(weights.astype("float64"), after, strict=True):
        spent = (found - weight) ** 2 / (2 * threshold) + penalty(found)
        least = ((grid - weight) ** 2 / (2 * threshold) + costs).min()
        assert spent <= least + 1e-6 * max(1.0, least)
    assert (after == 0).any()


def least_of_group(weights, thresholds, gamma):
    """The least cost of a group, by its norm in fine steps, in float64.

    Of a given norm the cheapest weights are `w / (1 + m t)`, for one `m`.
    """
    m = np.array([0.0, *np.logspace(-8, 12, 20001)])
    after = weights[:, None] / (1 + m * thresholds[:, None])
    moved = (after - weights[:, None]) ** 2 / (2 * thresholds[:, None])
    n = np.minimum(np.sqrt((after**2).sum(axis=0)), gamma)
    return (moved.sum(axis=0) + n - n**2 / (2 * gamma)).min()


@pytest.mark.parametrize("spread", [0, 0.3, 1.0, 2.0])
def test_a_step_of_groups_is_the_cheapest_of_all(spread):
    rng = np.random.default_rng(0)
    gamma, groups = 1.5, 60
    weights = rng.normal(size=(4, groups)) * 10 ** rng.uniform(-2, 1, groups)
    if spread:
        t = 10 ** (spread * rng.normal(size=weights.shape))
        t = t * 10 ** rng.uniform(-2, 1, groups)
    else:
        t = np.array(0.6)
    weights, t = weights.astype("float32"), t.astype("float32")
    after = after_step(GroupMCP(1.0, gamma), weights, t)
    t = np.broadcast_to(t, weights.shape).astype("float64")
    weights = weights.astype("float64")
    ended = {"off": 0, "free": 0, "smaller": 0}
    for group in range(groups):
        w, u, own = weights[:, group], after[:, group], t[:, group]
        spent = ((u - w) ** 2 / (2 * own)).sum()
        spent += reference.group_mcp(u[:, None], 1.0, gamma)
        least = least_of_group(w, own, gamma)
        assert spent <= least * (1 + 1e-4) + 1e-6
        kind = "free" if (u == w).all() else "smaller"
        ended[kind if u.any() else "off"] += 1
    assert min(ended.values()) > 0


@pytest.mark.parametrize("threshold", ["number", "tensors"])
@pytest.mark.parametrize(
    ("concave", "convex"),
    [
        (MCP(1.0, 1e8), L1(1.0)),
        (SCAD(1.0, 1e8), L1(1.0)),
        (GroupMCP(1.0, 1e8), GroupLasso(1.0)),
    ],
    ids=repr,
)
def test_with_a_large_gamma_the_step_is_the_convex_one(
    concave, convex, threshold
):
    rng = np.random.default_rng(1)
    weights = rng.normal(size=(3, 20)).astype("float32")
    weights *= np.float32(10) ** rng.uniform(-2, 1, 20).astype("float32")
    t = np.float32(0.3)
    if threshold == "tensors":
        t = rng.uniform(0.1, 1.0, size=weights.shape).astype("float32")
    np.testing.assert_allclose(
        after_step(concave, weights, t),
        after_step(convex, weights, t),
        rtol=1e-5,
        atol=1e-6,
    )


@pytest.mark.parametrize("threshold", ["number", "tensors"])
@pytest.mark.parametrize(
    "regularizer", [MCP(1.0, 1.0), SCAD(1.0, 1.0), GroupMCP(1.0, 1.0)], ids=repr
)
def test_steps_at_the_limits(regularizer, threshold):
    weights = np.array([[3.0, np.nan, 0.1, 0.0], [4.0, 1.0, 0.1, 0.0]], "f4")

    def after(t):
        t = np.float32(t)
        return after_step(
            regularizer,
            weights,
            t if threshold == "number" else np.full(weights.shape, t),
        )

    # None moves nothing, a large one takes all but what is not a number.
    np.testing.assert_allclose(
        after(0.0)[:, [0, 2, 3]], weights[:, [0, 2, 3]], rtol=1e-6
    )
    for large in (1e3, 1e10, 1e30):
        np.testing.assert_array_equal(after(large)[:, [0, 2, 3]], 0.0)
        assert np.isnan(after(large)[0, 1])
    # What is beyond gamma is as it was, to the last bit.
    np.testing.assert_array_equal(after(0.5)[:, 0], weights[:, 0])
    np.testing.assert_array_equal(after(0.5)[:, 2], 0.0)


def test_steps_of_float64_are_in_float64():
    if BACKEND == "jax":
        pytest.skip("JAX is in float32 by default")
    weights = np.array([[0.5, 2.0], [0.3, 0.1]])
    after = after_step(MCP(1.0, 1.0), weights, np.array(0.2))
    np.testing.assert_allclose(
        after, [[(0.5 - 0.2) / 0.8, 2.0], [(0.3 - 0.2) / 0.8, 0.0]], rtol=1e-15
    )
