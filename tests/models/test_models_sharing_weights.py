"""Models inside one another, or beside, that share the weights that change.

Functions compiled before must not keep the old penalties.
"""

import gc

import keras
import numpy as np
import pytest

import l2keras
from tests.support import linear_data, number

X, Y = linear_data(samples=8)


def dense(name, **arguments):
    return keras.layers.Dense(2, name=name, **arguments)


@pytest.fixture
def family():
    """Returns models that share a layer, and one that does not, all in use.

    `inner` is inside `outer`, and `beside` has one layer of `inner`.
    """
    layer = dense(
        "shared",
        kernel_regularizer=l2keras.L2(0.25),
        activity_regularizer=l2keras.L1(0.125),
    )
    inner = keras.Sequential([keras.Input((4,)), layer], name="inner")
    inputs = keras.Input((4,))
    outer = keras.Model(inputs, dense("head")(inner(inputs)), name="outer")
    beside = keras.Model(inputs, dense("other")(layer(inputs)), name="beside")
    apart = keras.Sequential(
        [
            keras.Input((4,)),
            dense("shared", kernel_regularizer=l2keras.L2(0.25)),
        ],
        name="apart",
    )
    models = {each.name: each for each in (inner, outer, beside, apart)}
    for model in models.values():
        model.compile(keras.optimizers.SGD(0.0), "mse")
        model.fit(X, Y, verbose=0)
        model.evaluate(X, Y, verbose=0)
    return models


def applied(model):
    l2keras.apply_regularizers(model, {".*shared/kernel": l2keras.L2(1.0)})


def stripped(model):
    l2keras.strip_regularizers(model)


def scaled(model):
    l2keras.set_scale(model, {".*shared/kernel": 4.0})


def scheduled(model):
    scheduler = l2keras.PenaltyScheduler({".*shared/kernel": lambda epoch: 4.0})
    model.fit(X, Y, verbose=0, callbacks=[scheduler])


@pytest.mark.parametrize(
    ("change", "strength", "activity", "given"),
    [
        pytest.param(
            *row,
            given,
            # Which models have the weight is found in the same way for all.
            marks=[pytest.mark.slow]
            if row[0] is not applied and given != "outer"
            else [],
        )
        for row in [
            (applied, 1.0, 0.125),
            (scaled, 1.0, 0.125),
            (scheduled, 1.0, 0.125),
            (stripped, 0.0, 0.0),
        ]
        for given in ("inner", "outer", "beside")
    ],
)
def test_a_change_reaches_every_model_with_the_weight(
    change, strength, activity, given, family
):
    change(family[given])
    for name, model in family.items():
        layer = model if name != "outer" else model.get_layer("inner")
        layer = layer.get_layer("shared")
        kernel = keras.ops.convert_to_numpy(layer.kernel).astype("float64")
        data = np.mean((model.predict(X, verbose=0) - Y) ** 2)
        if name == "apart":
            paid = 0.25 * np.sum(kernel**2)
        else:
            paid = strength * np.sum(kernel**2)
            # As Keras has it, which divides by the batch in some versions.
            layer(X)
            paid += sum(map(number, layer.losses[:-1])) if activity else 0.0
        expected = pytest.approx(data + paid, rel=1e-5)
        assert model.evaluate(X, Y, verbose=0) == expected, name
        (loss,) = model.fit(X, Y, verbose=0).history["loss"]
        assert loss == expected, name


@pytest.mark.parametrize("change", [applied, scaled, scheduled, stripped])
def test_a_change_reaches_every_model_after_gc_freeze(change, family):
    gc.collect()
    gc.freeze()  # For good: what is thawed would slow the tests that follow.
    test_a_change_reaches_every_model_with_the_weight(
        change,
        {applied: 1.0, stripped: 0.0}.get(change, 1.0),
        0.0 if change is stripped else 0.125,
        "inner",
        family,
    )


@pytest.mark.parametrize("given", ["inner", "outer", "beside"])
def test_applying_reaches_models_without_l2keras_regularizers(given):
    layer = dense("shared", kernel_regularizer=keras.regularizers.L2(0.25))
    inner = keras.Sequential([keras.Input((4,)), layer], name="inner")
    inputs = keras.Input((4,))
    outer = keras.Model(inputs, keras.layers.ReLU()(inner(inputs)))
    beside = keras.Model(inputs, keras.layers.ReLU()(layer(inputs)))
    models = {"inner": inner, "outer": outer, "beside": beside}
    for model in models.values():
        model.compile(keras.optimizers.SGD(0.0), "mse")
        model.fit(X, Y, verbose=0)
        model.evaluate(X, Y, verbose=0)
    applied(models[given])
    kernel = keras.ops.convert_to_numpy(layer.kernel).astype("float64")
    for name, model in models.items():
        data = np.mean((model.predict(X, verbose=0) - Y) ** 2)
        expected = pytest.approx(data + np.sum(kernel**2), rel=1e-5)
        assert model.evaluate(X, Y, verbose=0) == expected, name
        (loss,) = model.fit(X, Y, verbose=0).history["loss"]
        assert loss == expected, name


@pytest.mark.parametrize("change", [applied, scaled, scheduled, stripped])
def test_an_unrelated_model_keeps_its_compiled_functions(change, family):
    apart = family["apart"]
    before = apart.train_function, apart.test_function
    assert before[0] is not None
    change(family["inner"])
    assert (apart.train_function, apart.test_function) == before
