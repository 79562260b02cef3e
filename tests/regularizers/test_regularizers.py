"""Each regularizer has one row in a table, and keeps the whole contract."""

import copy
import inspect
import json
import math
import pickle

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
    Regularizer,
    Sum,
    reference,
)

BACKEND = keras.backend.backend()

# Taking the gradient of a scheduled penalty by hand is what these tests do, and
# what l2keras warns of: the schedule stands still.
by_hand = pytest.mark.filterwarnings("ignore:.*nothing moves its schedule on")


# The contract -----------------------------------------------------------------
#
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

# A float32 has both exactly, so that nothing is lost to rounding.
STRENGTH, STEP = 0.125, 5

each_regularizer = pytest.mark.parametrize(
    ("make", "truth"),
    [pytest.param(*row, id=name) for name, row in ROWS.items()],
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


SHAPES = [(6,), (3, 4), (3, 2, 4, 5)]  # A bias, a Dense and a Conv2D kernel.


def number(tensor):
    """Returns a scalar of any backend as a Python float."""
    return float(ops.convert_to_numpy(tensor))


def gradient(function, array):
    """Returns the gradient of a scalar function at a NumPy array."""
    if BACKEND == "tensorflow":
        import tensorflow as tf

        point = tf.constant(array)
        with tf.GradientTape() as tape:
            tape.watch(point)
            value = function(point)
        return tape.gradient(value, point).numpy()
    if BACKEND == "jax":
        import jax

        return np.asarray(jax.grad(function)(jax.numpy.asarray(array)))
    import torch

    point = torch.tensor(array, requires_grad=True)
    return torch.autograd.grad(function(point), point)[0].numpy()


def differences(function, array, width=1e-5):
    """Returns the gradient of a NumPy function, by central differences."""
    array = array.astype("float64")
    slopes = np.empty_like(array)
    for index in np.ndindex(array.shape):
        ends = []
        for sign in (1, -1):
            moved = array.copy()
            moved[index] += sign * width
            ends.append(function(moved))
        slopes[index] = (ends[0] - ends[1]) / (2 * width)
    return slopes


def test_every_public_regularizer_has_a_row():
    public = {
        value
        for value in (getattr(l2keras, name) for name in l2keras.__all__)
        if inspect.isclass(value) and issubclass(value, Regularizer)
    }
    rows = {type(make(STRENGTH)) for make, _ in ROWS.values()}
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


@each_regularizer
@each_strength
def test_is_zero_at_zero_and_never_negative(make, truth, strength):
    regularizer = build(make, strength)
    for shape in SHAPES:
        assert number(regularizer(ops.zeros(shape))) == 0.0
        assert number(regularizer(ops.array(-some_weights(*shape)))) > 0.0
    for shape in [(0, 4), (4, 0)]:
        assert number(regularizer(ops.zeros(shape))) == 0.0


@by_hand
@each_regularizer
@each_strength
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_gradient_is_finite_at_zero(make, truth, strength, shape):
    slopes = gradient(build(make, strength), np.zeros(shape, "float32"))
    assert np.isfinite(slopes).all()
    # The slopes that a penalty with a kink at zero can have there.
    assert (np.abs(slopes) <= 6 * STRENGTH).all()


@by_hand
@each_strength
@pytest.mark.parametrize("axis", [-1, 0, [0, -1]], ids=str)
@pytest.mark.parametrize("scale_by_size", [False, True])
def test_gradient_of_a_group_of_zeros_is_zero(strength, axis, scale_by_size):
    regularizer = build(
        lambda s: GroupLasso(s, axis=axis, scale_by_size=scale_by_size),
        strength,
    )
    slopes = gradient(regularizer, np.zeros((3, 4), "float32"))
    np.testing.assert_array_equal(slopes, np.zeros((3, 4)))


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


# Saving and copying -----------------------------------------------------------


def same(regularizer):
    """Returns what `get_config` gives back."""
    return type(regularizer).from_config(regularizer.get_config())


def through_json(regularizer):
    """Returns what Keras reads from the JSON that it wrote."""
    config = keras.saving.serialize_keras_object(regularizer)
    return keras.saving.deserialize_keras_object(json.loads(json.dumps(config)))


def through_pickle(regularizer):
    return pickle.loads(pickle.dumps(regularizer))


COPIES = [same, through_json, through_pickle, copy.copy, copy.deepcopy]


@each_regularizer
@each_strength
@pytest.mark.parametrize("duplicate", COPIES, ids=lambda f: f.__name__)
def test_a_copy_is_the_same(make, truth, strength, duplicate):
    regularizer = build(make, strength)
    again = duplicate(regularizer)
    assert again is not regularizer
    assert type(again) is type(regularizer)
    assert again.get_config() == regularizer.get_config()
    assert again.scale == regularizer.scale == 1.0
    weights = some_weights(3, 4)
    np.testing.assert_allclose(
        number(again(ops.array(weights))), truth(weights, STRENGTH), rtol=1e-5
    )


@pytest.mark.parametrize("duplicate", COPIES, ids=lambda f: f.__name__)
def test_the_clock_of_a_copy_is_its_own(duplicate):
    kernel = ops.ones((2,))
    layer = keras.layers.Dense(
        1,
        use_bias=False,
        kernel_initializer="ones",
        kernel_regularizer=L2(LinearSchedule(0.0, 1.0, steps=10)),
    )
    model = keras.Sequential([keras.Input((2,)), layer])
    again = duplicate(layer.kernel_regularizer)
    l2keras.set_step(model, 5)
    assert number(layer.kernel_regularizer(kernel)) == 1.0
    assert number(again(kernel)) == 0.0


@pytest.mark.parametrize("duplicate", COPIES, ids=lambda f: f.__name__)
def test_a_copy_has_the_scale(duplicate):
    layer = keras.layers.Dense(1, name="head", kernel_regularizer=L2(0.5))
    model = keras.Sequential([keras.Input((2,)), layer])
    l2keras.set_scale(model, {"head/kernel": 0.25})
    again = duplicate(layer.kernel_regularizer)
    assert again.scale == 0.25
    assert again.get_config() == {"l2": 0.5, "scale": 0.25}
    assert number(again(ops.array([1.0, 3.0]))) == 1.25
    l2keras.set_scale(model, {"head/kernel": 1.0})
    assert again.scale == 0.25


@each_regularizer
@each_strength
def test_scale_multiplies_the_value(make, truth, strength):
    config = build(make, strength).get_config()
    scaled = type(make(STRENGTH)).from_config({**config, "scale": 0.25})
    assert scaled.scale == 0.25
    assert scaled.get_config() == {**config, "scale": 0.25}
    layer = layers.Dense(4, name="head", kernel_regularizer=scaled)
    model = keras.Sequential([keras.Input((3,)), layer])
    kernel = model.get_weights()[0]
    for scale in (None, 2.0, 0.0, 0.5):
        if scale is not None:
            l2keras.set_scale(model, {"head/kernel": scale})
            assert scaled.scale == scale
        expected = (0.25 if scale is None else scale) * truth(kernel, STRENGTH)
        np.testing.assert_allclose(losses(model), [expected], rtol=1e-5)


@pytest.mark.parametrize("duplicate", COPIES, ids=lambda f: f.__name__)
def test_parts_of_a_sum_keep_steps_of_their_own(duplicate):
    ahead = L2.from_config(
        {**L2(LinearSchedule(0.0, 1.0, steps=10)).get_config(), "step": 5}
    )
    both = ahead + L1(LinearSchedule(0.0, 1.0, steps=10))
    weights = ops.array([1.0, -3.0])
    assert number(both(weights)) == 5.0
    assert number(duplicate(both)(weights)) == 5.0


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


@each_regularizer
@each_strength
@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_a_saved_model_has_the_same_losses(
    make, truth, strength, suffix, tmp_path
):
    model = small_model(build(make, strength))
    path = tmp_path / f"model{suffix}"
    model.save(path)
    again = keras.saving.load_model(path)
    assert len(losses(model)) == 2
    np.testing.assert_allclose(losses(again), losses(model), rtol=1e-6)
    kernel, _ = model.get_weights()
    np.testing.assert_allclose(
        losses(model)[0], truth(kernel, STRENGTH), rtol=1e-5
    )


@each_regularizer
@each_strength
@pytest.mark.parametrize(
    "duplicate",
    [
        keras.models.clone_model,
        lambda model: keras.models.model_from_json(model.to_json()),
        copy.deepcopy,
    ],
    ids=["clone_model", "model_from_json", "deepcopy"],
)
def test_a_copied_model_has_the_same_losses(make, truth, strength, duplicate):
    model = small_model(build(make, strength))
    again = duplicate(model)
    again.set_weights(model.get_weights())
    assert len(losses(model)) == 2
    np.testing.assert_allclose(losses(again), losses(model), rtol=1e-6)


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


def test_the_config_of_a_constant_strength_is_what_keras_writes():
    assert L1(0.25).get_config() == keras.regularizers.L1(0.25).get_config()
    assert L2(0.01).get_config() == keras.regularizers.L2(0.01).get_config()
    assert L2(0.01).get_config() == {"l2": 0.01}
    assert (
        L1L2(0.01, 0.02).get_config()
        == keras.regularizers.L1L2(0.01, 0.02).get_config()
        == {"l1": 0.01, "l2": 0.02}
    )


@pytest.mark.parametrize(("ours", "theirs", "arguments"), TWINS)
def test_keras_functions_take_ours(ours, theirs, arguments):
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


def test_l1l2_of_nothing_is_nothing():
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


def test_parts_of_a_sum_can_be_keras_own():
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


def test_a_part_of_keras_own_is_summed_in_float32_too():
    weights = ops.full((1024, 1024), 0.3, dtype="float16")
    together = keras.regularizers.L2(0.01) + L1(0.0)
    np.testing.assert_allclose(number(together(weights)), 944.02, atol=0.01)


def test_adding_leaves_both_sides_as_they_were():
    first, second = Sum([L1(0.1)]), Sum([L2(0.2)])
    parts = [*first.regularizers, *second.regularizers]
    assert (first + second).regularizers == parts
    assert (len(first.regularizers), len(second.regularizers)) == (1, 1)


@each_regularizer
def test_a_constant_schedule_is_a_number(make, truth):
    constant = JoinedSchedule([STRENGTH], [])
    assert_equivalent(make(constant), make(STRENGTH))


def test_strength_is_what_was_given():
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
        (L1(1) + L2(2), "Sum(regularizers=[L1(l1=1.0), L2(l2=2.0)])"),
        (
            L2(LinearSchedule(0, 1, 9)),
            "L2(l2=LinearSchedule(initial_value=0.0, end_value=1.0, steps=9, "
            "begin=0))",
        ),
    ]:
        assert repr(regularizer) == expected


