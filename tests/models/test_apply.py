"""Regularizers put on models that are built already, and off them again."""

import copy
import gc
import json
import pickle
import re
import zipfile

import keras
import numpy as np
import pytest
from helpers import (
    BACKEND,
    assert_weights,
    documented_data,
    documented_model,
    falling,
    falling_schedule,
    number,
    rising,
    rising_schedule,
    run_python,
    simulate,
    simulated_losses,
    takes_functions,
)
from keras import ops

import l2keras
from l2keras.regularizers import describing
from l2keras.weights import paths

register = keras.saving.register_keras_serializable(
    package="l2keras_tests_apply"
)


@pytest.fixture(autouse=True)
def few_objects():
    """Hides what was there before from l2keras, which looks for models.

    It looks at all objects in memory: a quarter of a second in these tests.
    """
    gc.freeze()
    yield
    gc.unfreeze()


@register
def cubic(weights):
    return ops.sum(ops.abs(weights) ** 3)


new_keras_only = pytest.mark.skipif(
    not takes_functions(), reason="Keras takes no function here."
)


# Layers and models of other people.


@register
class Custom(keras.layers.Layer):
    """Has two weights, and a layer that Keras gives a name."""

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.inner = keras.layers.Dense(units)

    def build(self, input_shape):
        shape = (input_shape[-1], self.units)
        self.mix = self.add_weight(shape=shape, name="mix")
        self.bias = self.add_weight(shape=shape, name="bias")
        self.inner.build(input_shape)

    def call(self, inputs):
        return self.inner(inputs) + inputs @ (self.mix + self.bias)

    def get_config(self):
        return {**super().get_config(), "units": self.units}


