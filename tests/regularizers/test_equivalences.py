"""Regularizers that equal those of Keras, or one another."""

import inspect

import keras
import numpy as np
import pytest
from keras import ops

import l2keras
from l2keras import (
    L1,
    L1L2,
    L2,
    GroupLasso,
    JoinedSchedule,
    LinearSchedule,
    Sum,
    reference,
)
from tests.support import number
from tests.support.regularizer_rows import (
    SHAPES,
    STRENGTH,
    each_regularizer,
    some_weights,
    through_json,
)

# Keras's own classes ----------------------------------------------------------

TWINS = [
    pytest.param(L1, keras.regularizers.L1, (0.05,), id="L1"),
    pytest.param(L2, keras.regularizers.L2, (0.05,), id="L2"),
    pytest.param(L1L2, keras.regularizers.L1L2, (0.05, 0.02), id="L1L2"),
]


@pytest.mark.parametrize(("ours", "theirs", "arguments"), TWINS)
def test_keras_gives_the_same_value(ours, theirs, arguments):
    for shape in SHAPES:
        weights = ops.array(some_weights(*shape))
        np.testing.assert_allclose(
            number(ours(*arguments)(weights)),
            number(theirs(*arguments)(weights)),
            rtol=1e-6,
        )


@pytest.mark.parametrize(("ours", "theirs", "arguments"), TWINS)
def test_keras_has_the_same_arguments(ours, theirs, arguments):
    def signature(cls):
        parameters = inspect.signature(cls).parameters.values()
        return [(each.name, each.default) for each in parameters]

    assert signature(ours) == signature(theirs)


@pytest.mark.parametrize(("ours", "theirs", "arguments"), TWINS)
def test_keras_reads_the_config_and_the_other_way_round(
    ours, theirs, arguments
):
    for given in ((), arguments):
        config = theirs(*given).get_config()
        # Keras's L1 passes its strength through float32.
        assert ours(*given).get_config() == pytest.approx(config, rel=1e-7)
        assert list(ours(*given).get_config()) == list(config)
        assert ours.from_config(config).get_config() == config
        again = theirs.from_config(ours(*given).get_config())
        assert again.get_config() == pytest.approx(config, rel=1e-7)


def test_the_config_of_a_constant_strength_equals_that_of_keras():
    assert L1(0.25).get_config() == keras.regularizers.L1(0.25).get_config()
    assert L2(0.01).get_config() == keras.regularizers.L2(0.01).get_config()
    assert L2(0.01).get_config() == {"l2": 0.01}
    assert (
        L1L2(0.01, 0.02).get_config()
        == keras.regularizers.L1L2(0.01, 0.02).get_config()
        == {"l1": 0.01, "l2": 0.02}
    )


@pytest.mark.parametrize(("ours", "theirs", "arguments"), TWINS)
def test_keras_get_and_serialize_accept_ours(ours, theirs, arguments):
    regularizer = ours(*arguments)
    assert keras.regularizers.get(regularizer) is regularizer
    config = keras.regularizers.serialize(regularizer)
    assert config["registered_name"] == f"l2keras>{ours.__name__}"
    again = keras.regularizers.deserialize(config)
    assert type(again) is ours
    assert again.get_config() == regularizer.get_config()


@pytest.mark.parametrize("name", ["L1", "L2", "L1L2"])
def test_none_is_the_default_as_in_keras(name):
    ours, theirs = getattr(l2keras, name), getattr(keras.regularizers, name)
    config = ours(None).get_config()
    assert config == ours().get_config()
    # Keras keeps the strength of its `L1` in float32.
    assert config == pytest.approx(theirs(None).get_config())
    assert L1L2(None, 0.5).get_config() == {"l1": 0.0, "l2": 0.5}


# One class by another ---------------------------------------------------------


def assert_equivalent(one, other, *shapes):
    for shape in shapes or SHAPES:
        weights = ops.array(some_weights(*shape))
        np.testing.assert_allclose(
            number(one(weights)), number(other(weights)), rtol=1e-6
        )


def test_l1l2_with_one_zero_is_the_other():
    assert_equivalent(L1L2(0.3, 0.0), L1(0.3))
    assert_equivalent(L1L2(0.0, 0.3), L2(0.3))


def test_l1l2_of_zero_strengths_is_zero():
    assert number(L1L2()(ops.ones((3,)))) == 0.0


def test_group_lasso_of_single_weights_is_l1():
    assert_equivalent(GroupLasso(0.3), L1(0.3), (6,))
    assert_equivalent(GroupLasso(0.3, axis=[0, 1]), L1(0.3), (3, 4))
    assert_equivalent(
        GroupLasso(0.3, axis=[0, 1, 2, 3], scale_by_size=True),
        L1(0.3),
        (3, 2, 4, 5),
    )


def test_group_lasso_of_one_group_is_the_euclidean_norm():
    weights = some_weights(5, 1)
    np.testing.assert_allclose(
        number(GroupLasso(0.3)(weights)),
        0.3 * np.linalg.norm(weights),
        rtol=1e-6,
    )


