"""Regularizers taken off a model, so that Keras alone can load it."""

import json

import keras
import numpy as np
import pytest

import l2keras
from l2keras.regularizers import describing
from tests.support import rising_schedule, run_program
from tests.support.built_models import (
    Backbone,
    assert_pays,
    attention,
    described,
    each_its_own,
    each_model,
    l2,
    losses,
    sequential,
    two_layers,
    variable,
)
from tests.support.model_copies import by_clone, by_keras_file

SCHEDULE = l2keras.LinearSchedule(0.0, 0.05, steps=8)


def uses_l2keras(model):
    config = keras.saving.serialize_keras_object(model)
    return "l2keras>" in json.dumps(config) or "l2keras." in json.dumps(config)


@each_model
def test_nothing_is_left_of_l2keras_after_stripping(make, tmp_path):
    model = make()
    plain = [type(layer) for layer in model._flatten_layers()]
    weights, before = model.get_weights(), len(model.variables)
    l2keras.apply_regularizers(model, each_its_own(model))
    assert uses_l2keras(model)
    assert l2keras.strip_regularizers(model) is model
    assert not uses_l2keras(model)
    assert losses(model) == []
    assert described(model) == {}
    assert [type(layer) for layer in model._flatten_layers()] == plain
    assert len(model.variables) == before
    for one, other in zip(model.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(one, other)


def serving_model(regularizer):
    inputs = keras.Input((3, 4))
    layer = keras.layers.MultiHeadAttention(2, 2, name="mha")
    outputs = keras.layers.Dense(
        4,
        name="head",
        activity_regularizer=regularizer,
        kernel_regularizer=regularizer,
    )(layer(inputs, inputs))
    model = keras.Model(inputs, outputs)
    model.compile("sgd", "mse")
    return model


@pytest.mark.slow
def test_a_stripped_model_is_loaded_where_there_is_keras_alone(tmp_path):
    models = {
        "bare": serving_model(l2keras.L2(rising_schedule())),
        "paying": serving_model(l2keras.L1(0.5) + l2keras.L2(0.25)),
        "regularized": serving_model(l2keras.L2(rising_schedule())),
    }
    rules = {"mha/query/kernel": l2keras.L2(0.25), "mha/key/.*": l2keras.L1()}
    for name in ("bare", "regularized"):
        l2keras.apply_regularizers(models[name], rules)
    l2keras.strip_regularizers(models["bare"])
    l2keras.strip_regularizers(models["paying"], to_keras=True)
    l2keras.set_step(models["regularized"], 5)
    x = np.ones((2, 3, 4), "float32")
    files, expected = [], []
    for name, model in models.items():
        loss = model.evaluate(x, x, verbose=0)
        data = np.mean((model.predict(x, verbose=0) - x) ** 2)
        if name == "bare":
            assert loss == pytest.approx(data, rel=1e-5)
        else:
            assert loss > 1.01 * data
        files.append(tmp_path / f"{name}.keras")
        expected.append(loss)
        model.save(files[-1])
    out = run_program("evaluate_without_l2keras", *files)
    assert [float(line) for line in out.splitlines()[-3:]] == expected


SCALED = l2keras.L2.from_config({"l2": 0.5, "scale": 0.25})


@pytest.mark.parametrize(
    ("regularizer", "expected"),
    [
        (l2keras.L1(0.5), "Keras L1(l1=0.5)"),
        (l2keras.L2(0.25), "Keras L2(l2=0.25)"),
        (l2keras.L1L2(0.5, 0.25), "Keras L1L2(l1=0.5, l2=0.25)"),
        (l2keras.L1L2(l1=0.5), "Keras L1(l1=0.5)"),
        (SCALED, "Keras L2(l2=0.125)"),
        (
            l2keras.L1(0.5) + l2keras.L2(0.25),
            "Keras L1L2(l1=0.5, l2=0.25)",
        ),
        (SCALED + l2keras.L2(0.125), "Keras L2(l2=0.25)"),
        (
            l2keras.Sum.from_config(
                {
                    **(l2keras.L1L2(0.5, 0.25) + SCALED).get_config(),
                    "scale": 0.5,
                }
            ),
            "Keras L1L2(l1=0.25, l2=0.1875)",
        ),
        (
            l2keras.L2(0.25) + keras.regularizers.L1(0.5),
            "Keras L1L2(l1=0.5, l2=0.25)",
        ),
        (keras.regularizers.L1(0.5), "Keras L1(l1=0.5)"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_to_keras_replaces_regularizers_that_keras_has(
    regularizer, expected, tmp_path
):
    model = two_layers(kernel_regularizer=regularizer)
    before = losses(model)
    l2keras.strip_regularizers(model, to_keras=True)
    np.testing.assert_allclose(losses(model), before, rtol=1e-6)
    for each in (model, by_keras_file(model, tmp_path)):
        assert {
            path: describing.describe(variable(each, path).regularizer)
            for path in ("hidden/kernel", "output/kernel")
        } == {"hidden/kernel": expected, "output/kernel": expected}
    assert not uses_l2keras(model)
    assert losses(by_clone(model, None)) == losses(model)


@pytest.mark.parametrize(
    "regularizer",
    [
        l2keras.L2(SCHEDULE),
        l2keras.GroupLasso(0.5),
        l2keras.L2(0.25) + l2keras.GroupLasso(0.5),
        l2keras.L1L2(0.5, SCHEDULE),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_to_keras_removes_other_regularizers_with_a_warning(regularizer):
    model = sequential(
        (4,),
        keras.layers.Dense(3, name="hidden", kernel_regularizer=regularizer),
        keras.layers.Dense(
            2, name="output", kernel_regularizer=l2keras.L2(0.25)
        ),
    )
    with pytest.warns(UserWarning, match="taken off") as warned:
        l2keras.strip_regularizers(model, to_keras=True)
    assert [str(warning.message) for warning in warned] == [
        "Keras has no equivalent of these regularizers, so they were taken "
        f"off: 'hidden/kernel': {regularizer!r}"
    ]
    assert warned[0].filename == __file__
    assert_pays(model, l2(model, {"output/kernel": 0.25}))
    assert not uses_l2keras(model)


def test_to_keras_warns_where_a_layer_has_no_regularizer_argument():
    model = attention()
    l2keras.apply_regularizers(model, {"mha/query/kernel": l2keras.L2(0.25)})
    with pytest.warns(UserWarning, match="no argument") as warned:
        l2keras.strip_regularizers(model, to_keras=True)
    assert [str(warning.message) for warning in warned] == [
        "Keras will not save the regularizers of these weights, whose layers "
        "have no argument for them: mha/query/kernel"
    ]
    assert not uses_l2keras(model)
    # As long as the model lives, it pays.
    assert_pays(model, l2(model, {"mha/query/kernel": 0.25}))


def test_to_keras_warns_once_per_weight_shared_by_layers():
    # The whole for files, and the layers for clones.
    model = Backbone()
    done = l2keras.apply_regularizers(model, default=l2keras.L2(0.25))
    with pytest.warns(UserWarning, match="no argument") as warned:
        l2keras.strip_regularizers(model, to_keras=True)
    (message,) = [str(warning.message) for warning in warned]
    assert message.endswith(f" for them: {', '.join(done)}")
    assert not uses_l2keras(model)
    assert type(model) is Backbone


@pytest.mark.parametrize("to_keras", [False, True])
def test_regularizers_of_keras_are_kept(to_keras, tmp_path):
    model = sequential(
        (4,),
        keras.layers.Dense(
            3, name="hidden", kernel_regularizer=keras.regularizers.L1(0.5)
        ),
        keras.layers.Dense(
            2,
            name="output",
            kernel_regularizer=keras.regularizers.OrthogonalRegularizer(0.5),
            activity_regularizer=keras.regularizers.L1(0.25),
        ),
    )
    model.compile("sgd", "mse")
    x, y = np.ones((2, 4)), np.ones((2, 2))
    before = model.evaluate(x, y, verbose=0), model.to_json()
    l2keras.strip_regularizers(model, to_keras=to_keras)
    assert (model.evaluate(x, y, verbose=0), model.to_json()) == before


@pytest.mark.parametrize("to_keras", [False, True])
def test_activity_regularizers_are_removed(to_keras):
    model = sequential(
        (4,),
        keras.layers.Dense(
            2, name="output", activity_regularizer=l2keras.L2(0.25)
        ),
    )
    model.compile("sgd", "mse")
    x, y = np.ones((2, 4)), np.ones((2, 2))
    whole = model.evaluate(x, y, verbose=0)
    data = np.mean((model.predict(x, verbose=0) - y) ** 2)
    assert whole > data
    l2keras.strip_regularizers(model, to_keras=to_keras)
    assert model.evaluate(x, y, verbose=0) == pytest.approx(
        whole if to_keras else data, rel=1e-5
    )
    assert not uses_l2keras(model)


def test_a_learning_rate_schedule_of_l2keras_warns():
    model = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(2)], name="small"
    )
    model.compile(keras.optimizers.SGD(SCHEDULE), "mse")
    with pytest.warns(UserWarning, match="still needs") as warned:
        l2keras.strip_regularizers(model)
    assert [str(warning.message) for warning in warned] == [
        "Model 'small' still needs l2keras to be loaded, since it is saved "
        "with l2keras>LinearSchedule. If its optimizer has such a schedule, "
        "compile the model with another optimizer."
    ]


@pytest.mark.parametrize("model", ["model", None, keras.layers.Dense])
def test_strip_requires_a_model(model):
    with pytest.raises(TypeError) as error:
        l2keras.strip_regularizers(model)
    assert str(error.value) == (
        f"Argument `model` must be a Keras model. Received: model={model!r} "
        f"(of type {type(model).__name__})"
    )