@register
class Lazy(keras.layers.Layer):
    """Leaves it to its first call to build the layers in it."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.first = keras.layers.Dense(3)
        self.second = keras.layers.Dense(2)

    def build(self, input_shape):
        pass

    def call(self, inputs):
        return self.second(self.first(inputs))


@register
class Own(keras.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.hidden = keras.layers.Dense(3, name="hidden")
        self.custom = Custom(2, name="custom")
        self.pair = [keras.layers.Dense(2, name=name) for name in "ab"]

    def call(self, inputs):
        hidden = self.custom(self.hidden(inputs))
        return self.pair[0](hidden) + self.pair[1](hidden)


@register
class OwnFunctional(keras.Model):
    """A functional model whose config is not one."""

    def __init__(self, units=3, **kwargs):
        inputs = keras.Input((4,))
        hidden = keras.layers.Dense(units, name="hidden")(inputs)
        outputs = keras.layers.Dense(2, name="output")(hidden)
        super().__init__(inputs, outputs, **kwargs)
        self.units = units

    def get_config(self):
        return {"units": self.units, "name": self.name}


def sequential(shape, *layers):
    return keras.Sequential([keras.Input(shape), *layers])


def functional():
    inputs = keras.Input((4,))
    one = keras.layers.Dense(3, name="one")(inputs)
    two = keras.layers.Dense(3, name="two")(inputs)
    return keras.Model(inputs, keras.layers.Add()([one, two]))


def backbone():
    return keras.Sequential(
        [
            keras.Input((6, 6, 2)),
            keras.layers.Conv2D(3, 2, name="conv1"),
            keras.layers.BatchNormalization(name="bn"),
            keras.layers.GlobalAveragePooling2D(),
        ],
        name="backbone",
    )


def transfer():
    inputs = keras.Input((6, 6, 2))
    features = backbone()(inputs)
    return keras.Model(inputs, keras.layers.Dense(2, name="head")(features))


def shared():
    inputs = keras.Input((4,))
    layer = keras.layers.Dense(4, name="twice")
    return keras.Model(inputs, layer(layer(inputs)))


def attention(**arguments):
    inputs = keras.Input((3, 4))
    layer = keras.layers.MultiHeadAttention(2, 2, name="mha", **arguments)
    return keras.Model(inputs, layer(inputs, inputs))


def stacked_cells():
    cells = [
        keras.layers.LSTMCell(2, name="one"),
        keras.layers.GRUCell(2, name="two"),
    ]
    return sequential((3, 4), keras.layers.RNN(cells, name="rnn"))


def bidirectional(layer):
    return sequential((3, 4), keras.layers.Bidirectional(layer, name="both"))


def lora():
    layer = keras.layers.Dense(2, name="dense")
    model = sequential((4,), layer, keras.layers.Dense(2, name="head"))
    layer.enable_lora(2)
    layer.lora_kernel_b.assign(np.ones((2, 2)))  # Zeros pay nothing.
    return model


def quantized():
    layer = keras.layers.Dense(2, name="dense")
    model = sequential((4,), layer, keras.layers.Dense(2, name="head"))
    layer.quantize("int8")
    return model


def normalized():
    layers = [
        keras.layers.BatchNormalization(name="batch"),
        keras.layers.LayerNormalization(axis=[1, 2], name="layer"),
        keras.layers.GroupNormalization(2, name="group"),
        keras.layers.Dense(2, name="dense"),
        keras.layers.PReLU(name="slopes"),
    ]
    if hasattr(keras.layers, "RMSNormalization"):
        layers.insert(3, keras.layers.RMSNormalization(name="rms"))
    return sequential((3, 4), *layers)


def embedded():
    return sequential(
        (3,),
        keras.layers.Embedding(5, 2, name="embedding"),
        keras.layers.Flatten(),
        keras.layers.Dense(2, name="head"),
    )


def subclassed():
    model = Own()
    model(np.zeros((2, 4)))
    return model


# A row: how to make the model, and what the default reaches.
ROWS = {
    "Sequential": (
        lambda: sequential(
            (4,),
            keras.layers.Dense(3, name="a"),
            keras.layers.Dense(2, name="b"),
        ),
        ["a/kernel", "b/kernel"],
    ),
    "functional": (functional, ["one/kernel", "two/kernel"]),
    "functional, subclassed": (
        OwnFunctional,
        ["hidden/kernel", "output/kernel"],
    ),
    "model in a model": (transfer, ["backbone/conv1/kernel", "head/kernel"]),
    "subclassed": (
        subclassed,
        [
            "hidden/kernel",
            "custom/mix",
            "custom/dense/kernel",
            "a/kernel",
            "b/kernel",
        ],
    ),
    "shared layer": (shared, ["twice/kernel"]),
    "custom layer": (
        lambda: sequential((4,), Custom(3, name="one"), Custom(2, name="two")),
        [
            "one/mix",
            "one/dense/kernel",
            "two/mix",
            "two/dense/kernel",
        ],
    ),
    "built in its first call": (
        lambda: sequential((4,), Lazy(name="lazy")),
        ["lazy/dense/kernel", "lazy/dense/kernel"],
    ),
    "Bidirectional LSTM": (
        lambda: bidirectional(keras.layers.LSTM(2, name="lstm")),
        [
            f"both/{side}_lstm/lstm_cell/{name}"
            for side in ("forward", "backward")
            for name in ("kernel", "recurrent_kernel")
        ],
    ),
    "Bidirectional GRU": (  # Whose bias has two dimensions.
        lambda: bidirectional(keras.layers.GRU(2, name="gru")),
        [
            f"both/{side}_gru/gru_cell/{name}"
            for side in ("forward", "backward")
            for name in ("kernel", "recurrent_kernel")
        ],
    ),
    "RNN of cells": (
        stacked_cells,
        [
            f"rnn/stacked_rnn_cells/{cell}/{name}"
            for cell in ("one", "two")
            for name in ("kernel", "recurrent_kernel")
        ],
    ),
    "ConvLSTM1D": (
        lambda: sequential(
            (3, 6, 2), keras.layers.ConvLSTM1D(2, 2, name="conv")
        ),
        ["conv/conv_lstm_cell/kernel", "conv/conv_lstm_cell/recurrent_kernel"],
    ),
    "SeparableConv2D": (
        lambda: sequential(
            (6, 6, 2), keras.layers.SeparableConv2D(3, 2, name="conv")
        ),
        ["conv/depthwise_kernel", "conv/pointwise_kernel"],
    ),
    "DepthwiseConv1D": (
        lambda: sequential(
            (6, 2), keras.layers.DepthwiseConv1D(2, name="conv")
        ),
        ["conv/kernel"],
    ),
    "DepthwiseConv2D": (
        lambda: sequential(
            (6, 6, 2), keras.layers.DepthwiseConv2D(2, name="conv")
        ),
        ["conv/kernel"],
    ),
    "EinsumDense": (  # Its bias has two dimensions.
        lambda: sequential(
            (4,),
            keras.layers.EinsumDense(
                "ab,bcd->acd", (2, 3), bias_axes="cd", name="einsum"
            ),
        ),
        ["einsum/kernel"],
    ),
    "MultiHeadAttention": (
        attention,
        [
            f"mha/{name}/kernel"
            for name in ("query", "key", "value", "attention_output")
        ],
    ),
    "Embedding": (embedded, ["head/kernel"]),
    "normalizations": (normalized, ["dense/kernel"]),
    "LoRA": (
        lora,
        [
            "dense/kernel",
            "dense/lora_kernel_a",
            "dense/lora_kernel_b",
            "head/kernel",
        ],
    ),
    "int8": (quantized, ["head/kernel"]),
    "TimeDistributed": (
        lambda: sequential(
            (3, 4),
            keras.layers.TimeDistributed(
                keras.layers.Dense(2, name="inner"), name="each"
            ),
        ),
        ["each/inner/kernel"],
    ),
    "SpectralNormalization": (
        lambda: sequential(
            (4,),
            keras.layers.SpectralNormalization(
                keras.layers.Dense(2, name="inner"), name="norm"
            ),
        ),
        ["norm/inner/kernel"],
    ),
}

each_row = pytest.mark.parametrize(
    ("make", "reached"),
    [pytest.param(*row, id=name) for name, row in ROWS.items()],
)
each_model = pytest.mark.parametrize(
    "make", [pytest.param(row[0], id=name) for name, row in ROWS.items()]
)


def without_numbers(path):
    """Returns a path without what Keras adds to names that it makes."""
    return re.sub(r"_\d+(?=/)", "", path)


def variable(model, path):
    """Returns the variable of a path, by the one that Keras gives it."""
    path = path.removeprefix("backbone/")  # Not in Keras's path.
    (found,) = [
        each for each in model.weights if f"/{each.path}".endswith(f"/{path}")
    ]
    return found


def l2(model, strengths):
    """Returns in NumPy what weights pay by L2, those that are trained."""
    penalties = []
    for path, strength in strengths.items():
        weight = variable(model, path)
        if weight.trainable:
            array = keras.ops.convert_to_numpy(weight).astype("float64")
            penalties.append(strength * np.sum(array**2))
    return penalties


def losses(model):
    return [number(each) for each in model.losses]


def assert_pays(model, expected):
    """Asserts the penalties, in any order."""
    assert len(model.losses) == len(expected)
    np.testing.assert_allclose(
        sorted(losses(model)), sorted(expected), rtol=1e-5
    )


def state(model):
    """Returns what each weight is and pays by, without names from Keras."""
    return [
        (
            without_numbers(each.path),
            each.shape,
            keras.saving.serialize_keras_object(each.regularizer),
        )
        for each in l2keras.penalties(model)
    ]


def on_data(model):
    """Builds a model that is not."""
    if not model.built:
        model(np.zeros((2, 4)))
    return model


# Ways to have a model twice.


def by_keras_file(model, folder):
    model.save(folder / "model.keras")
    return keras.saving.load_model(folder / "model.keras")


def by_h5_file(model, folder):
    model.save(folder / "model.h5")
    return keras.saving.load_model(folder / "model.h5")


def by_json(model, folder):
    again = on_data(keras.models.model_from_json(model.to_json()))
    again.set_weights(model.get_weights())
    return again


def by_clone(model, folder):
    again = on_data(keras.models.clone_model(model))
    again.set_weights(model.get_weights())
    return again


def by_pickle(model, folder):
    return pickle.loads(pickle.dumps(model))


def by_deepcopy(model, folder):
    return copy.deepcopy(model)


# The contract -----------------------------------------------------------------


@each_row
def test_the_default_reaches_the_kernels_and_is_paid(make, reached):
    model = make()
    assert losses(model) == []
    done = l2keras.apply_regularizers(model, default=l2keras.L2(0.25))
    assert [without_numbers(path) for path in done] == reached
    assert_pays(model, l2(model, dict.fromkeys(done, 0.25)))
    assert any(losses(model))
    for path, regularizer in done.items():
        assert variable(model, path).regularizer is regularizer
        assert repr(regularizer) == "L2(l2=0.25)"
    # No weight has it besides.
    assert sum(v.regularizer is not None for v in model.weights) == len(done)


@each_row
def test_the_model_computes_and_is_named_as_before(make, reached):
    model = make()
    shape = getattr(model, "input_shape", (None, 4))[1:]
    x = np.random.default_rng(0).integers(0, 5, (2, *shape)).astype("float32")
    outputs = ops.convert_to_numpy(model(x))
    layers = model._flatten_layers
    classes = [type(each) for each in layers()]
    names = [each.path for each in model.weights]
    l2keras.apply_regularizers(model, each_its_own(model))
    np.testing.assert_array_equal(ops.convert_to_numpy(model(x)), outputs)
    assert [each.path for each in model.weights] == names
    for each, before in zip(layers(), classes, strict=True):
        assert isinstance(each, before)
        assert type(each).__name__ == before.__name__
        assert type(each).__module__ == before.__module__


def each_its_own(model):
    """Returns a rule for each weight: a strength of its own, or none."""
    trained = [w.path for w in paths.weights(model) if w.is_trained]
    return {
        path: l2keras.L2(0.01 * number) if number % 4 else None
        for number, path in enumerate(trained, start=1)
    }


@pytest.mark.parametrize("alike", [True, False], ids=["alike", "each its own"])
@each_model
def test_regularizers_outlive_saving(make, alike, tmp_path):
    model = make()
    if alike:
        l2keras.apply_regularizers(model, default=l2keras.L2(0.25))
    else:  # On biases and normalizations too.
        l2keras.apply_regularizers(model, each_its_own(model))
    for again_by in (by_keras_file, by_json, by_clone):
        again = again_by(model, tmp_path)
        assert state(again) == state(model), again_by
        # In a file, Keras adds LoRA's factors to the kernel.
        again.set_weights(model.get_weights())
        np.testing.assert_allclose(
            sorted(losses(again)), sorted(losses(model)), rtol=1e-6
        )
    # And once more, from what was a copy already.
    assert state(by_json(again, tmp_path)) == state(model)


@pytest.mark.parametrize("again_by", [by_h5_file, by_pickle, by_deepcopy])
@pytest.mark.parametrize("make", [attention, transfer, functional])
def test_regularizers_outlive_other_ways_to_save(make, again_by, tmp_path):
    model = make()
    rules = {".*(head|one|key)/kernel": l2keras.L1(0.5) + l2keras.L2(0.25)}
    l2keras.apply_regularizers(model, rules)
    again = again_by(model, tmp_path)
    assert state(again) == state(model)
    assert losses(again) == losses(model)
    assert len(losses(model)) == 1


# Training ---------------------------------------------------------------------

X, Y = documented_data()  # Five batches of 16.


def outer_model():
    """Returns the documented model inside another, compiled."""
    inner = documented_model(None, None)
    inner.name = "inner"
    inputs = keras.Input((10,))
    model = keras.Model(inputs, inner(inputs))
    model.compile(keras.optimizers.SGD(0.1), "categorical_crossentropy")
    return model


def fit(model, *callbacks, epochs=1):
    return model.fit(
        X,
        Y,
        batch_size=16,
        epochs=epochs,
        shuffle=False,
        verbose=0,
        callbacks=list(callbacks),
    ).history


class Calls(keras.callbacks.Callback):
    """Calls a function after the first epoch."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def on_epoch_end(self, epoch, logs=None):
        if epoch == 0:
            self.function()