# Where Keras takes a regularizer ----------------------------------------------

layers = keras.layers


@keras.saving.register_keras_serializable(package="l2keras_tests")
class Scaling(layers.Layer):
    """A layer that makes its weight with `add_weight(regularizer=...)`."""

    def __init__(self, regularizer=None, **kwargs):
        super().__init__(**kwargs)
        self.regularizer = regularizer

    def build(self, input_shape):
        self.factors = self.add_weight(
            shape=input_shape[-1:], name="factors", regularizer=self.regularizer
        )

    def call(self, inputs):
        return inputs * self.factors

    def get_config(self):
        regularizer = keras.regularizers.serialize(self.regularizer)
        return {**super().get_config(), "regularizer": regularizer}

    @classmethod
    def from_config(cls, config):
        regularizer = keras.regularizers.deserialize(config.pop("regularizer"))
        return cls(regularizer, **config)


def attention(regularizer):
    inputs = keras.Input((3, 4))
    attend = layers.MultiHeadAttention(
        2, 3, kernel_regularizer=regularizer, bias_regularizer=regularizer
    )
    return keras.Model(inputs, attend(inputs, inputs))


# How to make the layer, the shape of its input, and how many weights pay.
PLACES = {
    "Dense": (
        lambda r: layers.Dense(3, kernel_regularizer=r, bias_regularizer=r),
        (4,),
        2,
    ),
    "Dense, activity": (
        lambda r: layers.Dense(3, activity_regularizer=r),
        (4,),
        1,
    ),
    "Dense, kernel and activity": (
        lambda r: layers.Dense(3, kernel_regularizer=r, activity_regularizer=r),
        (4,),
        2,
    ),
    "Conv2D": (
        lambda r: layers.Conv2D(3, 2, kernel_regularizer=r, bias_regularizer=r),
        (5, 5, 2),
        2,
    ),
    "DepthwiseConv2D": (
        lambda r: layers.DepthwiseConv2D(
            2, depthwise_regularizer=r, bias_regularizer=r
        ),
        (5, 5, 2),
        2,
    ),
    "SeparableConv2D": (
        lambda r: layers.SeparableConv2D(
            3,
            2,
            depthwise_regularizer=r,
            pointwise_regularizer=r,
            bias_regularizer=r,
        ),
        (5, 5, 2),
        3,
    ),
    "LSTM": (
        lambda r: layers.LSTM(
            3,
            kernel_regularizer=r,
            recurrent_regularizer=r,
            bias_regularizer=r,
        ),
        (4, 2),
        3,
    ),
    "Bidirectional(GRU)": (
        lambda r: layers.Bidirectional(
            layers.GRU(3, kernel_regularizer=r, recurrent_regularizer=r)
        ),
        (4, 2),
        4,
    ),
    "BatchNormalization": (
        lambda r: layers.BatchNormalization(
            gamma_regularizer=r, beta_regularizer=r
        ),
        (4,),
        2,
    ),
    "LayerNormalization": (
        lambda r: layers.LayerNormalization(
            gamma_regularizer=r, beta_regularizer=r
        ),
        (4,),
        2,
    ),
    "Embedding": (
        lambda r: layers.Embedding(5, 3, embeddings_regularizer=r),
        (2,),
        1,
    ),
    "EinsumDense": (
        lambda r: layers.EinsumDense(
            "abc,cd->abd",
            output_shape=(None, 3),
            bias_axes="d",
            kernel_regularizer=r,
            bias_regularizer=r,
        ),
        (4, 2),
        2,
    ),
    "MultiHeadAttention": (attention, (3, 4), 8),
    "add_weight": (Scaling, (4,), 1),
}


