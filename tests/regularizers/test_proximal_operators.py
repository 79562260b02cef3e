"""Where a proximal step ends, nothing is to be gained by going elsewhere."""

import inspect

import keras
import numpy as np
import pytest
from keras import ops

import l2keras
from l2keras import L1, L1L2, L2, GroupLasso, LinearSchedule, Regularizer, Sum
from l2keras.regularizers.proximal_terms import proximal_terms, stepped
from l2keras.strengths import step as steps
from tests.support.proximal_operators import OPERATORS, drawn
from tests.support.regularizer_rows import small_model


def after_step(regularizer, weights, length):
    """The weights after the proximal step of a regularizer, as an array."""
    if isinstance(length, np.ndarray):
        length = ops.array(length)
    terms = proximal_terms(regularizer, weights.shape)
    thresholds = [
        length * sum(strength.number() for strength in term.strengths)
        for term in terms
    ]
    found = stepped(terms, ops.array(weights), thresholds)
    return ops.convert_to_numpy(found).astype("float64")


# Tried in `test_concave_steps`.
CONCAVE = {l2keras.GroupMCP, l2keras.MCP, l2keras.SCAD}


def test_every_regularizer_with_a_proximal_step_has_a_row():
    tried = {
        type(term.regularizer)
        for regularizer, _ in OPERATORS.values()
        for term in proximal_terms(regularizer, (3, 4, 20))
    }
    for name in l2keras.__all__:
        value = getattr(l2keras, name)
        if inspect.isclass(value) and issubclass(value, Regularizer):
            assert value in tried | CONCAVE or not value._has_proximal


@pytest.mark.parametrize("spread", [0, 0.3, 1.0])
@pytest.mark.parametrize(
    ("regularizer", "penalty"), OPERATORS.values(), ids=OPERATORS
)
def test_a_proximal_step_minimizes_its_objective(regularizer, penalty, spread):
    weights, t = drawn(spread)
    after = after_step(regularizer, weights, t)
    # Thresholds so far apart leave a large group some weight.
    assert (after == 0).any() or spread == 1.0
    assert (after != 0).any()
    rng = np.random.default_rng(2)
    t = np.broadcast_to(t, weights.shape).astype("float64")

    def cost(u):
        return ((u - weights) ** 2 / (2 * t)).sum() + penalty(u)

    # Around it in all directions, and along each axis: the cost is convex.
    single = np.eye(weights.size).reshape(-1, *weights.shape)
    for way in [*rng.normal(size=(200, *weights.shape)), *single, *-single]:
        for length in (1e-4, 1e-2):
            moved = length * way * np.sqrt(t)
            slack = 1e-6 * np.abs(weights * moved / t).sum()
            assert cost(after + moved) >= cost(after) - slack


def by_bisection(weights, t):
    """Returns the step of the groups along the last axis, in float64."""
    weights, t = weights.astype("float64"), t.astype("float64")
    low = np.zeros(weights.shape[-1])
    high = np.sqrt((weights**2).sum((0, 1)))
    for _ in range(100):
        middle = (low + high) / 2
        is_above = ((weights / (middle + t)) ** 2).sum((0, 1)) > 1
        low, high = (
            np.where(is_above, middle, low),
            np.where(is_above, high, middle),
        )
    some = ((weights / t) ** 2).sum((0, 1)) > 1
    return np.where(some, weights * low / (low + t), 0.0)


@pytest.mark.parametrize(
    ("spread", "atol"), [(0.1, 1e-6), (0.5, 1e-6), (1.0, 1e-5), (2.0, 1e-3)]
)
def test_the_norm_of_a_group_after_a_step_solves_its_equation(spread, atol):
    for seed in range(20):
        weights, t = drawn(spread, seed)
        after = after_step(GroupLasso(1.0), weights, t)
        expected = by_bisection(weights, t)
        np.testing.assert_array_equal(after == 0, expected == 0)
        largest = np.abs(weights).max((0, 1))
        assert (np.abs(after - expected) <= atol * largest).all()