def twice(model, change, when, logger):
    """Trains for two epochs with a change between; returns the logs."""
    loggers = [] if logger is None else [l2keras.RegularizationLogger()]
    if when == "between two trainings":
        first = fit(model, *loggers)
        change()
        second = fit(model, *loggers)
        return {key: first[key] + second[key] for key in first}
    callbacks = [Calls(change)]
    callbacks[slice(1, 1) if logger == "last" else slice(0, 0)] = loggers
    return fit(model, *callbacks, epochs=2)


each_moment = pytest.mark.parametrize(
    ("when", "logger"),
    [
        ("between two trainings", None),
        ("between two trainings", "first"),
        ("in a callback", None),
        ("in a callback", "first"),
        ("in a callback", "last"),
    ],
)


def assert_trained(model, logs, weights, first, second):
    """Asserts that a model was trained for two epochs as NumPy does it."""
    truth = simulate(weights, X, Y, first=first, second=second, epochs=2)
    assert_weights(model, truth.weights)
    expected = np.add(truth.data_losses, truth.regularization_losses)
    np.testing.assert_allclose(logs["loss"], expected, rtol=0, atol=1e-5)
    if "data_loss" in logs:
        np.testing.assert_allclose(
            logs["regularization_loss"],
            truth.regularization_losses,
            rtol=0,
            atol=1e-5,
        )