def place(make, regularizer, shape):
    """Returns a model with the layer, every weight of it random."""
    made = make(regularizer)
    model = (
        made
        if isinstance(made, keras.Model)
        else keras.Sequential([keras.Input(shape), made])
    )
    randomize(model)
    return model


def randomize(model):
    rng = np.random.default_rng(3)
    model.set_weights(
        [rng.uniform(0.1, 1.0, w.shape) for w in model.get_weights()]
    )


@pytest.mark.parametrize(
    ("make", "shape", "paying"),
    [pytest.param(*row, id=name) for name, row in PLACES.items()],
)
@each_strength
def test_every_place_pays_what_it_pays_to_keras(make, shape, paying, strength):
    ours = place(make, build(L2, strength), shape)
    theirs = place(make, keras.regularizers.L2(STRENGTH), shape)
    again = type(ours).from_config(ours.get_config())
    again.set_weights(ours.get_weights())
    if any(layer.activity_regularizer for layer in theirs.layers):
        for model in (ours, theirs, again):
            model(ops.ones((2, *shape)))
    expected = losses(theirs)
    assert len(expected) == paying
    assert all(value > 0 for value in expected)
    np.testing.assert_allclose(losses(ours), expected, rtol=1e-6)
    np.testing.assert_allclose(losses(again), expected, rtol=1e-6)