@pytest.mark.parametrize("threshold", ["number", "tensor", "tensors"])
@pytest.mark.parametrize("regularizer", [L1(1.0), GroupLasso(1.0)], ids=repr)
def test_zero_thresholds_change_nothing_and_large_ones_zero_everything(
    regularizer, threshold
):
    weights, _ = drawn(0)
    weights[0, 0, 0] = 0.0
    weights[..., 1] = 0.0

    def after(t):
        given = {
            "number": t,
            "tensor": ops.array(t, "float32"),
            "tensors": ops.full(weights.shape, t, "float32"),
        }
        return after_step(regularizer, weights, given[threshold])

    np.testing.assert_allclose(after(0.0), weights, rtol=1e-6)
    for large in (1e3, 1e10, 1e30):
        np.testing.assert_array_equal(after(large), np.zeros(weights.shape))


@pytest.mark.parametrize("threshold", ["number", "tensors"])
@pytest.mark.parametrize("regularizer", [L1(1.0), GroupLasso(1.0)], ids=repr)
def test_nan_does_not_become_zero(regularizer, threshold):
    weights = np.array([[3.0, np.nan, 0.1], [4.0, 1.0, 0.1]], "float32")
    t = 0.5 if threshold == "number" else np.full((2, 3), 0.5, "float32")
    after = after_step(regularizer, weights, t)
    assert np.isnan(after[0, 1])
    assert np.isfinite(after[:, 0]).all()
    np.testing.assert_array_equal(after[:, 2], 0.0)


def test_groups_of_a_missing_axis_are_refused():
    with pytest.raises(ValueError, match="needs weights that have axis 2"):
        GroupLasso(axis=2).proximal(ops.ones((3, 4)), 0.1)


# Which regularizers have a step -----------------------------------------------


@keras.saving.register_keras_serializable(package="l2keras_tests")
class Doubled(L1):
    """Another penalty than that of L1, whose step it inherits."""

    def penalty(self, weights):
        return 2 * super().penalty(weights)


@keras.saving.register_keras_serializable(package="l2keras_tests")
class Called(L1):
    def __call__(self, weights):
        return 2 * super().__call__(weights)


@keras.saving.register_keras_serializable(package="l2keras_tests")
class Named(L1):
    """The same penalty."""


@keras.saving.register_keras_serializable(package="l2keras_tests")
class Box(Regularizer):
    """A penalty with a proximal step: sizes beyond a limit are penalized."""

    def __init__(self, strength=0.01, limit=1.0):
        super().__init__(strength)
        self.limit = limit

    def penalty(self, weights):
        return ops.sum(ops.maximum(ops.abs(weights) - self.limit, 0.0))

    def proximal(self, weights, threshold):
        size = ops.abs(weights)
        shrunk = ops.maximum(size - threshold, ops.minimum(size, self.limit))
        return ops.sign(weights) * shrunk


class OwnL1(keras.regularizers.L1):
    """Somebody's own, which may return anything."""