@each_moment
@pytest.mark.parametrize("given", ["outer", "inner"])
def test_a_model_in_training_goes_on_with_the_penalty(given, when, logger):
    model = outer_model()
    weights = model.get_weights()

    def change():
        # The one that was compiled is the outer model.
        inner = given == "inner"
        l2keras.apply_regularizers(
            model.get_layer("inner") if inner else model,
            {f"{'' if inner else 'inner/'}hidden/kernel": l2keras.L2(0.05)},
            default=l2keras.L2(0.02),
        )

    logs = twice(model, change, when, logger)
    assert_trained(
        model,
        logs,
        weights,
        lambda step: 0.05 * (step >= 5),
        lambda step: 0.02 * (step >= 5),
    )


@each_moment
def test_a_model_in_training_goes_on_without_the_penalty(when, logger):
    model = outer_model()
    weights = model.get_weights()
    l2keras.apply_regularizers(model, default=l2keras.L2(0.05))
    logs = twice(model, lambda: l2keras.strip_regularizers(model), when, logger)

    def strength(step):
        return 0.05 * (step < 5)

    assert_trained(model, logs, weights, strength, strength)


def test_a_fitted_model_trains_on_as_one_made_with_the_regularizers():
    expected = documented_model(
        keras.regularizers.L2(0.05), keras.regularizers.L2(0.05)
    )
    model = documented_model(None, None)
    for each in (expected, model):
        each.compile("sgd", "categorical_crossentropy")
    fit(model)
    expected.set_weights(model.get_weights())
    l2keras.apply_regularizers(model, default=l2keras.L2(0.05))
    np.testing.assert_allclose(
        fit(model)["loss"], fit(expected)["loss"], rtol=1e-6
    )
    assert_weights(model, expected.get_weights())


@pytest.mark.parametrize("scheduled_before", [True, False])
@pytest.mark.parametrize("logger", ["first", "last"])
def test_schedules_applied_in_a_callback_are_driven(logger, scheduled_before):
    model = outer_model()
    weights = model.get_weights()
    if scheduled_before:
        l2keras.apply_regularizers(
            model, default=l2keras.L2(falling_schedule())
        )

    def change():
        l2keras.apply_regularizers(model, default=l2keras.L2(rising_schedule()))

    def strength(step):
        if step < 5:
            return falling(step) if scheduled_before else 0.0
        return rising(step)

    logs = twice(model, change, "in a callback", logger)
    assert_trained(model, logs, weights, strength, strength)


def test_factors_of_lora_in_a_layer_that_does_not_save_them(tmp_path):
    # Keras merges them into the kernel, in the file.
    model = attention()
    model.get_layer("mha").query_dense.enable_lora(2)
    l2keras.apply_regularizers(model, default=l2keras.L2(0.1))
    again = by_keras_file(model, tmp_path)
    assert [each.path for each in l2keras.penalties(again) if each.penalty] == [
        f"mha/{name}/kernel"
        for name in ("query", "key", "value", "attention_output")
    ]


def test_schedules_that_were_applied_are_driven_from_the_same_step():
    model = outer_model()
    weights = model.get_weights()
    # There is a clock from the start.
    rules = {"inner/hidden/kernel": l2keras.L2(falling_schedule())}
    l2keras.apply_regularizers(model, rules)

    def change():
        before = len(model.variables)
        l2keras.apply_regularizers(model, default=l2keras.L2(rising_schedule()))
        # One more layer carries a clock, but it is the same.
        assert len(model.variables) == before
        # The step is kept.
        _, penalty = simulated_losses(
            model.get_weights(), X, Y, rising(5), rising(5)
        )
        assert sum(losses(model)) == pytest.approx(penalty, rel=1e-5)

    logs = twice(model, change, "between two trainings", "first")
    assert_trained(
        model,
        logs,
        weights,
        lambda step: falling(step) if step < 5 else rising(step),
        lambda step: 0.0 if step < 5 else rising(step),
    )


def test_schedules_of_a_model_that_had_none_are_driven():
    model = outer_model()
    weights = model.get_weights()
    logs = twice(
        model,
        lambda: l2keras.apply_regularizers(
            model, default=l2keras.L2(rising_schedule())
        ),
        "between two trainings",
        "first",
    )

    def strength(step):
        return rising(step) * (step >= 5)

    assert_trained(model, logs, weights, strength, strength)


# Rules ------------------------------------------------------------------------


def two_layers(**arguments):
    return sequential(
        (4,),
        keras.layers.Dense(3, name="hidden", **arguments),
        keras.layers.BatchNormalization(name="norm"),
        keras.layers.Dense(2, name="output", **arguments),
    )


def described(model):
    """Returns the regularizers by path, those that there are."""
    return {
        each.path: repr(each.regularizer)
        for each in l2keras.penalties(model)
        if each.regularizer is not None
    }