def share_of_a_sample(samples):
    """Returns by what Keras multiplies the penalties of activities.

    By 1 / samples, and by 1 in the older versions.
    """
    layer = layers.ActivityRegularization(l1=1.0)
    layer(ops.ones((samples, 1)))
    return number(layer.losses[0]) / samples


@by_hand
@each_regularizer
@each_strength
def test_activities_pay_in_a_compiled_step(make, truth, strength):
    # In `fit`, TensorFlow does not know the size of the batch while tracing.
    model = keras.Sequential(
        [
            keras.Input((3,)),
            layers.Dense(4, activity_regularizer=build(make, strength)),
        ]
    )
    model.compile("sgd", "mse")
    l2keras.set_step(model, STEP)
    x = some_weights(6, 3)
    y = ops.convert_to_numpy(model(x))  # The mean squared error is 0.
    loss = model.fit(x, y, verbose=0).history["loss"]
    np.testing.assert_allclose(
        loss, [truth(y, STRENGTH) * share_of_a_sample(6)], rtol=1e-4
    )


def test_a_frozen_weight_pays_no_penalty():
    layer = layers.Dense(3, kernel_regularizer=L2(0.1))
    model = keras.Sequential([keras.Input((4,)), layer])
    assert len(model.losses) == 1
    layer.trainable = False
    assert model.losses == []
    layer.trainable = True
    assert len(model.losses) == 1


