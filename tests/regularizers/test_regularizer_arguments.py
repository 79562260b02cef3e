"""Wrong configs, axes and sums, and the messages."""

import copy

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
    GroupLasso,
    GroupMCP,
    HoyerSquare,
    KLSparsity,
    LinearSchedule,
    Orthogonal,
    Smoothness,
    SpectralNorm,
    Sum,
)


@pytest.mark.parametrize(
    ("cls", "config", "message"),
    [
        (
            L2,
            {},
            "The config of `L2` must have the keys ['l2']. Missing: ['l2']. "
            "Received: config={}",
        ),
        (
            L1L2,
            {"l2": 0.1},
            "The config of `L1L2` must have the keys ['l1', 'l2']. Missing: "
            "['l1']. Received: config={'l2': 0.1}",
        ),
        (
            L2,
            {"l2": 0.1, "l3": 0.1},
            "The config of `L2` must have no keys but ['l2']. Unknown: "
            "['l3']. A newer version of `l2keras` may have written it. "
            "Received: config={'l2': 0.1, 'l3': 0.1}",
        ),
        (
            L2,
            {"l2": -0.1},
            "Argument `l2` must be a finite number >= 0 or a schedule. "
            "Received: l2=-0.1",
        ),
        (
            L2,
            {"l2": 0.1, "step": -1},
            "Argument `step` must be an integer >= 0. Received: step=-1",
        ),
        (
            L2,
            {"l2": 0.1, "scale": -1},
            "Argument `scale` must be a finite number >= 0. Received: scale=-1",
        ),
    ],
)
def test_a_config_has_the_right_keys(cls, config, message):
    with pytest.raises(ValueError, match="must") as error:
        cls.from_config(config)
    assert str(error.value) == message


def test_from_config_leaves_the_config_as_it_was():
    config = L2(LinearSchedule(0.0, 1.0, steps=10)).get_config()
    before = copy.deepcopy(config)
    L2.from_config(config)
    assert config == before


@pytest.mark.parametrize(
    "axis", [None, True, 1.0, "0", [], [0, None], [True], np.array([0, 1])]
)
def test_an_axis_must_be_an_integer_or_several(axis):
    with pytest.raises(TypeError) as error:
        GroupLasso(axis=axis)
    assert str(error.value) == (
        "Argument `axis` must be an integer or a list of integers. "
        f"Received: axis={axis!r}"
    )


@pytest.mark.parametrize(
    "make", [GroupMCP, Orthogonal, Smoothness, SpectralNorm]
)
def test_all_that_take_an_axis_check_it_alike(make):
    arguments = {"gamma": 1.0} if make is GroupMCP else {}
    with pytest.raises(TypeError, match="`axis` must be an integer or a list"):
        make(0.1, axis=[0, None], **arguments)
    with pytest.raises(ValueError, match="needs weights that have axis 2"):
        make(0.1, axis=2, **arguments)(ops.ones((3, 4)))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: MCP(0.1, gamma=0),
            "Argument `gamma` must be a finite number > 0. Received: gamma=0",
        ),
        (
            lambda: GroupMCP(0.1, gamma=-1.0),
            "Argument `gamma` must be a finite number > 0. "
            "Received: gamma=-1.0",
        ),
        (
            lambda: SCAD(0.1, gamma=float("inf")),
            "Argument `gamma` must be a finite number > 0. Received: gamma=inf",
        ),
        (
            lambda: SCAD(0.1, gamma=1.0, a=1.0),
            "Argument `a` must be a finite number > 1. Received: a=1.0",
        ),
        (
            lambda: SpectralNorm(target=-1.0),
            "Argument `target` must be a finite number >= 0. "
            "Received: target=-1.0",
        ),
        (
            lambda: KLSparsity(target=1.0),
            "Argument `target` must be a number between 0 and 1. "
            "Received: target=1.0",
        ),
    ],
)
def test_numbers_are_in_their_range(make, message):
    with pytest.raises(ValueError, match="must be") as error:
        make()
    assert str(error.value) == message


@pytest.mark.parametrize("make", [MCP, SCAD, GroupMCP])
def test_gamma_is_a_number(make):
    with pytest.raises(TypeError, match="`gamma` must be a finite number > 0"):
        make(0.1, gamma="1")


def test_normalized_is_a_boolean():
    with pytest.raises(TypeError) as error:
        HoyerSquare(normalized=1)
    assert str(error.value) == (
        "Argument `normalized` must be a boolean. Received: normalized=1"
    )


def test_scale_by_size_must_be_a_boolean():
    with pytest.raises(TypeError) as error:
        GroupLasso(scale_by_size=1)
    assert str(error.value) == (
        "Argument `scale_by_size` must be a boolean. Received: scale_by_size=1"
    )


@pytest.mark.parametrize(
    ("axis", "shape"), [(2, (3, 4)), (-3, (3, 4)), ([0, 2], (3, 4)), (-1, ())]
)
def test_weights_without_the_axis_are_refused(axis, shape):
    with pytest.raises(ValueError, match="needs weights") as error:
        GroupLasso(0.5, axis=axis)(ops.ones(shape))
    assert str(error.value) == (
        f"GroupLasso(strength=0.5, axis={axis}, scale_by_size=False) needs "
        f"weights that have axis {axis}. Received: weights of shape {shape}"
    )


def test_a_sum_needs_regularizers():
    with pytest.raises(ValueError, match="at least one") as error:
        Sum([])
    assert str(error.value) == (
        "Argument `regularizers` must have at least one entry. "
        "Received: regularizers=[]"
    )


def test_the_regularizers_of_a_sum_must_be_a_list():
    part = L2(0.1)
    with pytest.raises(TypeError) as error:
        Sum(part)
    assert str(error.value) == (
        "Argument `regularizers` must be a list of regularizers. "
        "Received: regularizers=L2(l2=0.1)"
    )


@pytest.mark.parametrize("part", [0.1, None, "l2", L2, keras.regularizers.L2])
def test_a_sum_of_other_objects_is_refused(part):
    with pytest.raises(TypeError) as error:
        Sum([L1(0.1), part])
    assert str(error.value) == (
        "Argument `regularizers[1]` must be a regularizer, as an instance and "
        f"not as a class. Received: regularizers[1]={part!r}"
    )


@pytest.mark.parametrize("other", [0.1, None, "l2", L2])
def test_adding_another_object_is_refused(other):
    with pytest.raises(TypeError, match=r"unsupported operand type.* for \+"):
        L1(0.1) + other
    with pytest.raises(TypeError, match=r"unsupported operand|concatenate"):
        other + L1(0.1)


def test_a_sum_has_no_strength_of_its_own():
    for regularizer in (Sum([L1(0.1)]), L1L2(0.1)):
        name = type(regularizer).__name__
        with pytest.raises(AttributeError) as error:
            _ = regularizer.strength
        assert str(error.value) == (
            f"`{name}` has no strength of its own. Its `regularizers` have one "
            "each."
        )