@pytest.mark.parametrize(
    ("rules", "default", "expected"),
    [
        pytest.param(
            {"hidden/kernel": l2keras.L1(0.5)},
            None,
            {"hidden/kernel": "L1(l1=0.5)"},
            id="path",
        ),
        pytest.param(
            {".*/kernel": l2keras.L1(0.5)},
            None,
            {"hidden/kernel": "L1(l1=0.5)", "output/kernel": "L1(l1=0.5)"},
            id="pattern",
        ),
        pytest.param(
            {".*/kernel": l2keras.L1(0.5), "output/kernel": l2keras.L2(0.25)},
            None,
            {"hidden/kernel": "L1(l1=0.5)", "output/kernel": "L2(l2=0.25)"},
            id="path before pattern",
        ),
        pytest.param(
            {"hidden/.*": l2keras.L1(0.5)},
            l2keras.L2(0.25),
            {
                "hidden/kernel": "L1(l1=0.5)",
                "hidden/bias": "L1(l1=0.5)",
                "output/kernel": "L2(l2=0.25)",
            },
            id="pattern before default",
        ),
        pytest.param(
            {"hidden/kernel": None},
            l2keras.L2(0.25),
            {"output/kernel": "L2(l2=0.25)"},
            id="none before default",
        ),
        pytest.param(
            {"norm/(gamma|beta)": l2keras.L2(0.25)},
            None,
            {"norm/gamma": "L2(l2=0.25)", "norm/beta": "L2(l2=0.25)"},
            id="normalization",
        ),
    ],
)
def test_rules_say_which_weight_has_which(rules, default, expected, tmp_path):
    model = two_layers()
    done = l2keras.apply_regularizers(model, rules, default)
    assert described(model) == expected
    assert {k: repr(v) for k, v in done.items() if v is not None} == expected
    assert described(by_keras_file(model, tmp_path)) == expected


@pytest.mark.parametrize(
    ("rules", "left"),
    [
        ({".*": None}, {}),
        ({"hidden/.*": None}, {"output/kernel": "L2(l2=0.25)"}),
        (
            {"hidden/bias": None},
            {"hidden/kernel": "L2(l2=0.25)", "output/kernel": "L2(l2=0.25)"},
        ),
    ],
)
def test_none_takes_a_regularizer_off(rules, left, tmp_path):
    model = two_layers(kernel_regularizer=l2keras.L2(0.25))
    done = l2keras.apply_regularizers(model, rules)
    assert set(done.values()) == {None}
    assert described(model) == left
    assert_pays(model, l2(model, dict.fromkeys(left, 0.25)))
    for again in (by_keras_file(model, tmp_path), by_clone(model, tmp_path)):
        assert described(again) == left


def test_what_was_done_prints_one_weight_in_a_line():
    function = "cubic" if takes_functions() else "Keras L2(l2=0.01)"
    done = l2keras.apply_regularizers(
        two_layers(),
        {
            "hidden/kernel": keras.regularizers.L1(0.5),
            "hidden/bias": cubic if takes_functions() else "l2",
            "output/kernel": None,
            "norm/gamma": l2keras.L1(0.5) + l2keras.L2(0.25),
        },
    )
    assert repr(done) == (
        "hidden/kernel: Keras L1(l1=0.5)\n"
        f"hidden/bias: {function}\n"
        "norm/gamma: Sum(regularizers=[L1(l1=0.5), L2(l2=0.25)])\n"
        "output/kernel: None"
    )
    assert isinstance(done, dict)


def test_each_weight_has_a_copy_of_its_own(tmp_path):
    model = two_layers()
    given = l2keras.L2(0.25)
    done = l2keras.apply_regularizers(model, default=given)
    one, other = done.values()
    assert len({id(one), id(other), id(given)}) == 3
    # So that each can have its own scale.
    l2keras.set_scale(model, {"hidden/kernel": 0.5})
    expected = l2(model, {"hidden/kernel": 0.125, "output/kernel": 0.25})
    assert_pays(model, expected)
    assert given.scale == 1.0
    assert_pays(by_keras_file(model, tmp_path), expected)


@pytest.mark.parametrize(
    ("regularizer", "truth"),
    [
        pytest.param("l2", lambda w: 0.01 * np.sum(w**2), id="name"),
        pytest.param(
            cubic,
            lambda w: np.sum(np.abs(w) ** 3),
            id="function",
            marks=new_keras_only,
        ),
        pytest.param(
            keras.regularizers.L1(0.5),
            lambda w: 0.5 * np.sum(np.abs(w)),
            id="Keras's",
        ),
        pytest.param(
            keras.regularizers.serialize(keras.regularizers.L1(0.5)),
            lambda w: 0.5 * np.sum(np.abs(w)),
            id="config",
        ),
    ],
)
def test_whatever_keras_takes_can_be_applied(regularizer, truth, tmp_path):
    model = two_layers()
    l2keras.apply_regularizers(model, {"hidden/kernel": regularizer})
    kernel = model.get_weights()[0].astype("float64")
    for each in (
        model,
        by_keras_file(model, tmp_path),
        by_json(model, tmp_path),
        by_clone(model, tmp_path),
    ):
        assert_pays(each, [truth(kernel)])


@pytest.mark.parametrize("embeddings", [False, True])
def test_embeddings_take_the_default_if_they_are_told_to(embeddings):
    model = embedded()
    done = l2keras.apply_regularizers(
        model, default=l2keras.L2(0.25), default_embeddings=embeddings
    )
    added = ["embedding/embeddings"] if embeddings else []
    assert list(done) == [*added, "head/kernel"]
    assert_pays(model, l2(model, dict.fromkeys(done, 0.25)))
    assert state(by_json(model, None)) == state(model)


def test_frozen_layers_pay_from_when_they_are_thawed(tmp_path):
    model = two_layers()
    model.get_layer("hidden").trainable = False
    done = l2keras.apply_regularizers(model, default=l2keras.L2(0.25))
    assert list(done) == ["hidden/kernel", "output/kernel"]
    for each in (model, by_keras_file(model, tmp_path)):
        assert_pays(each, l2(model, {"output/kernel": 0.25}))
        each.get_layer("hidden").trainable = True
        assert_pays(each, l2(each, dict.fromkeys(done, 0.25)))
        each.get_layer("hidden").trainable = False