def test_the_axis_of_group_lasso_names_the_groups():
    weights = np.array([[3.0, 0.0], [4.0, 12.0]], "float32")
    np.testing.assert_allclose(
        number(GroupLasso(1.0)(weights)), 5.0 + 12.0, rtol=1e-6
    )
    np.testing.assert_allclose(
        number(GroupLasso(1.0, axis=0)(weights)), 3.0 + 160**0.5, rtol=1e-6
    )
    np.testing.assert_allclose(
        number(GroupLasso(1.0, axis=[0, -1])(weights)), 19.0, rtol=1e-6
    )


def test_an_axis_can_be_written_in_several_ways():
    for one, other in [(1, -1), (0, -2), ([1], -1), ((0, 1), [-1, -2])]:
        assert_equivalent(
            GroupLasso(0.3, axis=one), GroupLasso(0.3, axis=other), (3, 4)
        )
    assert GroupLasso(axis=(0, 1)).get_config()["axis"] == [0, 1]


def test_scale_by_size_multiplies_by_the_root_of_the_size():
    for axis, shape, size in [
        (-1, (3, 4), 3),
        (0, (3, 4), 4),
        (-1, (3, 2, 4, 5), 24),
        ([0, 1], (3, 2, 4, 5), 20),
    ]:
        assert_equivalent(
            GroupLasso(0.3, axis=axis, scale_by_size=True),
            GroupLasso(0.3 * size**0.5, axis=axis),
            shape,
        )


def test_a_sum_is_the_sum_of_its_parts():
    parts = [L1(0.1), L2(0.2), GroupLasso(0.3)]
    weights = ops.array(some_weights(3, 4))
    expected = sum(number(part(weights)) for part in parts)
    for together in (
        Sum(parts),
        Sum(tuple(parts)),
        parts[0] + parts[1] + parts[2],
        parts[0] + (parts[1] + parts[2]),
        sum(parts[1:], start=parts[0]),
    ):
        assert type(together) is Sum
        assert together.regularizers == parts
        np.testing.assert_allclose(
            number(together(weights)), expected, rtol=1e-6
        )


def test_a_sum_may_have_regularizers_of_keras():
    ours, theirs = L1(0.1), keras.regularizers.L2(0.2)
    weights = some_weights(3, 4)
    expected = reference.l1_regularization(weights, 0.1)
    expected += reference.l2_regularization(weights, 0.2)
    for together, order in [
        (ours + theirs, [ours, theirs]),
        (theirs + ours, [theirs, ours]),
        (Sum([ours]) + theirs, [ours, theirs]),
        (theirs + Sum([ours]), [theirs, ours]),
    ]:
        assert type(together) is Sum
        assert together.regularizers == order
        for again in (together, through_json(together)):
            np.testing.assert_allclose(
                number(again(ops.array(weights))), expected, rtol=1e-6
            )


def test_a_keras_regularizer_in_a_sum_is_computed_in_float32():
    weights = ops.full((1024, 1024), 0.3, dtype="float16")
    together = keras.regularizers.L2(0.01) + L1(0.0)
    np.testing.assert_allclose(number(together(weights)), 944.02, atol=0.01)


def test_adding_leaves_both_operands_unchanged():
    first, second = Sum([L1(0.1)]), Sum([L2(0.2)])
    parts = [*first.regularizers, *second.regularizers]
    assert (first + second).regularizers == parts
    assert (len(first.regularizers), len(second.regularizers)) == (1, 1)


@each_regularizer
def test_a_constant_schedule_is_a_number(make, truth):
    constant = JoinedSchedule([STRENGTH], [])
    assert_equivalent(make(constant), make(STRENGTH))


def test_strength_is_the_given_argument():
    schedule = LinearSchedule(0.0, 1.0, steps=10)
    assert L1(0.5).strength == L1(0.5).l1 == 0.5
    assert L2(0.5).strength == L2(0.5).l2 == 0.5
    assert L2(schedule).strength is L2(schedule).l2 is schedule
    assert GroupLasso(0.5).strength == 0.5
    assert (L1L2(0.5, 0.25).l1, L1L2(0.5, 0.25).l2) == (0.5, 0.25)
    for given in (np.float32(0.5), np.array(0.5), ops.array(0.5), 1):
        assert type(L2(given).strength) is float


def test_repr_is_the_call_that_makes_it():
    for regularizer, expected in [
        (L1(), "L1(l1=0.01)"),
        (L2(0.5), "L2(l2=0.5)"),
        (L1L2(0.5), "L1L2(l1=0.5, l2=0.0)"),
        (
            GroupLasso(0.5, axis=(0, 1)),
            "GroupLasso(strength=0.5, axis=[0, 1], scale_by_size=False)",
        ),
        (L1(1) + L2(2), "L1(l1=1.0) + L2(l2=2.0)"),
        (
            L2(LinearSchedule(0, 1, 9)),
            "L2(l2=LinearSchedule(initial_value=0.0, end_value=1.0, steps=9, "
            "begin=0))",
        ),
    ]:
        assert repr(regularizer) == expected
