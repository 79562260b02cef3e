"""The table of all regularizers, and how to make, copy and save a row's."""

import copy
import json
import pickle

import keras
import numpy as np
import pytest
from keras import ops

from l2keras import (
    L1,
    L1L2,
    L2,
    MCP,
    SCAD,
    FromStart,
    GroupLasso,
    GroupMCP,
    HoyerSquare,
    KLSparsity,
    LinearSchedule,
    Orthogonal,
    OrthogonalActivity,
    Regularizer,
    Smoothness,
    SpectralNorm,
    Sum,
    reference,
)
from tests.support import number

# These tests take the gradient of a scheduled penalty by hand, of which
# l2keras warns: the schedule stands still.
by_hand = pytest.mark.filterwarnings("ignore:.*nothing moves its schedule on")

# A row: how to make the regularizer of a strength, and its value in NumPy.
ROWS = {
    "L1": (L1, reference.l1_regularization),
    "L2": (L2, reference.l2_regularization),
    "L1L2": (
        lambda strength: L1L2(l1=strength, l2=strength),
        lambda w, strength: (
            reference.l1_regularization(w, strength)
            + reference.l2_regularization(w, strength)
        ),
    ),
    "L1L2, l1 only": (
        lambda strength: L1L2(l1=strength),
        reference.l1_regularization,
    ),
    "L1L2, l2 only": (
        lambda strength: L1L2(l2=strength),
        reference.l2_regularization,
    ),
    "GroupLasso": (GroupLasso, reference.group_lasso),
    "GroupLasso, axis=0": (
        lambda strength: GroupLasso(strength, axis=0),
        lambda w, strength: reference.group_lasso(w, strength, axis=0),
    ),
    "GroupLasso, axis=[0, -1]": (
        lambda strength: GroupLasso(strength, axis=[0, -1]),
        lambda w, strength: reference.group_lasso(w, strength, axis=[0, -1]),
    ),
    "GroupLasso, scale_by_size": (
        lambda strength: GroupLasso(strength, scale_by_size=True),
        lambda w, strength: reference.group_lasso(
            w, strength, scale_by_size=True
        ),
    ),
    # Some of the weights are beyond `gamma`.
    "MCP": (
        lambda strength: MCP(strength, gamma=1.0),
        lambda w, strength: reference.mcp(w, strength, gamma=1.0),
    ),
    "SCAD": (
        lambda strength: SCAD(strength, gamma=1.0),
        lambda w, strength: reference.scad(w, strength, gamma=1.0),
    ),
    "GroupMCP": (
        lambda strength: GroupMCP(strength, gamma=2.0),
        lambda w, strength: reference.group_mcp(w, strength, gamma=2.0),
    ),
    "GroupMCP, axis=0": (
        lambda strength: GroupMCP(strength, 2.0, axis=0),
        lambda w, strength: reference.group_mcp(w, strength, 2.0, axis=0),
    ),
    "Orthogonal": (Orthogonal, reference.orthogonal),
    "Orthogonal, axis=0": (
        lambda strength: Orthogonal(strength, axis=0),
        lambda w, strength: reference.orthogonal(w, strength, axis=0),
    ),
    "SpectralNorm": (SpectralNorm, reference.spectral_norm),
    "SpectralNorm, target=1, axis=0": (
        lambda strength: SpectralNorm(strength, 1.0, axis=0),
        lambda w, strength: reference.spectral_norm(w, strength, 1.0, axis=0),
    ),
    "HoyerSquare": (HoyerSquare, reference.hoyer_square),
    "HoyerSquare, normalized": (
        lambda strength: HoyerSquare(strength, normalized=True),
        lambda w, strength: reference.hoyer_square(
            w, strength, normalized=True
        ),
    ),
    "Smoothness": (Smoothness, reference.smoothness),
    "Smoothness, axis=[0, -1]": (
        lambda strength: Smoothness(strength, axis=[0, -1]),
        lambda w, strength: reference.smoothness(w, strength, axis=[0, -1]),
    ),
    # A start of the weight's own is known in a model only.
    "FromStart": (
        lambda strength: FromStart(L2(strength), start=0.0),
        reference.l2_regularization,
    ),
    "Sum": (
        lambda strength: Sum([L1(strength), GroupLasso(strength, axis=0)]),
        lambda w, strength: (
            reference.l1_regularization(w, strength)
            + reference.group_lasso(w, strength, axis=0)
        ),
    ),
    "Sum of sums": (
        lambda strength: Sum([Sum([L2(strength)]), L1L2(l2=strength)]),
        lambda w, strength: 2 * reference.l2_regularization(w, strength),
    ),
}

