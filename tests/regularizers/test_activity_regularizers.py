"""Penalties of what a layer returns: their value, gradient, and place."""

import keras
import numpy as np
import pytest
from keras import ops

from l2keras import KLSparsity, OrthogonalActivity
from tests.support import number
from tests.support.gradients import differences, gradient
from tests.support.regularizer_rows import (
    COPIES,
    STRENGTH,
    build,
    each_of_activities,
    each_strength,
)

# 3 examples of 4 units, which may be a matrix of 2 x 2; with positions; images.
SHAPES = [(3, 4), (5, 2, 3), (2, 4, 3, 2)]

by_hand = pytest.mark.filterwarnings("ignore:.*nothing moves its schedule on")


def some_outputs(*shape):
    rng = np.random.default_rng(5)
    return rng.uniform(0.05, 0.95, size=shape).astype("float32")


@each_of_activities
@each_strength
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_equals_numpy(make, truth, strength, shape):
    outputs = some_outputs(*shape)
    value = build(make, strength)(ops.array(outputs))
    assert tuple(value.shape) == ()
    np.testing.assert_allclose(
        number(value), truth(outputs, STRENGTH), rtol=1e-5
    )


@by_hand
@each_of_activities
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_gradient_equals_the_differences(make, truth, shape):
    outputs = some_outputs(*shape)
    np.testing.assert_allclose(
        gradient(make(STRENGTH), outputs),
        differences(lambda x: truth(x, STRENGTH), outputs),
        rtol=1e-4,
        atol=1e-5,
    )


@by_hand
@each_of_activities
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_gradient_is_finite_where_units_are_always_or_never_active(
    make, truth, value
):
    outputs = np.full((4, 9), value, "float32")
    assert np.isfinite(number(make(STRENGTH)(outputs)))
    assert np.isfinite(gradient(make(STRENGTH), outputs)).all()


@each_of_activities
@pytest.mark.parametrize("duplicate", COPIES, ids=lambda f: f.__name__)
def test_a_copy_is_the_same(make, truth, duplicate):
    regularizer = make(STRENGTH)
    again = duplicate(regularizer)
    assert again.get_config() == regularizer.get_config()
    outputs = some_outputs(3, 4)
    assert number(again(outputs)) == number(regularizer(outputs))


@each_of_activities
def test_a_layer_pays_for_its_outputs(make, truth):
    model = keras.Sequential(
        [
            keras.Input((6,)),
            keras.layers.Dense(
                4, "sigmoid", activity_regularizer=make(STRENGTH)
            ),
        ]
    )
    x = some_outputs(8, 6)
    outputs = ops.convert_to_numpy(model(x))
    paid = number(sum(model.losses))
    plain = keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.ActivityRegularization(l2=1.0),
        ]
    )
    plain(outputs)
    # Whether Keras divides by the size of the batch depends on its version.
    share = number(sum(plain.losses)) / np.square(outputs).sum()
    np.testing.assert_allclose(
        paid, share * truth(outputs, STRENGTH), rtol=1e-5
    )


def test_units_learn_to_be_active_as_often_as_the_target_says():
    keras.utils.set_random_seed(0)
    layer = keras.layers.Dense(
        8, "sigmoid", activity_regularizer=KLSparsity(1.0, target=0.2)
    )
    model = keras.Sequential([keras.Input((6,)), layer])
    # No data loss reaches the weights.
    model.compile(keras.optimizers.Adam(0.1), lambda y, y_pred: 0.0 * y_pred)
    x = np.random.default_rng(0).normal(size=(64, 6)).astype("float32")
    model.fit(x, np.zeros((64, 8)), batch_size=64, epochs=100, verbose=0)
    means = model.predict(x, verbose=0).mean(axis=0)
    np.testing.assert_allclose(means, 0.2, atol=0.01)


@pytest.mark.parametrize("shape", [(6,), (3, 5)])
def test_outputs_that_are_no_matrices_are_refused(shape):
    with pytest.raises(ValueError, match="needs outputs") as error:
        OrthogonalActivity()(ops.ones(shape))
    assert str(error.value) == (
        "`OrthogonalActivity` needs outputs of shape `(examples, ..., rows, "
        "columns)`, or `(examples, n * n)`. Received: outputs of shape "
        f"{shape}"
    )