def test_a_shared_layer_pays_once():
    layer = layers.Dense(4, kernel_regularizer=L2(0.1))
    inputs = keras.Input((4,))
    model = keras.Model(inputs, layer(layer(inputs)))
    expected = reference.l2_regularization(model.get_weights()[0], 0.1)
    np.testing.assert_allclose(losses(model), [expected], rtol=1e-6)


@by_hand
@each_regularizer
@each_strength
def test_a_model_trains(make, truth, strength):
    model = small_model(build(make, strength))
    model.compile(keras.optimizers.SGD(0.01), "mse")
    l2keras.set_step(model, STEP)
    x, y = some_weights(4, 3), np.zeros((4, 4))
    before = model.get_weights()
    loss = model.fit(x, y, verbose=0).history["loss"][0]
    kernel, bias = before
    expected = np.mean((x @ kernel + bias) ** 2)
    expected += truth(kernel, STRENGTH) + truth(bias, STRENGTH)
    np.testing.assert_allclose(loss, expected, rtol=1e-5)


@pytest.mark.parametrize("floatx", ["float16", "bfloat16"])
@each_regularizer
@each_strength
def test_a_model_in_half_precision_has_the_loss_in_it(
    make, truth, strength, floatx
):
    keras.config.set_floatx(floatx)
    keras.config.set_dtype_policy(floatx)
    loss = build(make, strength)(ops.cast(some_weights(3, 4), floatx))
    assert keras.backend.standardize_dtype(loss.dtype) == floatx
    np.testing.assert_allclose(
        number(ops.cast(loss, "float32")),
        truth(some_weights(3, 4), STRENGTH),
        rtol=0.02,
    )


# Schedules as strengths -------------------------------------------------------

schedules = keras.optimizers.schedules


@keras.saving.register_keras_serializable(package="l2keras_tests")
def halving(step):
    """A schedule that is a function: Keras saves it by its name."""
    return 0.5 * 2.0 ** (-step)


SCHEDULES = {
    "CosineDecay": (
        lambda: schedules.CosineDecay(0.5, 10, alpha=0.2),
        lambda t: (
            0.5 * (0.8 * (1 + math.cos(math.pi * min(t, 10) / 10)) / 2 + 0.2)
        ),
    ),
    "PolynomialDecay": (
        lambda: schedules.PolynomialDecay(0.5, 10, 0.1, power=2.0),
        lambda t: 0.1 + 0.4 * (1 - min(t, 10) / 10) ** 2,
    ),
    "ExponentialDecay": (
        lambda: schedules.ExponentialDecay(0.5, 10, 0.25),
        lambda t: 0.5 * 0.25 ** (t / 10),
    ),
    "PiecewiseConstantDecay": (
        lambda: schedules.PiecewiseConstantDecay([3, 7], [0.5, 0.25, 0.125]),
        lambda t: 0.5 if t <= 3 else 0.25 if t <= 7 else 0.125,
    ),
    "a function": (lambda: halving, lambda t: 0.5 * 0.5**t),
}
each_schedule = pytest.mark.parametrize(
    ("make", "truth"),
    [pytest.param(*row, id=name) for name, row in SCHEDULES.items()],
)


@each_schedule
def test_keras_schedules_and_functions_are_strengths(make, truth):
    layer = layers.Dense(
        1, kernel_initializer="ones", kernel_regularizer=L2(make())
    )
    model = keras.Sequential([keras.Input((2,)), layer])
    for step in (0, 1, 3, 4, 7, 8, 10, 20):
        l2keras.set_step(model, step)
        np.testing.assert_allclose(losses(model), [2 * truth(step)], rtol=1e-5)