@pytest.mark.parametrize(
    ("regularizer", "number"),
    [
        (None, 0),
        (L1(), 1),
        (Named(), 1),
        (Box(), 1),
        (L2(), 0),
        (Doubled(), 0),
        (Called(), 0),
        (OwnL1(0.1), 0),
        (keras.regularizers.L2(), 0),
        (L1L2(0.1, 0.1), 1),
        (L1(LinearSchedule(0.0, 1.0, steps=5)), 1),
        (keras.regularizers.L1L2(l2=0.1), 0),
        (L1(0.0), 0),
        (Sum([L2(), L1(), GroupLasso(), Named()]), 2),
        (Sum([Box(), L2(), L1L2(l2=0.5), Box(0.3)]), 1),
        (Box() + Box(0.3) + Box(), 1),
        (GroupLasso() + GroupLasso(axis=1) + GroupLasso(0.0, axis=0), 1),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_subclass_that_changes_the_penalty_loses_its_proximal_step(
    regularizer, number
):
    assert len(proximal_terms(regularizer, (3, 4))) == number


def test_a_penalty_without_a_proximal_step_raises():
    assert not L2().has_proximal
    with pytest.raises(NotImplementedError) as caught:
        L2().proximal(ops.ones((2, 2)), 0.1)
    assert str(caught.value) == (
        "Class `L2` must define `proximal(self, weights, threshold)`, the "
        "proximal step of its penalty, to take one."
    )


ONE_KIND = (
    "A weight must not be in groups of two kinds: there is no proximal step "
    "for both at once. Give them the same `axis` and `scale_by_size`, or keep "
    "one of them. Received: GroupLasso(strength=0.1, axis=-1, "
    "scale_by_size=False) + "
)
UNKNOWN = (
    "The proximal step of a sum is known for `L1` and one `GroupLasso` only. "
    "Write a regularizer with the penalty and the proximal step of the sum, or "
    "keep one of them. Received: "
)
OF_KERAS = (
    "Keras's own `{0}` has no proximal step: Keras takes its gradient always. "
    "Use `l2keras.{0}({1})` instead, as `kernel_regularizer=` of the layer, "
    "or, on a model that is built, by `l2keras.apply_regularizers`."
)
REFUSED = {
    "groups along two axes": (
        GroupLasso(0.1) + GroupLasso(0.2, axis=0),
        ONE_KIND + "GroupLasso(strength=0.2, axis=0, scale_by_size=False)",
    ),
    "groups of two sizes": (
        GroupLasso(0.1) + GroupLasso(0.2, scale_by_size=True),
        ONE_KIND + "GroupLasso(strength=0.2, axis=-1, scale_by_size=True)",
    ),
    "a step of one's own after L1": (
        L1(0.1) + Box(0.2),
        UNKNOWN + "L1(l1=0.1) + Box(strength=0.2, limit=1.0)",
    ),
    "one that differs": (
        Box(0.1) + Box(0.2, limit=2.0),
        UNKNOWN + "Box(strength=0.1, limit=1.0) + Box(strength=0.2, limit=2.0)",
    ),
    "Keras's own": (
        keras.regularizers.get("l1"),
        OF_KERAS.format("L1", "l1=0.01"),
    ),
    "Keras's own in a sum": (
        GroupLasso() + keras.regularizers.L1L2(0.5, 0.25),
        OF_KERAS.format("L1L2", "l1=0.5, l2=0.25"),
    ),
}


@pytest.mark.parametrize(
    ("regularizer", "message"), REFUSED.values(), ids=REFUSED
)
def test_regularizers_without_a_known_proximal_step_are_refused(
    regularizer, message
):
    with pytest.raises(ValueError, match="proximal step") as caught:
        proximal_terms(regularizer, (3, 4))
    assert str(caught.value) == message


def test_the_strength_of_a_proximal_step_includes_scales_and_schedules():
    both = Sum([L1(LinearSchedule(0.0, 1.0, steps=10)), L2(0.5), L1(0.3)])
    both.set_scale(0.5)
    (term,) = proximal_terms(both, (3, 4))
    with steps.given(ops.array(4)):
        found = sum(strength.number() for strength in term.strengths)
    assert found == pytest.approx(0.5 * (0.4 + 0.3))


# The gradient, where no steps are taken ---------------------------------------


def test_the_gradient_of_l1_at_zero_is_zero():
    model = small_model(L1(0.5))
    kernel = model.layers[0].kernel
    kernel.assign([[0.0, 1.0, -2.0, 0.0]] * 3)
    model.layers[0].bias.assign(np.zeros(4))
    # No data loss reaches the weights.
    model.compile(keras.optimizers.SGD(0.5), lambda y, y_pred: 0.0 * y_pred)
    model.fit(np.ones((2, 3)), np.ones((2, 4)), verbose=0)
    np.testing.assert_allclose(
        ops.convert_to_numpy(kernel), [[0.0, 0.75, -1.75, 0.0]] * 3
    )
    assert l2keras.L1(0.5)(ops.array([-0.0, -2.0])) == 1.0
