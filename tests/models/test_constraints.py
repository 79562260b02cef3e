"""Constraints on models that are built: they hold after each update."""

import keras
import numpy as np
import pytest
from keras import constraints, ops

import l2keras

RNG = np.random.default_rng(6)
X = RNG.normal(size=(32, 5)).astype("float32")
Y = 3 * RNG.normal(size=(32, 2)).astype("float32")


def model_of(**arguments):
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input((5,)),
            keras.layers.Dense(4, "relu", name="hidden"),
            keras.layers.Dense(2, name="head", **arguments),
        ]
    )


def fit(model, optimizer=None, epochs=5):
    if optimizer is not None:
        model.compile(optimizer, "mse")
    model.fit(X, Y, batch_size=8, epochs=epochs, shuffle=False, verbose=0)
    return model.get_weights()


def test_a_constraint_put_on_later_does_what_the_argument_does():
    limit = constraints.MaxNorm(0.5)
    expected = fit(model_of(kernel_constraint=limit), "sgd")
    model = model_of()
    given = l2keras.apply_constraints(model, {"head/kernel": limit})
    assert list(given) == ["head/kernel"]
    for one, other in zip(fit(model, "sgd"), expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5)
    norms = np.linalg.norm(model.layers[1].get_weights()[0], axis=0)
    assert (norms <= 0.5 + 1e-6).all()


def test_it_acts_on_a_model_that_was_fitted_and_is_taken_off_again():
    model = model_of()
    assert (fit(model, "sgd")[2] < 0).any()
    l2keras.apply_constraints(model, {".*kernel": constraints.NonNeg()})
    first, _, second, _ = fit(model)
    assert (first >= 0).all()
    assert (second >= 0).all()
    l2keras.apply_constraints(model, {".*kernel": None})
    assert (fit(model)[2] < 0).any()


@pytest.mark.parametrize("rate", [0.05, 0.01])
def test_nonneg_after_the_proximal_steps_of_l1_is_exact(rate):
    model = keras.Sequential([keras.Input((5,)), keras.layers.Dense(2)])
    l2keras.apply_regularizers(model, default=l2keras.L1(0.1))
    l2keras.apply_constraints(model, {".*kernel": "non_neg"})
    optimizer = keras.optimizers.SGD(rate, momentum=0.9)
    model.compile(l2keras.Proximal(optimizer), "mse")
    model.fit(X, Y, batch_size=32, epochs=600, verbose=0)
    w, b = (each.astype("float64") for each in model.get_weights())
    slope = 2 * X.T @ (X @ w + b - Y) / Y.size + 0.1
    # Where there is weight the slope is zero, elsewhere it leads below zero.
    assert 0 < (w == 0).mean() < 1
    assert (w >= 0).all()
    np.testing.assert_allclose(slope[w > 0], 0, atol=1e-4)
    assert (slope[w == 0] >= -1e-4).all()


class NotNegative(constraints.Constraint):
    """A constraint that is not registered: its layer makes it anew."""

    def __call__(self, w):
        return ops.abs(w)


@keras.saving.register_keras_serializable(package="l2keras_tests")
class Scaled(keras.layers.Layer):
    """A layer with a constraint of its own, and one weight without."""

    def build(self, shape):
        self.scale = self.add_weight(
            name="scale", shape=shape[-1:], constraint=NotNegative()
        )
        self.shift = self.add_weight(name="shift", shape=shape[-1:])

    def call(self, x):
        return x * self.scale + self.shift


def layered():
    inputs = keras.Input((3, 5))
    x = keras.layers.MultiHeadAttention(2, 3, name="mha")(inputs, inputs)
    x = keras.layers.RMSNormalization(name="norm")(x)
    x = Scaled(name="scaled")(x)
    x = keras.layers.LSTM(4, name="lstm")(x)
    return keras.Model(inputs, keras.layers.Dense(2, name="head")(x))


@pytest.mark.parametrize("way", ["saved", "cloned"])
def test_constraints_are_saved_and_cloned(way, tmp_path):
    model = layered()
    rules = {
        "mha/query/kernel": constraints.UnitNorm(),
        "norm/scale": constraints.NonNeg(),
        "scaled/shift": constraints.MaxNorm(1.0),
        "lstm/.*recurrent_kernel": constraints.MaxNorm(2.0),
        "head/kernel": constraints.MinMaxNorm(0.1, 2.0),
    }
    applied = l2keras.apply_constraints(model, rules)
    assert len(applied) == 5
    if way == "saved":
        model.save(tmp_path / "model.keras")
        again = keras.models.load_model(tmp_path / "model.keras")
    else:
        again = keras.models.clone_model(model)
    kinds = [
        type(weight.constraint).__name__ for weight in model.trainable_variables
    ]
    assert kinds.count("NoneType") == len(kinds) - 6  # With the layer's own.
    assert kinds == [
        type(weight.constraint).__name__ for weight in again.trainable_variables
    ]
    head = again.get_layer("head").kernel.constraint
    assert head.get_config() == rules["head/kernel"].get_config()


def test_where_layers_have_the_argument_keras_alone_loads_the_model(tmp_path):
    model = model_of()
    l2keras.apply_constraints(model, {"head/.*": constraints.MaxNorm(1.0)})
    assert type(model.layers[1]) is keras.layers.Dense
    assert model.layers[1].get_config()["kernel_constraint"]["config"] == {
        "max_value": 1.0,
        "axis": 0,
    }


class Flat(constraints.Constraint):
    def __call__(self, w):
        return ops.reshape(w, (-1,))


@pytest.mark.parametrize(
    ("rules", "error", "message"),
    [
        ({}, ValueError, "There is nothing to apply"),
        ({"head/kernel": constraints.NonNeg}, TypeError, "as an instance"),
        ({"head/kernel": 2.0}, TypeError, "must be a constraint"),
        ({"head/colonel": None}, ValueError, "matches no weight"),
        (constraints.NonNeg(), TypeError, "must be a dictionary"),
        ({"head/kernel": Flat()}, ValueError, "weights of the same shape"),
        (
            {"head/.*": constraints.MaxNorm(1.0, axis=1)},
            ValueError,
            "cannot be computed for weight 'head/bias'",
        ),
    ],
    ids=range(7),
)
def test_mistakes_change_nothing(rules, error, message):
    model = model_of()
    with pytest.raises(error, match=message):
        l2keras.apply_constraints(model, rules)
    assert all(w.constraint is None for w in model.trainable_variables)
