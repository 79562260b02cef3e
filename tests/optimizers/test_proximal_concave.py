"""Least squares under `Proximal`, to the stationary point of MCP and SCAD.

The judge is proximal gradient descent in NumPy and float64, with the steps as
the literature writes them, in its own parameters. The data are such that loss
and penalty together are convex, so that there is one stationary point.
"""

import keras
import numpy as np
import pytest

from l2keras import MCP, SCAD, GroupMCP, Proximal
from tests.support import BACKEND

ROWS, INPUTS, OUTPUTS = 64, 12, 3
STRENGTH, GAMMA = 0.1, 1.5
RNG = np.random.default_rng(11)
X = np.linalg.qr(RNG.normal(size=(ROWS, INPUTS)))[0] * ROWS**0.5
X = (X @ (np.eye(INPUTS) + 0.1 * RNG.normal(size=(INPUTS, INPUTS)))).astype(
    "float32"
)
TRUE = RNG.normal(size=(INPUTS, OUTPUTS)) * (
    RNG.uniform(size=(INPUTS, 1)) > 0.5
)
Y = (X @ TRUE + 0.3 * RNG.normal(size=(ROWS, OUTPUTS))).astype("float32")


def firm_threshold(z, step):
    """Zhang 2010, of `lam * MCP(lam, g)`, with `g = gamma / lam`."""
    lam, g = STRENGTH, GAMMA / STRENGTH
    inside = np.sign(z) * np.maximum(np.abs(z) - step * lam, 0)
    return np.where(np.abs(z) <= g * lam, inside / (1 - step / g), z)


def scad_threshold(z, step):
    """Fan & Li 2001, with `lambda = gamma / a`; their penalty, scaled."""
    a = 3.7
    lam = GAMMA / a
    t = step * STRENGTH / lam  # A step on the penalty of Fan & Li.
    size = np.abs(z)
    soft = np.maximum(size - t * lam, 0)
    bent = ((a - 1) * size - a * lam * t) / (a - 1 - t)
    return np.sign(z) * np.where(
        size <= lam * (1 + t), soft, np.where(size <= a * lam, bent, size)
    )


def group_firm_threshold(z, step):
    """Breheny & Huang 2015: of the norms of the inputs' weights."""
    norm = np.sqrt((z**2).sum(axis=1, keepdims=True))
    return z * firm_threshold(norm, step) / np.maximum(norm, 1e-300)


CASES = {
    "MCP": (MCP(STRENGTH, GAMMA), firm_threshold),
    "SCAD": (SCAD(STRENGTH, GAMMA), scad_threshold),
    "GroupMCP": (GroupMCP(STRENGTH, GAMMA, axis=0), group_firm_threshold),
}


def stationary_point(step_of):
    x, y, w = X.astype("f8"), Y.astype("f8"), np.zeros((INPUTS, OUTPUTS))
    curvature = 2 * x.T @ x / (ROWS * OUTPUTS)
    low, *_, high = np.linalg.eigvalsh(curvature)
    assert low > STRENGTH / (GAMMA * (1 - 1 / 3.7))  # Together they are convex.
    for _ in range(5000):
        slope = 2 * x.T @ (x @ w - y) / (ROWS * OUTPUTS)
        w = step_of(w - slope / high, 1 / high)
    return w


def trained(regularizer, optimizer, steps):
    model = keras.Sequential(
        [
            keras.Input((INPUTS,)),
            keras.layers.Dense(
                OUTPUTS,
                use_bias=False,
                kernel_initializer=keras.initializers.RandomNormal(seed=1),
                kernel_regularizer=regularizer,
            ),
        ]
    )
    model.compile(Proximal(optimizer), "mse")
    model.fit(X, Y, batch_size=ROWS, epochs=steps, verbose=0, shuffle=False)
    return model.get_weights()[0].astype("float64")


@pytest.mark.parametrize(("regularizer", "step_of"), CASES.values(), ids=CASES)
def test_training_ends_at_the_stationary_point(regularizer, step_of):
    expected = stationary_point(step_of)
    assert 0 < (expected == 0).mean() < 1
    assert (np.abs(expected) > GAMMA).any()
    optimizer = keras.optimizers.SGD(0.2, momentum=0.8)
    found = trained(regularizer, optimizer, steps=300)
    np.testing.assert_array_equal(found == 0, expected == 0)
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.skipif(BACKEND == "torch", reason="runs eagerly, and is slow")
@pytest.mark.parametrize(("regularizer", "step_of"), CASES.values(), ids=CASES)
def test_so_does_training_by_adam(regularizer, step_of):
    expected = stationary_point(step_of)
    rate = keras.optimizers.schedules.CosineDecay(0.02, decay_steps=1500)
    found = trained(regularizer, keras.optimizers.Adam(rate), steps=1500)
    np.testing.assert_array_equal(found == 0, expected == 0)
    np.testing.assert_allclose(found, expected, atol=1e-4)