def test_applying_and_stripping_leave_no_variables_behind():
    model = two_layers()
    weights = len(model.variables)
    for _ in range(2):
        l2keras.apply_regularizers(model, default=l2keras.L2(rising_schedule()))
        l2keras.set_scale(model, {"hidden/.*": 0.5, "output/.*": 0.25})
        assert len(model.variables) == weights + 3
        l2keras.apply_regularizers(
            model, default=l2keras.L2(falling_schedule())
        )
        # The scales are gone, and the clock is one.
        assert len(model.variables) == weights + 1
        l2keras.set_scale(model, {".*/kernel": 0.5})
        assert len(model.variables) == weights + 2
        l2keras.strip_regularizers(model)
        assert len(model.variables) == weights
        assert losses(model) == []


# Weights of a layer that has no argument for them -----------------------------


def with_rms():
    return sequential(
        (4,),
        keras.layers.RMSNormalization(name="rms"),
        keras.layers.Dense(2, name="head"),
    )


# A row: how to make the model, and rules that its layers cannot say.
SET_APART = {
    "MultiHeadAttention": (
        attention,
        {"mha/query/kernel": l2keras.L2(0.25), "mha/key/kernel": None},
        "mha",
    ),
    "Bidirectional": (
        lambda: bidirectional(keras.layers.LSTM(2, name="lstm")),
        {
            "both/forward_.*/kernel": l2keras.L2(0.25),
            "both/backward_.*/kernel": l2keras.L1(0.5),
            "both/backward_.*/recurrent_kernel": None,
        },
        None,
    ),
    "LoRA": (
        lora,
        {
            "dense/lora_kernel_a": l2keras.L2(0.25),
            "dense/lora_kernel_b": l2keras.L1(0.5),
            "dense/kernel": None,
        },
        "dense",
    ),
    "custom layer": (
        lambda: sequential((4,), Custom(3, name="custom")),
        {"custom/mix": l2keras.L2(0.25), "custom/bias": l2keras.L1(0.5)},
        "custom",
    ),
}
if hasattr(keras.layers, "RMSNormalization"):
    SET_APART["RMSNormalization"] = (
        with_rms,
        {"rms/scale": l2keras.L2(0.25)},
        "rms",
    )

each_set_apart = pytest.mark.parametrize(
    ("make", "rules", "layer"),
    [pytest.param(*row, id=name) for name, row in SET_APART.items()],
)


def saved_config(path):
    with zipfile.ZipFile(path) as archive:
        return json.loads(archive.read("config.json"))


@each_set_apart
def test_regularizers_are_saved_where_the_layer_has_no_argument(
    make, rules, layer, tmp_path
):
    model = make()
    l2keras.apply_regularizers(model, rules)
    assert len(described(model)) == sum(map(bool, rules.values()))
    again = by_keras_file(model, tmp_path)
    assert described(again) == described(model)
    assert losses(by_json(model, None)) == losses(model)
    layers = saved_config(tmp_path / "model.keras")["config"]["layers"]
    kinds = [each["registered_name"] for each in layers]
    # One alone, and a layer that can say it by itself is saved as always.
    assert kinds.count("l2keras>RegularizedLayer") == (layer is not None)
    assert [type(each).__name__ for each in again._flatten_layers()] == [
        type(each).__name__ for each in make()._flatten_layers()
    ]
    # They go on being changed where they were loaded.
    l2keras.apply_regularizers(again, {".*": None})
    assert losses(again) == []
    assert described(by_json(again, None)) == {}


@each_set_apart
def test_weight_files_and_the_plain_model_understand_each_other(
    make, rules, layer, tmp_path
):
    if make is lora:
        pytest.skip("Keras itself adds the factors to the kernel in a file.")
    model, plain = make(), make()
    l2keras.apply_regularizers(model, rules)
    for one, other in ((model, plain), (plain, model)):
        one.set_weights([each + 1 for each in one.get_weights()])
        one.save_weights(tmp_path / "model.weights.h5")
        other.load_weights(tmp_path / "model.weights.h5")
        assert_weights(one, other.get_weights(), atol=1e-6)


def test_a_layer_that_is_not_registered_can_be_cloned_and_named_on_loading(
    tmp_path,
):
    class Unknown(Custom):
        pass

    model = sequential((4,), Unknown(3, name="custom"))
    l2keras.apply_regularizers(model, {"custom/mix": l2keras.L2(0.25)})
    assert described(by_clone(model, None)) == described(model)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(
        tmp_path / "model.keras", custom_objects={"Unknown": Unknown}
    )
    assert described(again) == described(model)
    assert losses(again) == losses(model)


def lazy():
    return sequential((4,), Lazy(name="lazy"))


@pytest.mark.parametrize("make", [attention, subclassed, lazy])
def test_a_loaded_model_trains_on_as_the_one_that_was_saved(make, tmp_path):
    model = make()
    l2keras.apply_regularizers(
        model,
        {".*(key|hidden)/kernel": l2keras.L1(0.05)} if make != lazy else {},
        default=l2keras.L2(rising_schedule()),
    )
    # So that no layer can say what its weights have.
    shape = (2,) if make != attention else (3, 4)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(16, *shape[:-1], 4)).astype("float32")
    y = rng.normal(size=(16, *shape)).astype("float32")
    model.compile(keras.optimizers.SGD(0.01, momentum=0.9), "mse")

    def fit_one(model):
        return model.fit(
            x,
            y,
            batch_size=4,
            shuffle=False,
            verbose=0,
            callbacks=[l2keras.RegularizationLogger()],
        ).history

    first = fit_one(model)
    again = by_keras_file(model, tmp_path)
    assert again.evaluate(x, y, verbose=0) == model.evaluate(x, y, verbose=0)
    second = fit_one(model)
    assert fit_one(again) == second
    # The schedule went on: not the epoch that it was trained by before.
    assert second["regularization_loss"] > first["regularization_loss"]
    assert_weights(again, model.get_weights(), atol=0)