@each_schedule
@pytest.mark.parametrize("duplicate", COPIES, ids=lambda f: f.__name__)
def test_keras_schedules_and_functions_are_saved(make, truth, duplicate):
    regularizer = duplicate(L2(make()))
    assert regularizer.get_config() == L2(make()).get_config()
    regularizer = L2.from_config({**regularizer.get_config(), "step": 4})
    np.testing.assert_allclose(
        number(regularizer(ops.ones((2,)))), 2 * truth(4), rtol=1e-5
    )


@each_schedule
def test_a_model_is_saved_with_its_schedule_and_step(make, truth, tmp_path):
    model = small_model(L2(make()))
    l2keras.set_step(model, 4)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(losses(again), losses(model), rtol=1e-6)
    l2keras.set_step(again, 8)
    np.testing.assert_allclose(
        np.array(losses(again)) / losses(model), truth(8) / truth(4), rtol=1e-5
    )


@pytest.mark.parametrize("floatx", ["float16", "bfloat16", "float64"])
@each_schedule
def test_schedules_are_strengths_in_every_precision(make, truth, floatx):
    if floatx == "float64" and BACKEND == "jax":
        pytest.skip("JAX is in float32 by default")
    # Keras's own schedules compute in `floatx`.
    keras.config.set_floatx(floatx)
    value = L2(make())(ops.ones((2,), dtype=floatx))
    np.testing.assert_allclose(
        number(ops.cast(value, "float32")), 2 * truth(0), rtol=0.01
    )


@keras.saving.register_keras_serializable(package="l2keras_tests")
def only_of_float32(step):
    is_float32 = keras.backend.standardize_dtype(step.dtype) == "float32"
    return 0.5 if is_float32 and tuple(step.shape) == () else 0.0


def test_a_schedule_is_given_the_step_in_float32():
    # TensorFlow multiplies no integer by 0.01.
    assert number(L2(only_of_float32)(ops.ones((2,)))) == 1.0


def test_both_strengths_of_l1l2_can_be_schedules():
    regularizer = L1L2(
        l1=LinearSchedule(0.0, 1.0, steps=10), l2=schedules.CosineDecay(0.5, 10)
    )
    layer = layers.Dense(
        1, kernel_initializer="ones", kernel_regularizer=regularizer
    )
    model = keras.Sequential([keras.Input((2,)), layer])
    for step, expected in [(0, 1.0), (5, 1.0 + 0.5), (10, 2.0)]:
        l2keras.set_step(model, step)
        np.testing.assert_allclose(losses(model), [expected], rtol=1e-6)


def test_the_config_of_a_scheduled_strength_has_its_step():
    regularizer = L2(LinearSchedule(0.0, 1.0, steps=10))
    config = regularizer.get_config()
    assert list(config) == ["l2", "step"]
    assert config["l2"]["registered_name"] == "l2keras>LinearSchedule"
    assert config["step"] == 0
    again = L2.from_config({**config, "step": 5})
    assert again.get_config()["step"] == 5
    assert number(again(ops.array([1.0, 1.0]))) == 1.0


# Classes of one's own ---------------------------------------------------------


@keras.saving.register_keras_serializable(package="l2keras_tests")
class Power(Regularizer):
    """A subclass with an argument, and no `get_config`."""

    def __init__(self, strength=0.01, exponent=3.0):
        super().__init__(strength)
        self.exponent = exponent

    def penalty(self, weights):
        return ops.sum(ops.abs(weights) ** self.exponent)


@keras.saving.register_keras_serializable(package="l2keras_tests")
class Forgetful(Regularizer):
    """A subclass that does not keep its argument."""

    def __init__(self, strength=0.01, exponent=3.0):
        super().__init__(strength)

    def penalty(self, weights):
        return ops.sum(ops.abs(weights))


