"""Saved and copied models that go on as if nothing had been."""

import codecs
import json
import marshal
import re
import warnings
import zipfile

import keras
import numpy as np
import pytest

import l2keras
from tests.support import (
    BACKEND,
    documented_model,
    falling,
    falling_schedule,
    model_copies,
    number,
    rising_schedule,
    run_program,
)
from tests.support.model_copies import (
    by_deepcopy,
    by_h5_file,
    by_keras_file,
    by_pickle,
)
from tests.support.scheduled_trainings import (
    X,
    assert_same_weights,
    compiled,
    evaluate,
    fit,
    plain_model,
    scheduled_model,
    trained_model,
)


def at_the_step_of(model, again):
    """Compiles a copy, whose optimizer goes on from the model's step."""
    compiled(again)
    again.optimizer.iterations.assign(model.optimizer.iterations)
    return again


def by_json(model, folder):
    return at_the_step_of(model, model_copies.by_json(model, folder))


def by_clone(model, folder):
    return at_the_step_of(model, model_copies.by_clone(model, folder))


@pytest.mark.parametrize(
    "again_by",
    [by_keras_file, by_h5_file, by_json, by_clone, by_pickle, by_deepcopy],
)
def test_a_copy_evaluates_as_its_original(again_by, tmp_path):
    model = trained_model()
    again = again_by(model, tmp_path)
    assert again is not model
    assert evaluate(again) == evaluate(model)
    # Not at the step of a new model, where it would be another loss.
    np.testing.assert_allclose(
        [number(loss) for loss in again.losses],
        [number(loss) for loss in model.losses],
        rtol=0,
    )
    l2keras.set_step(again, 0)
    assert evaluate(again) != evaluate(model)


@pytest.mark.parametrize("again_by", [by_keras_file, by_pickle, by_deepcopy])
def test_training_continues_as_if_never_saved(again_by, tmp_path):
    model = trained_model()
    again = again_by(model, tmp_path)
    logs = [fit(each, epochs=2) for each in (model, again)]
    assert logs[0] == logs[1]
    assert_same_weights(model, again)
    assert number(again.optimizer.iterations) == 12


def test_a_model_saved_twice_continues_the_same(tmp_path):
    model = trained_model()
    again = by_keras_file(by_keras_file(model, tmp_path), tmp_path)
    fit(model)
    fit(again)
    assert_same_weights(model, again)


def test_a_subclassed_model_continues_after_loading(tmp_path):
    @keras.saving.register_keras_serializable(package="l2keras_tests")
    class Own(keras.Model):
        def __init__(self, **arguments):
            super().__init__(**arguments)
            self.hidden = keras.layers.Dense(
                8, kernel_regularizer=l2keras.L2(rising_schedule())
            )
            self.out = keras.layers.Dense(
                3,
                activation="softmax",
                kernel_regularizer=l2keras.L2(falling_schedule()),
            )

        def call(self, x):
            return self.out(self.hidden(x))

    model = Own()
    model(X)
    compiled(model)
    fit(model)
    # The constructor makes the layers, at step 0: the file knows no other.
    again = by_keras_file(model, tmp_path)
    fit(model)
    fit(again)
    assert_same_weights(model, again)


@pytest.mark.slow
def test_a_new_process_loads_a_model_after_importing_l2keras(tmp_path):
    schedule = l2keras.JoinedSchedule(
        [l2keras.CosineSchedule(0.0, 0.1, steps=3), rising_schedule()], [3]
    )
    model = compiled(
        documented_model(
            l2keras.L2(schedule) + keras.regularizers.L1(0.001),
            l2keras.GroupLasso(falling_schedule(), axis=0),
        )
    )
    fit(model)
    l2keras.set_scale(model, {"hidden/.*": 0.5})
    model.save(tmp_path / "model.keras")
    out = run_program("evaluate_reloaded_model", tmp_path / "model.keras")
    assert float(out.split()[-1]) == evaluate(model)


# The content of the files.


def config_of(path, layer):
    with zipfile.ZipFile(path) as archive:
        config = json.loads(archive.read("config.json"))
    for each in config["config"]["layers"]:
        if each["config"].get("name") == layer:
            return each["config"]["kernel_regularizer"]
    raise KeyError(layer)


def test_a_constant_regularizer_has_the_config_of_keras(tmp_path):
    path = tmp_path / "model.keras"
    model = compiled(
        documented_model(l2keras.L2(0.05), l2keras.L1L2(l1=0.01, l2=0.02))
    )
    fit(model)
    model.save(path)
    assert config_of(path, "hidden")["config"] == {"l2": 0.05}
    assert config_of(path, "output")["config"] == {"l1": 0.01, "l2": 0.02}
    for name, own in (
        ("hidden", keras.regularizers.L2),
        ("output", keras.regularizers.L1L2),
    ):
        config = config_of(path, name)["config"]
        assert own.from_config(config).get_config() == config


def test_a_scheduled_regularizer_is_saved_with_its_step(tmp_path):
    path = tmp_path / "model.keras"
    trained_model().save(path)
    config = config_of(path, "output")["config"]
    assert config.pop("step") == 4
    assert config.pop("l2")["class_name"] == "CosineDecay"
    assert config == {}