def test_a_layer_that_changed_its_weights_is_not_loaded():
    layer = Custom(3, name="custom")
    model = sequential((4,), layer)
    l2keras.apply_regularizers(model, {"custom/mix": l2keras.L2(0.25)})
    config = layer.get_config()
    config["regularizers"].append(None)
    config["weights"].append("more")
    with pytest.raises(ValueError, match="regularizers of") as error:
        sequential((4,), type(layer).from_config(config))
    message = (
        "Layer 'custom' was saved with the regularizers of 5 weights, but has "
        "4. Load it with the class that it was saved with."
    )
    assert str(error.value).splitlines()[0].endswith(message)


# Mistakes ---------------------------------------------------------------------


def unbuilt():
    return keras.Sequential([keras.layers.Dense(1)], name="unbuilt")


class Vector(keras.regularizers.Regularizer):
    def __call__(self, weights):
        return weights[0]


def mistake(error, message, rules=None, default=None, make=None, **arguments):
    return make or two_layers, rules, default, arguments, error, message


SCHEDULE = l2keras.LinearSchedule(0.0, 0.05, steps=8)
RECEIVED = (
    "must be a regularizer, as an instance such as `l2keras.L2(1e-4)`, or "
    "None. Received: "
)
PATHS = (
    "'hidden/kernel', 'hidden/bias', 'norm/gamma', 'norm/beta', "
    "'output/kernel', 'output/bias'"
)

MISTAKES = {
    "no model": mistake(
        TypeError,
        "Argument `model` must be a Keras model. Received: model='model' (of "
        "type str)",
        default=l2keras.L2(),
        make=lambda: "model",
    ),
    "not built": mistake(
        ValueError,
        "Model 'unbuilt' is not built, so it has no weights yet. Call "
        "`model.build(input_shape)` first, or call it on data.",
        default=l2keras.L2(),
        make=unbuilt,
    ),
    "a class": mistake(
        TypeError,
        f"Argument `default` {RECEIVED}default={l2keras.L2!r}",
        default=l2keras.L2,
    ),
    "a class in the rules": mistake(
        TypeError,
        f"Argument `rules['hidden/kernel']` {RECEIVED}rules['hidden/kernel']="
        f"{l2keras.L2!r}",
        {"hidden/kernel": l2keras.L2},
    ),
    "a number": mistake(
        TypeError,
        f"Argument `default` {RECEIVED}default=0.01",
        default=0.01,
    ),
    "a schedule": mistake(
        TypeError,
        f"Argument `rules['.*']` {RECEIVED}rules['.*']={SCHEDULE!r}",
        {".*": SCHEDULE},
    ),
    "no match": mistake(
        ValueError,
        "Pattern 'hiden/.*' matches no weight. A pattern is a whole path or a "
        f"regular expression for one. Paths: {PATHS}",
        {"hiden/.*": l2keras.L2()},
    ),
    "two matches": mistake(
        ValueError,
        "Weight 'hidden/kernel' is matched by more than one pattern: "
        "'hidden/.*', '.*/kernel'. Make each weight match at most one.",
        {"hidden/.*": l2keras.L2(), ".*/kernel": None},
    ),
    "no expression": mistake(
        ValueError,
        "Pattern 'hidden/(' is not a regular expression: missing ), "
        "unterminated subpattern at position 7.",
        {"hidden/(": l2keras.L2()},
    ),
    "no string": mistake(
        TypeError,
        "A pattern must be a string: a path, or a regular expression. "
        "Received: 0",
        {0: l2keras.L2()},
    ),
    "statistics": mistake(
        ValueError,
        "Weight 'norm/moving_mean' is never trained, so it cannot pay a "
        "penalty. Leave it out of the rules.",
        {"norm/moving_mean": l2keras.L2()},
    ),
    "no such axis": mistake(
        ValueError,
        "Regularizer GroupLasso(strength=0.01, axis=3, scale_by_size=False) "
        "cannot be computed for weight 'hidden/kernel' of shape (4, 3): "
        "GroupLasso(strength=0.01, axis=3, scale_by_size=False) needs weights "
        "that have axis 3. Received: weights of shape (4, 3)",
        default=l2keras.GroupLasso(axis=3),
    ),
    "a vector": mistake(
        ValueError,
        "A regularizer must return one number. Received: Vector(...), which "
        "returned shape (3,) for weight 'hidden/kernel'",
        {"hidden/kernel": Vector()},
    ),
    "nothing": mistake(
        ValueError,
        "There is nothing to apply. Give `rules`, a dictionary from path or "
        "pattern to regularizer, or a `default` for all kernels. (To take all "
        'regularizers off, the rule is `{".*": None}`.)',
    ),
    "no kernel": mistake(
        ValueError,
        "Model 'bare' has no kernel that the default could go to.",
        default=l2keras.L2(),
        make=lambda: keras.Sequential(
            [keras.Input((4,)), keras.layers.BatchNormalization()], name="bare"
        ),
    ),
    "no boolean": mistake(
        TypeError,
        "Argument `default_embeddings` must be a boolean. Received: "
        "default_embeddings='yes'",
        default=l2keras.L2(),
        default_embeddings="yes",
    ),
    "a list": mistake(
        TypeError,
        "Rules must be a dictionary from path or pattern to value. Received: "
        "['hidden/kernel']",
        ["hidden/kernel"],
    ),
}


@pytest.mark.parametrize(
    ("make", "rules", "default", "arguments", "error", "message"),
    [pytest.param(*row, id=name) for name, row in MISTAKES.items()],
)
def test_mistakes_are_explained_and_change_nothing(
    make, rules, default, arguments, error, message
):
    model = make()
    built = getattr(model, "built", False)
    if built:
        before = l2keras.penalties(model), model.to_json()
    with pytest.raises(error) as raised:
        l2keras.apply_regularizers(model, rules, default, **arguments)
    assert str(raised.value) == message
    if built:
        assert (l2keras.penalties(model), model.to_json()) == before


