"""The penalty of each weight, in records."""

import keras
import numpy as np
import pytest
from keras import ops

import l2keras
from l2keras import reference
from tests.support import (
    falling,
    falling_schedule,
    rising,
    rising_schedule,
    takes_functions,
)
from tests.support.audited_models import dense, exclude, sequential
from tests.support.built_models import cubic

register = keras.saving.register_keras_serializable(
    package="l2keras_tests_penalties"
)
STEP = 5
SCALED = l2keras.L2.from_config({"l2": 0.5, "scale": 0.25})
RISING, FALLING = rising_schedule(), falling_schedule()

# A row: the regularizer, its strengths, its schedules, and its value in NumPy.
ROWS = {
    "none": (None, {}, {}, lambda w: 0.0),
    "L1": (
        l2keras.L1(0.25),
        {"L1": 0.25},
        {},
        lambda w: reference.l1_regularization(w, 0.25),
    ),
    "scheduled": (
        l2keras.L2(RISING),
        {"L2": rising(STEP)},
        {"L2": RISING},
        lambda w: reference.l2_regularization(w, rising(STEP)),
    ),
    "scaled": (
        SCALED,
        {"L2": 0.125},
        {},
        lambda w: reference.l2_regularization(w, 0.125),
    ),
    "both": (
        l2keras.L1L2(l1=0.25, l2=FALLING),
        {"L1": 0.25, "L2": falling(STEP)},
        {"L2": FALLING},
        lambda w: (
            reference.l1_regularization(w, 0.25)
            + reference.l2_regularization(w, falling(STEP))
        ),
    ),
    "sum": (
        l2keras.L2(0.25)
        + l2keras.GroupLasso(RISING)
        + l2keras.L2(0.5)
        + keras.regularizers.L1(0.125),
        # Of Keras's own, no strength is known within a sum.
        {"L2": 0.25, "GroupLasso": rising(STEP), "L2_2": 0.5},
        {"GroupLasso": RISING},
        lambda w: (
            reference.l2_regularization(w, 0.75)
            + reference.group_lasso(w, rising(STEP))
            + reference.l1_regularization(w, 0.125)
        ),
    ),
    "keras": (
        keras.regularizers.L2(0.25),
        {"L2": 0.25},
        {},
        lambda w: reference.l2_regularization(w, 0.25),
    ),
    "keras_both": (
        keras.regularizers.L1L2(0.25, 0.5),
        {"L1": 0.25, "L2": 0.5},
        {},
        lambda w: (
            reference.l1_regularization(w, 0.25)
            + reference.l2_regularization(w, 0.5)
        ),
    ),
    "orthogonal": (
        keras.regularizers.OrthogonalRegularizer(0.25),
        {},
        {},
        None,
    ),
}
if takes_functions():
    ROWS["function"] = (cubic, {}, {}, lambda w: np.sum(np.abs(w) ** 3))


def orthogonal(kernel):
    """Returns Keras's own penalty on rows that are not orthogonal, at 0.25."""
    rows = kernel / np.linalg.norm(kernel, axis=1, keepdims=True)
    size = len(rows) * (len(rows) - 1) / 2
    return 0.25 * np.abs(np.triu(rows @ rows.T, 1)).sum() / size


def every_kind():
    model = sequential(
        *(dense(name, row[0], units=4) for name, row in ROWS.items()),
        dense("frozen", l2keras.L2(0.5), trainable=False),
        keras.layers.BatchNormalization(name="norm"),
    )
    l2keras.set_step(model, STEP)
    return model


def test_penalties_equal_numpy():
    model = every_kind()
    records = {each.path: each for each in l2keras.penalties(model)}
    assert list(records) == [
        *(f"{name}/{weight}" for name in ROWS for weight in ("kernel", "bias")),
        "frozen/kernel",
        "frozen/bias",
        "norm/gamma",
        "norm/beta",
        "norm/moving_mean",
        "norm/moving_variance",
    ]
    total = 0.0
    for name, (regularizer, strengths, schedules, truth) in ROWS.items():
        record = records[f"{name}/kernel"]
        kernel = ops.convert_to_numpy(model.get_layer(name).kernel)
        expected = (truth or orthogonal)(kernel.astype("float64"))
        total += expected
        assert (record.shape, record.parameters) == ((4, 4), 16)
        assert record.trainable
        assert record.regularizer is regularizer
        assert record.strengths == pytest.approx(strengths, rel=1e-6)
        assert record.schedules == schedules
        assert record.penalty == pytest.approx(expected, rel=1e-5), name
        assert record.weight_decay == 0.0
    frozen = records["frozen/kernel"]
    assert (frozen.trainable, frozen.penalty) == (False, 0.0)
    assert frozen.strengths == {"L2": 0.5}
    assert records["norm/moving_mean"].trainable is False
    assert sum(each.penalty for each in records.values()) == pytest.approx(
        sum(float(ops.convert_to_numpy(loss)) for loss in model.losses),
        rel=1e-6,
    )
    for each in records.values():
        assert each.share == pytest.approx(each.penalty / total, rel=1e-5)
    assert sum(each.share for each in records.values()) == pytest.approx(1.0)


