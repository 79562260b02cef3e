"""The table of proximal operators, and weights to apply them to."""

import numpy as np

from l2keras import L1, L1L2, L2, GroupLasso

# A row: how to make the regularizer, and its penalty in NumPy.
OPERATORS = {
    "L1": (L1(1.0), lambda u: np.abs(u).sum()),
    # The smooth part has no step.
    "L1L2": (L1L2(0.5, 3.0), lambda u: 0.5 * np.abs(u).sum()),
    "units": (
        GroupLasso(2.0),
        lambda u: 2.0 * np.sqrt((u**2).sum((0, 1))).sum(),
    ),
    "inputs": (
        GroupLasso(8.0, axis=1),
        lambda u: 8.0 * np.sqrt((u**2).sum((0, 2))).sum(),
    ),
    "pairs of axes": (
        GroupLasso(1.0, axis=[0, -1]),
        lambda u: np.sqrt((u**2).sum(1)).sum(),
    ),
    "elements": (
        GroupLasso(1.0, axis=[0, 1, 2]),
        lambda u: np.abs(u).sum(),
    ),
    "by size": (
        GroupLasso(0.5, scale_by_size=True),
        lambda u: 0.5 * 12**0.5 * np.sqrt((u**2).sum((0, 1))).sum(),
    ),
    "the same groups twice": (
        GroupLasso(1.5) + L2(1.0) + GroupLasso(0.5, axis=[2]),
        lambda u: 2.0 * np.sqrt((u**2).sum((0, 1))).sum(),
    ),
    "L1 and groups": (
        GroupLasso(1.0) + L1(0.25) + L1L2(0.25),
        lambda u: np.sqrt((u**2).sum((0, 1))).sum() + 0.5 * np.abs(u).sum(),
    ),
}


def drawn(spread, seed=0):
    """Returns weights in groups of several sizes, and their thresholds."""
    rng = np.random.default_rng(seed)
    weights = rng.normal(size=(3, 4, 20))
    for shape in ((1, 4, 1), (1, 1, 20)):
        weights *= 10 ** rng.uniform(-2, 0.5, size=shape)
    t = 0.4
    if spread:
        t = (t * 10 ** (spread * rng.normal(size=weights.shape))).astype("f4")
    return weights.astype("float32"), t