def test_one_mistake_among_good_rules_changes_nothing():
    model = two_layers(kernel_regularizer=l2keras.L2(0.25))
    before = described(model), model.to_json(), len(model.variables)
    with pytest.raises(ValueError, match="cannot be computed"):
        l2keras.apply_regularizers(
            model,
            {
                "hidden/kernel": l2keras.L1(rising_schedule()),
                "output/kernel": l2keras.GroupLasso(axis=2),
                "hidden/bias": None,
            },
        )
    assert (described(model), model.to_json(), len(model.variables)) == before


# Off again --------------------------------------------------------------------


def uses_l2keras(model):
    config = keras.saving.serialize_keras_object(model)
    return "l2keras>" in json.dumps(config) or "l2keras." in json.dumps(config)


@each_model
def test_nothing_is_left_of_l2keras_after_stripping(make, tmp_path):
    model = make()
    plain = [type(each) for each in model._flatten_layers()]
    weights, before = model.get_weights(), len(model.variables)
    l2keras.apply_regularizers(model, each_its_own(model))
    assert uses_l2keras(model)
    assert l2keras.strip_regularizers(model) is model
    assert not uses_l2keras(model)
    assert losses(model) == []
    assert described(model) == {}
    assert [type(each) for each in model._flatten_layers()] == plain
    assert len(model.variables) == before
    for one, other in zip(model.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(one, other)


# Keras alone, which must not know the package until the last model.
SERVING = """
import sys

import keras
import numpy as np

x = np.ones((2, 3, 4), "float32")
for path in sys.argv[1:]:
    if path.endswith("regularized.keras"):
        assert "l2keras" not in sys.modules
        import l2keras
    model = keras.saving.load_model(path)
    print(repr(model.evaluate(x, x, verbose=0)))
"""


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
    out = run_python(SERVING, *files)
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
def test_what_keras_can_say_is_left_in_keras_words(
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
    ids=str,
)
def test_what_keras_cannot_say_is_taken_off_with_a_warning(regularizer):
    model = sequential(
        (4,),
        keras.layers.Dense(3, name="hidden", kernel_regularizer=regularizer),
        keras.layers.Dense(
            2, name="output", kernel_regularizer=l2keras.L2(0.25)
        ),
    )
    with pytest.warns(UserWarning, match="taken off") as warned:
        l2keras.strip_regularizers(model, to_keras=True)
    assert [str(each.message) for each in warned] == [
        "Keras has no regularizer that says the same, so these were taken "
        f"off: 'hidden/kernel': {regularizer!r}"
    ]
    assert warned[0].filename == __file__
    assert_pays(model, l2(model, {"output/kernel": 0.25}))
    assert not uses_l2keras(model)


def test_it_warns_where_the_layer_has_no_argument_for_keras_words():
    model = attention()
    l2keras.apply_regularizers(model, {"mha/query/kernel": l2keras.L2(0.25)})
    with pytest.warns(UserWarning, match="no argument") as warned:
        l2keras.strip_regularizers(model, to_keras=True)
    assert [str(each.message) for each in warned] == [
        "Their layers have no argument to save a regularizer by, so that "
        "Keras alone will not save those of these weights: mha/query/kernel"
    ]
    assert not uses_l2keras(model)
    # As long as the model lives, it pays.
    assert_pays(model, l2(model, {"mha/query/kernel": 0.25}))


@pytest.mark.parametrize("to_keras", [False, True])
def test_what_is_keras_own_stays(to_keras, tmp_path):
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
def test_regularizers_of_activities_go_too(to_keras):
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


def test_a_schedule_of_the_optimizer_is_warned_of():
    model = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(2)], name="small"
    )
    model.compile(keras.optimizers.SGD(SCHEDULE), "mse")
    with pytest.warns(UserWarning, match="still needs") as warned:
        l2keras.strip_regularizers(model)
    assert [str(each.message) for each in warned] == [
        "Model 'small' still needs l2keras to be loaded, since it is saved "
        "with l2keras>LinearSchedule. If its optimizer has such a schedule, "
        "compile the model anew with another."
    ]


@pytest.mark.parametrize("model", ["model", None, keras.layers.Dense])
def test_only_models_are_stripped(model):
    with pytest.raises(TypeError) as error:
        l2keras.strip_regularizers(model)
    assert str(error.value) == (
        f"Argument `model` must be a Keras model. Received: model={model!r} "
        f"(of type {type(model).__name__})"
    )


# Models that people use -------------------------------------------------------


@pytest.mark.skipif(
    BACKEND == "jax", reason="JAX takes half a minute to build them."
)
@pytest.mark.parametrize(
    "name", ["MobileNetV3Small", "ResNet50", "EfficientNetB0", "ConvNeXtTiny"]
)
def test_models_of_keras_applications_take_the_default(name):
    model = getattr(keras.applications, name)(
        weights=None, include_top=False, input_shape=(32, 32, 3)
    )
    assert losses(model) == []
    done = l2keras.apply_regularizers(model, default=l2keras.L2(0.01))
    kernels = [each for each in model.weights if each.name == "kernel"]
    assert len(kernels) > 40
    assert [path.split("/")[-2:] for path in done] == [
        each.path.split("/")[-2:] for each in kernels
    ]
    expected = sum(
        0.01 * np.sum(ops.convert_to_numpy(each).astype("float64") ** 2)
        for each in kernels
    )
    assert len(model.losses) == len(kernels)
    assert sum(losses(model)) == pytest.approx(expected, rel=1e-5)
    if name == "MobileNetV3Small":
        again = keras.models.model_from_json(model.to_json())
        assert state(again) == state(model)