# Those whose penalty of zeros is not zero.
NOT_ZERO_AT_ZERO = {
    "Orthogonal",
    "Orthogonal, axis=0",
    "SpectralNorm, target=1, axis=0",
}

# The same for what a layer returns, of which the contract is smaller.
ACTIVITY_ROWS = {
    "KLSparsity": (KLSparsity, reference.kl_sparsity),
    "KLSparsity, target": (
        lambda strength: KLSparsity(strength, target=0.4),
        lambda outputs, strength: reference.kl_sparsity(outputs, strength, 0.4),
    ),
    "OrthogonalActivity": (OrthogonalActivity, reference.orthogonal_activity),
}

# A float32 has both exactly, so that nothing is lost to rounding.
STRENGTH, STEP = 0.125, 5

each_regularizer = pytest.mark.parametrize(
    ("make", "truth"),
    [pytest.param(*row, id=name) for name, row in ROWS.items()],
)
each_that_is_zero_at_zero = pytest.mark.parametrize(
    ("make", "truth"),
    [
        pytest.param(*row, id=name)
        for name, row in ROWS.items()
        if name not in NOT_ZERO_AT_ZERO
    ],
)
each_that_is_not_zero_at_zero = pytest.mark.parametrize(
    ("make", "truth"),
    [pytest.param(*ROWS[name], id=name) for name in sorted(NOT_ZERO_AT_ZERO)],
)
each_of_activities = pytest.mark.parametrize(
    ("make", "truth"),
    [pytest.param(*row, id=name) for name, row in ACTIVITY_ROWS.items()],
)
each_strength = pytest.mark.parametrize("strength", ["constant", "scheduled"])


def build(make, strength="constant", value=STRENGTH):
    """Returns the regularizer of a row, whose strength is `value` now."""
    if strength == "constant":
        return make(value)
    regularizer = make(LinearSchedule(0.0, 2 * value, steps=2 * STEP))
    return type(regularizer).from_config(
        {**regularizer.get_config(), "step": STEP}
    )


def some_weights(*shape):
    """Returns weights in float32 that are neither near zero nor all alike."""
    rng = np.random.default_rng(7)
    signs = rng.choice([-1.0, 1.0], size=shape)
    return (signs * rng.uniform(0.2, 1.5, size=shape)).astype("float32")


# Of rank 1 to 5: those of a bias, a Dense and a Conv2D kernel among them.
SHAPES = [(6,), (3, 4), (4, 2, 5), (3, 2, 4, 5), (3, 2, 2, 2, 3)]


def same(regularizer):
    """Returns a regularizer made from the config of another."""
    return type(regularizer).from_config(regularizer.get_config())


def through_json(regularizer):
    """Returns the object that Keras reads from the JSON that it wrote."""
    config = keras.saving.serialize_keras_object(regularizer)
    return keras.saving.deserialize_keras_object(json.loads(json.dumps(config)))


def through_pickle(regularizer):
    return pickle.loads(pickle.dumps(regularizer))


COPIES = [same, through_json, through_pickle, copy.copy, copy.deepcopy]


def small_model(regularizer):
    return keras.Sequential(
        [
            keras.Input((3,)),
            keras.layers.Dense(
                4,
                kernel_regularizer=regularizer,
                bias_initializer="random_normal",
                bias_regularizer=regularizer,
            ),
        ]
    )


def losses(model):
    return [number(loss) for loss in model.losses]


@keras.saving.register_keras_serializable(package="l2keras_tests")
class Power(Regularizer):
    """A subclass with an argument, and no `get_config`."""

    def __init__(self, strength=0.01, exponent=3.0):
        super().__init__(strength)
        self.exponent = exponent

    def penalty(self, weights):
        return ops.sum(ops.abs(weights) ** self.exponent)