def test_a_lambda_in_a_file_is_not_loaded(tmp_path):
    path, edited = tmp_path / "model.keras", tmp_path / "edited.keras"
    scheduled_model().save(path)
    code = marshal.dumps(compile("raise SystemExit", "attack", "exec"))
    dumped = codecs.encode(code, "base64").decode("ascii")
    with (
        zipfile.ZipFile(path) as archive,
        zipfile.ZipFile(edited, "w") as other,
    ):
        for name in archive.namelist():
            content = archive.read(name)
            if name == "config.json":
                config = json.loads(content)
                layer = config["config"]["layers"][-1]["config"]
                layer["kernel_regularizer"]["config"]["l2"] = {
                    "class_name": "__lambda__",
                    "config": {"value": [dumped, None, None]},
                }
                content = json.dumps(config)
            other.writestr(name, content)
    with pytest.raises(TypeError, match=r"(?s)lambda.*safe_mode=False"):
        keras.saving.load_model(edited)


# Weight files, and counts of weights.


def test_a_scheduled_model_has_the_weights_of_a_plain_one():
    model, plain = trained_model(), plain_model()
    assert len(model.weights) == len(plain.weights)
    assert model.count_params() == plain.count_params()
    assert [weight.path.partition("/")[2] for weight in model.weights] == [
        weight.path.partition("/")[2] for weight in plain.weights
    ]
    summaries = []
    for each in (model, plain):
        lines = []
        each.optimizer.build(each.trainable_variables)
        each.summary(print_fn=lines.append)
        summaries.append(re.sub(r"sequential_?\d*", "", "\n".join(lines)))
    assert summaries[0] == summaries[1]


def test_weight_files_and_plain_keras_understand_each_other(tmp_path):
    path = tmp_path / "model.weights.h5"
    scheduled, plain = trained_model(), plain_model()
    plain.optimizer.build(plain.trainable_variables)
    scheduled.save_weights(path)
    plain.load_weights(path)
    assert_same_weights(plain, scheduled)
    for one, other in zip(
        plain.optimizer.variables, scheduled.optimizer.variables, strict=True
    ):
        np.testing.assert_array_equal(
            keras.ops.convert_to_numpy(one), keras.ops.convert_to_numpy(other)
        )

    fit(plain, callbacks=[])
    plain.save_weights(path)
    scheduled.load_weights(path)
    assert_same_weights(scheduled, plain)
    assert number(scheduled.optimizer.iterations) == 8
    # The schedules are at that step.
    output = scheduled.get_weights()[2]
    np.testing.assert_allclose(
        number(scheduled.losses[1]),
        falling(8) * np.sum(output**2),
        rtol=1e-5,
    )


@pytest.mark.skipif(
    BACKEND != "tensorflow", reason="Only TensorFlow exports without more."
)
@pytest.mark.parametrize("trained", [False, True], ids=["new", "trained"])
def test_an_exported_model_predicts_the_same(trained, tmp_path):
    import tensorflow as tf

    model = documented_model(
        l2keras.L2(rising_schedule()),
        l2keras.L2(falling_schedule()),
        between=[
            keras.layers.Dense(
                64,
                activity_regularizer=l2keras.L2(rising_schedule()),
                bias_regularizer=l2keras.L1(0.1),
            )
        ],
    )
    if trained:
        fit(compiled(model))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.export(tmp_path / "exported", verbose=False)
    again = tf.saved_model.load(tmp_path / "exported")
    np.testing.assert_allclose(
        again.serve(X), model.predict(X, verbose=0), rtol=1e-6
    )
    assert not [
        warning
        for warning in caught
        if issubclass(warning.category, UserWarning)
    ]


# Paths ------------------------------------------------------------------------


def nested_model():
    inner = keras.Sequential(
        [
            keras.Input((10,)),
            keras.layers.Dense(
                4, name="deep", kernel_regularizer=l2keras.L2(0.1)
            ),
        ],
        name="inner",
    )
    inputs = keras.Input((10,))
    outputs = keras.layers.Dense(
        3, "softmax", name="deep", kernel_regularizer=l2keras.L2(0.1)
    )(inner(inputs))
    return compiled(keras.Model(inputs, outputs, name="outer"))


def test_paths_are_the_same_after_loading(tmp_path):
    # `variable.path` does not: Keras drops the inner model's name on reload.
    model, logs = nested_model(), []
    fit(model)
    for each in (model, by_keras_file(model, tmp_path)):
        callbacks = [
            l2keras.PenaltyScheduler({"inner/deep/kernel": lambda epoch: 0.5}),
            l2keras.RegularizationLogger(penalties=True),
        ]
        logs.append(fit(each, callbacks=callbacks))
        assert each.get_layer("deep").kernel_regularizer.scale == 1.0
        inner = each.get_layer("inner").get_layer("deep")
        assert inner.kernel_regularizer.scale == 0.5
    assert "regularization_loss/inner/deep/kernel" in logs[0]
    assert logs[0].keys() == logs[1].keys()