@register
class Vector(keras.regularizers.Regularizer):
    def __call__(self, weights):
        return 0.25 * ops.sum(ops.square(weights), axis=0)

    def get_config(self):
        return {}


@register
class Columns(l2keras.Regularizer):
    def penalty(self, weights):
        return ops.sum(ops.square(weights), axis=0)


def test_a_penalty_of_several_numbers_is_summed_as_in_keras():
    model = sequential(
        dense("plain", Vector()), dense("sum", l2keras.L2(0.5) + Vector())
    )
    plain, sum_of_both = (
        np.sum(np.square(layer.get_weights()[0], dtype="float64"))
        for layer in model.layers
    )
    paid = [record.penalty for record in l2keras.penalties(model)]
    assert paid == pytest.approx(
        [0.25 * plain, 0, 0.75 * sum_of_both, 0], rel=1e-5
    )
    model.compile("sgd", "mse")
    x, y = np.zeros((4, 4)), np.zeros((4, 3))
    loss = model.evaluate(x, y, verbose=0)
    assert loss == pytest.approx(sum(paid), rel=1e-5)
    logger = l2keras.RegularizationLogger(penalties=True)
    logs = model.evaluate(x, y, verbose=0, callbacks=[logger], return_dict=True)
    assert logs["regularization_loss/plain/kernel"] == pytest.approx(
        paid[0], rel=1e-5
    )


@pytest.mark.parametrize("function", [l2keras.penalties, l2keras.summary])
def test_a_regularizer_that_cannot_be_computed_is_named(function):
    with pytest.raises(ValueError, match="cannot be computed") as error:
        function(sequential(dense("hidden", Columns(0.1))))
    message = str(error.value)
    assert message.startswith(
        "Regularizer Columns(strength=0.1) cannot be computed for weight "
        "'hidden/kernel' of shape (4, 3): `Columns.penalty` must return one "
        "number, a tensor of shape `()`, such as `ops.sum(weights)`. Received: "
        "shape (3,) for weights "
    )


def test_shares_are_zero_without_penalties():
    records = l2keras.penalties(sequential(dense("hidden")))
    assert [record.share for record in records] == [0.0, 0.0]


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        pytest.param(lambda: None, [0, 0, 0, 0], id="not compiled"),
        pytest.param(lambda: "adam", [0, 0, 0, 0], id="none"),
        pytest.param(
            lambda: keras.optimizers.AdamW(weight_decay=0.25),
            [0.25, 0.25, 0, 0],
            id="AdamW",
        ),
        pytest.param(
            lambda: keras.optimizers.SGD(weight_decay=0.25),
            [0.25, 0.25, 0, 0],
            id="SGD",
        ),
        pytest.param(
            lambda: exclude(
                keras.optimizers.AdamW(weight_decay=0.25), "bias", "unused"
            ),
            [0.25, 0, 0, 0],
            id="excluded",
        ),
        pytest.param(
            lambda: keras.optimizers.LossScaleOptimizer(
                exclude(keras.optimizers.AdamW(weight_decay=0.25), "kernel")
            ),
            [0, 0.25, 0, 0],
            id="LossScaleOptimizer",
        ),
    ],
)
def test_weight_decay_is_that_of_the_optimizer(make, expected):
    # Those of a frozen layer are not decayed.
    model = sequential(dense("hidden"), dense("frozen", trainable=False))
    if (optimizer := make()) is not None:
        model.compile(optimizer, "mse")
    found = [record.weight_decay for record in l2keras.penalties(model)]
    assert found == expected


def test_weight_decay_equals_the_shrinkage_of_one_update():
    model = sequential(dense("hidden", l2keras.L2(0.25)))
    rate = 0.5
    model.compile(keras.optimizers.SGD(rate, weight_decay=0.25), "mse")
    kernel, _ = l2keras.penalties(model)
    before = model.get_weights()[0].astype("float64")
    # Inputs of zero, so that the kernel has no gradient from the data.
    model.train_on_batch(np.zeros((2, 4)), np.zeros((2, 3)))
    factor = 1 - rate * (kernel.weight_decay + 2 * kernel.strengths["L2"])
    np.testing.assert_allclose(
        model.get_weights()[0], factor * before, rtol=1e-5
    )


@pytest.mark.parametrize("function", [l2keras.penalties, l2keras.summary])
def test_penalties_requires_a_built_model(function):
    with pytest.raises(TypeError) as error:
        function(keras.layers.Dense)
    assert str(error.value) == (
        "Argument `model` must be a Keras model. Received: "
        f"model={keras.layers.Dense!r} (of type type)"
    )
    with pytest.raises(ValueError, match="not built") as error:
        function(keras.Sequential([dense("hidden")], name="small"))
    assert str(error.value) == (
        "Model 'small' is not built, so it has no weights yet. Call "
        "`model.build(input_shape)` first, or call it on data."
    )