@keras.saving.register_keras_serializable(package="l2keras_tests")
class Greedy(Regularizer):
    """A subclass whose arguments have no names."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args)


@pytest.mark.parametrize("duplicate", COPIES, ids=lambda f: f.__name__)
@each_strength
def test_a_subclass_is_saved_without_get_config(duplicate, strength):
    regularizer = build(lambda s: Power(s, exponent=4.0), strength)
    again = duplicate(regularizer)
    assert type(again) is Power
    assert again.exponent == 4.0
    assert again.get_config() == regularizer.get_config()
    weights = ops.array([1.0, -2.0])
    np.testing.assert_allclose(number(again(weights)), 17 * STRENGTH, rtol=1e-6)


def test_a_subclass_is_saved_with_a_model(tmp_path):
    model = small_model(Power(0.1, exponent=4.0))
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(losses(again), losses(model), rtol=1e-6)
    assert repr(again.layers[0].kernel_regularizer) == (
        "Power(strength=0.1, exponent=4.0)"
    )


def test_a_subclass_must_keep_its_arguments():
    with pytest.raises(AttributeError) as error:
        Forgetful(0.1).get_config()
    assert str(error.value) == (
        "Class `Forgetful` must store its argument `exponent` as "
        "`self.exponent`, or define `get_config`: it could not be saved."
    )


def test_a_subclass_that_kept_no_argument_still_has_a_repr():
    # It is in messages: an error in it would hide them.
    assert repr(Forgetful(0.1)).startswith("Forgetful(strength=0.1")


def test_a_subclass_must_name_its_arguments():
    with pytest.raises(TypeError) as error:
        Greedy(0.1).get_config()
    assert str(error.value) == (
        "The constructor of `Greedy` must name its arguments, so that they "
        "can be saved. Received: `*args`"
    )


def test_a_subclass_must_define_its_penalty():
    with pytest.raises(NotImplementedError) as error:
        Regularizer(0.1)(ops.ones((2,)))
    assert str(error.value) == (
        "Class `Regularizer` must define `penalty(self, weights)`, the penalty "
        "at unit strength."
    )


# Bad input --------------------------------------------------------------------


def of_no_name(step):
    """A schedule that is not registered."""
    return 0.1


@keras.saving.register_keras_serializable(package="l2keras_tests")
def negative_later(step):
    return 0.5 - 1e-3 * step


@keras.saving.register_keras_serializable(package="l2keras_tests")
def of_two(step):
    return [0.1, 0.2]


@keras.saving.register_keras_serializable(package="l2keras_tests")
def of_nan(step):
    return float("nan")


@keras.saving.register_keras_serializable(package="l2keras_tests")
def of_nothing(step):
    return None


COMPLEX = np.complex64(1j)
LAMBDA = lambda step: 0.1  # noqa: E731
CURE = (
    "Keras cannot save and reload it with a model. Use one of "
    "`keras.optimizers.schedules` or of l2keras, or define a function at the "
    "top level of a module and put "
    '`@keras.saving.register_keras_serializable(package="my_package")` above '
    "it."
)

BAD_STRENGTHS = {
    "negative": (ValueError, -1, "l2=-1"),
    "nan": (ValueError, math.nan, "l2=nan"),
    "inf": (ValueError, math.inf, "l2=inf"),
    "float32 inf": (ValueError, np.float32("inf"), "l2=np.float32(inf)"),
    "too large": (ValueError, 10**400, f"l2={10**400}"),
    "bool": (TypeError, True, "l2=True (of type bool)"),
    "NumPy bool": (TypeError, np.bool_(1), "l2=np.True_ (of type bool)"),
    "string": (TypeError, "0.1", "l2='0.1' (of type str)"),
    "complex": (TypeError, 1j, "l2=1j (of type complex)"),
    "NumPy complex": (
        TypeError,
        COMPLEX,
        f"l2={COMPLEX!r} (of type complex64)",
    ),
    "list": (TypeError, [0.1], "l2=[0.1] (of type list)"),
    "array": (
        TypeError,
        np.array([0.1, 0.2]),
        "l2=array([0.1, 0.2]) (of type ndarray)",
    ),
    "class": (
        TypeError,
        LinearSchedule,
        f"l2={LinearSchedule!r} (of type type)",
    ),
    "type of number": (
        TypeError,
        np.float64,
        "l2=<class 'numpy.float64'> (of type type)",
    ),
}


@pytest.mark.parametrize(
    ("kind", "strength", "received"),
    [pytest.param(*row, id=name) for name, row in BAD_STRENGTHS.items()],
)
def test_a_strength_is_a_number_or_a_schedule(kind, strength, received):
    with pytest.raises(kind) as error:
        L2(strength)
    assert str(error.value) == (
        "Argument `l2` must be a finite number >= 0 or a schedule. "
        f"Received: {received}"
    )


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (L1, "l1"),
        (L2, "l2"),
        (lambda value: L1L2(l1=value), "l1"),
        (lambda value: L1L2(l2=value), "l2"),
        (GroupLasso, "strength"),
        (Power, "strength"),
    ],
)
def test_the_message_has_the_name_of_the_argument(make, name):
    with pytest.raises(ValueError, match="must be a finite") as error:
        make(-0.5)
    assert str(error.value) == (
        f"Argument `{name}` must be a finite number >= 0 or a schedule. "
        f"Received: {name}=-0.5"
    )


def test_a_schedule_is_no_lambda():
    with pytest.raises(ValueError, match="lambda") as error:
        L2(LAMBDA)
    assert str(error.value) == (
        f"A schedule must not be a lambda: {CURE} Received: l2={LAMBDA!r}"
    )


def test_a_schedule_is_registered():
    with pytest.raises(ValueError, match="registered") as error:
        L2(of_no_name)
    assert str(error.value) == (
        f"A schedule must be registered: {CURE} Received: l2={of_no_name!r}"
    )


@pytest.mark.parametrize(
    ("kind", "schedule", "returned"),
    [
        (ValueError, of_nan, "nan at step 0"),
        (TypeError, of_two, "[0.1, 0.2] at step 0"),
        (TypeError, of_nothing, "None at step 0"),
    ],
)
def test_a_schedule_returns_a_strength(kind, schedule, returned):
    with pytest.raises(kind) as error:
        GroupLasso(schedule)
    assert str(error.value) == (
        "A schedule must return a finite number >= 0 at each step. "
        f"Received: strength={schedule!r}, which returned {returned}"
    )


def test_a_schedule_is_tried_at_late_steps():
    with pytest.raises(ValueError, match="must return") as error:
        L2(negative_later)
    returned = negative_later(ops.cast(1000, "float32"))
    assert str(error.value) == (
        "A schedule must return a finite number >= 0 at each step. Received: "
        f"l2={negative_later!r}, which returned {returned!r} at step 1000"
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
def test_an_axis_is_an_integer_or_several(axis):
    with pytest.raises(TypeError) as error:
        GroupLasso(axis=axis)
    assert str(error.value) == (
        "Argument `axis` must be an integer or a list of integers. "
        f"Received: axis={axis!r}"
    )


def test_scale_by_size_is_a_boolean():
    with pytest.raises(TypeError) as error:
        GroupLasso(scale_by_size=1)
    assert str(error.value) == (
        "Argument `scale_by_size` must be a boolean. Received: scale_by_size=1"
    )


@pytest.mark.parametrize(
    ("axis", "shape"), [(2, (3, 4)), (-3, (3, 4)), ([0, 2], (3, 4)), (-1, ())]
)
def test_weights_have_the_axis(axis, shape):
    with pytest.raises(ValueError, match="needs weights") as error:
        GroupLasso(0.5, axis=axis)(ops.ones(shape))
    assert str(error.value) == (
        f"GroupLasso(strength=0.5, axis={axis}, scale_by_size=False) needs "
        f"weights that have axis {axis}. Received: weights of shape {shape}"
    )


def test_a_sum_has_parts():
    with pytest.raises(ValueError, match="at least one") as error:
        Sum([])
    assert str(error.value) == (
        "Argument `regularizers` must have at least one entry. "
        "Received: regularizers=[]"
    )


def test_the_parts_of_a_sum_are_a_list():
    part = L2(0.1)
    with pytest.raises(TypeError) as error:
        Sum(part)
    assert str(error.value) == (
        "Argument `regularizers` must be a list of regularizers. "
        "Received: regularizers=L2(l2=0.1)"
    )


@pytest.mark.parametrize("part", [0.1, None, "l2", L2, keras.regularizers.L2])
def test_the_parts_of_a_sum_are_regularizers(part):
    with pytest.raises(TypeError) as error:
        Sum([L1(0.1), part])
    assert str(error.value) == (
        "Argument `regularizers[1]` must be a regularizer, as an instance and "
        f"not as a class. Received: regularizers[1]={part!r}"
    )


@pytest.mark.parametrize("other", [0.1, None, "l2", L2])
def test_only_regularizers_are_added(other):
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
