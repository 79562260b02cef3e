"""A search goes on only if `build_model` still returns the same."""

import functools
import re

import keras
import numpy as np
import pytest
from helpers import BACKEND, outputs
from keras import ops
from searches import (
    EXPECTED_WARNINGS,
    X,
    interrupt,
    net,
    start_program,
    told_why,
    tune,
)

import l2keras
from l2keras import L1, L2
from l2keras._keras import trainer_hooks
from l2keras.tuning import backup_file, fingerprint

pytestmark = [*EXPECTED_WARNINGS, pytest.mark.slow]

layers, losses, optimizers = keras.layers, keras.losses, keras.optimizers

# What is computed -------------------------------------------------------------


class Scaled(layers.Layer):
    """Has a factor that its config lacks."""

    def __init__(self, factor, **kwargs):
        super().__init__(**kwargs)
        self._factor = factor

    def call(self, inputs):
        return self._factor * inputs


class NamedAsAModels(layers.Layer):
    """Has attributes that only models get from Keras."""

    def __init__(self, factor):
        super().__init__()
        self.loss = self.optimizer = factor

    def call(self, inputs):
        return self.loss * inputs


def scaled_by(expression):
    """Returns a layer's class whose `call` is what a user would write."""
    namespace = {"layers": layers, "ops": ops, "__name__": "users_module"}
    exec(
        "class Own(layers.Layer):\n"
        "    def call(self, inputs):\n"
        f"        return {expression}\n",
        namespace,
    )
    return namespace["Own"]


def loss_of(expression, **variables):
    """Returns a loss function as a user would write it."""
    namespace = {"ops": ops, "__name__": "users_module", **variables}
    exec(
        f"def loss(y_true, y_pred):\n    return {expression}\n",
        namespace,
    )
    return namespace["loss"]


def closed_over(delta):
    def loss(y_true, y_pred):
        return delta * ops.mean(ops.square(y_true - y_pred), axis=-1)

    return loss


class OwnLoss(losses.Loss):
    def __init__(self, delta):
        super().__init__()
        self._delta = delta

    def call(self, y_true, y_pred):
        return self._delta * ops.abs(y_true - y_pred)


def regression(*between, loss="mse", metrics=("mae",), **arguments):
    return net(
        *between,
        loss=loss,
        metrics=metrics,
        last=lambda strength: layers.Dense(1),
        **arguments,
    )


def without_decay_of(names, variables):
    """Returns a model whose optimizer spares some weights of its decay."""

    def build_model(strength):
        model = regression()(strength)
        optimizer = optimizers.AdamW(0.01, weight_decay=0.1)
        optimizer.exclude_from_weight_decay(
            var_names=names,
            var_list=[model.weights[index] for index in variables],
        )
        model.compile(optimizer, "mse")
        return model

    return build_model


def compiled_with(**arguments):
    def build_model(strength):
        model = regression()(strength)
        model.compile("adam", **{"loss": "mse", **arguments})
        return model

    return build_model


def functional(connect):
    def build_model(strength):
        inputs = keras.Input((6,))
        hidden = layers.Dense(6, kernel_regularizer=L2(strength))(inputs)
        model = keras.Model(inputs, layers.Dense(1)(connect(hidden, inputs)))
        model.compile("adam", "mse")
        return model

    return build_model


def trained(steps):
    """Returns a model whose optimizer has trained it before."""

    def build_model(strength):
        model = regression(optimizer=lambda: optimizers.SGD(0.1))(strength)
        model.optimizer.build(model.trainable_variables)
        model.optimizer.iterations.assign(steps)
        return model

    return build_model


def l2(factor):
    return lambda strength: L2(factor * strength)


def ramp(steps):
    return lambda strength: l2keras.L1L2(
        strength, l2keras.LinearSchedule(0.0, 0.1, steps=steps)
    )


# Pairs of a `build_model` and what it was changed to.
CHANGES = {
    "an activation": (
        regression(lambda: layers.Activation("relu")),
        regression(lambda: layers.Activation("tanh")),
    ),
    "the number of units": (
        regression(lambda: layers.Dense(3)),
        regression(lambda: layers.Dense(4)),
    ),
    "a rate of dropout": (
        regression(lambda: layers.Dropout(0.3)),
        regression(lambda: layers.Dropout(0.4)),
    ),
    "one layer more": (
        regression(),
        regression(lambda: layers.Activation("linear")),
    ),
    "a factor of the strength": (
        regression(regularizer=l2(1.0)),
        regression(regularizer=l2(100.0)),
    ),
    "L2 to L1": (regression(regularizer=L2), regression(regularizer=L1)),
    "a schedule": (
        regression(regularizer=ramp(50)),
        regression(regularizer=ramp(60)),
    ),
    "a constraint": (
        regression(kernel_constraint=keras.constraints.MaxNorm(1.0)),
        regression(kernel_constraint=keras.constraints.MaxNorm(2.0)),
    ),
    "a type of numbers": (
        regression(dtype="float32"),
        regression(dtype="mixed_bfloat16"),
    ),
    "initial weights": (
        regression(kernel_initializer="zeros"),
        regression(kernel_initializer="ones"),
    ),
    "a frozen layer": (
        regression(lambda: layers.Dense(3)),
        regression(lambda: layers.Dense(3, trainable=False)),
    ),
    "delta of Huber": (
        regression(loss=losses.Huber(1.0)),
        regression(loss=losses.Huber(0.5)),
    ),
    "a loss by its name": (regression(loss="mse"), regression(loss="mae")),
    "a reduction": (
        regression(loss=losses.MeanSquaredError(reduction="sum")),
        regression(loss=losses.MeanSquaredError()),
    ),
    "the body of a loss": (
        regression(loss=loss_of("ops.abs(y_true - y_pred)")),
        regression(loss=loss_of("ops.square(y_true - y_pred)")),
    ),
    "a number in a loss": (
        regression(loss=loss_of("2.0 * ops.abs(y_true - y_pred)")),
        regression(loss=loss_of("3.0 * ops.abs(y_true - y_pred)")),
    ),
    "a global of a loss": (
        regression(loss=loss_of("DELTA * ops.abs(y_true - y_pred)", DELTA=1.0)),
        regression(loss=loss_of("DELTA * ops.abs(y_true - y_pred)", DELTA=2.0)),
    ),
    "a function that a loss calls": (
        regression(loss=loss_of("f(y_true, y_pred)", f=closed_over(1.0))),
        regression(loss=loss_of("f(y_true, y_pred)", f=closed_over(2.0))),
    ),
    "a closure": (
        regression(loss=closed_over(1.0)),
        regression(loss=closed_over(2.0)),
    ),
    "a partial function": (
        regression(loss=functools.partial(losses.huber, delta=1.0)),
        regression(loss=functools.partial(losses.huber, delta=2.0)),
    ),
    "a loss of one's own": (
        regression(loss=OwnLoss(1.0)),
        regression(loss=OwnLoss(2.0)),
    ),
    "the weight of a loss": (
        compiled_with(loss_weights=[1.0]),
        compiled_with(loss_weights=[2.0]),
    ),
    "a metric": (
        regression(metrics=[lambda y, p: ops.abs(y - p)]),
        regression(metrics=[lambda y, p: ops.square(y - p)]),
    ),
    "a threshold of a metric": (
        compiled_with(metrics=[keras.metrics.BinaryAccuracy(threshold=0.5)]),
        compiled_with(metrics=[keras.metrics.BinaryAccuracy(threshold=0.6)]),
    ),
    "a weighted metric": (
        compiled_with(metrics=["mae"]),
        compiled_with(weighted_metrics=["mae"]),
    ),
    "what a config lacks": (
        regression(lambda: Scaled(1.0)),
        regression(lambda: Scaled(2.0)),
    ),
    "an attribute that models have": (
        regression(lambda: NamedAsAModels(1.0)),
        regression(lambda: NamedAsAModels(2.0)),
    ),
    "the code of a layer": (
        regression(scaled_by("2 * inputs")),
        regression(scaled_by("inputs + inputs")),
    ),
    "a lambda": (
        regression(lambda: layers.Lambda(lambda x: 2 * x)),
        regression(lambda: layers.Lambda(lambda x: 3 * x)),
    ),
    "how layers are connected": (
        functional(lambda hidden, inputs: layers.add([hidden, inputs])),
        functional(lambda hidden, inputs: layers.add([hidden, hidden])),
    ),
    "a number in an operation": (
        functional(lambda hidden, inputs: hidden * 2),
        functional(lambda hidden, inputs: hidden * 3),
    ),
    "an operation": (
        functional(lambda hidden, inputs: ops.relu(hidden)),
        functional(lambda hidden, inputs: ops.tanh(hidden)),
    ),
    "an optimizer": (
        regression(optimizer=lambda: optimizers.SGD(0.1)),
        regression(optimizer=lambda: optimizers.SGD(0.1, nesterov=True)),
    ),
    "a learning rate": (
        regression(optimizer=lambda: optimizers.SGD(0.1)),
        regression(optimizer=lambda: optimizers.SGD(0.2)),
    ),
    "a schedule of the learning rate": (
        regression(
            optimizer=lambda: optimizers.SGD(
                optimizers.schedules.CosineDecay(0.1, 10)
            )
        ),
        regression(
            optimizer=lambda: optimizers.SGD(
                optimizers.schedules.CosineDecay(0.1, 20)
            )
        ),
    ),
    "what an optimizer does not decay, by name": (
        without_decay_of(["bias"], []),
        without_decay_of(["kernel"], []),
    ),
    "what an optimizer does not decay": (
        without_decay_of(None, [0]),
        without_decay_of(None, [2]),
    ),
    "the steps of an optimizer": (trained(0), trained(5)),
    "a decay by path": (
        regression(
            optimizer=lambda: l2keras.DecoupledWeightDecay(
                optimizers.SGD(0.1), {"hidden/kernel": 0.1}
            )
        ),
        regression(
            optimizer=lambda: l2keras.DecoupledWeightDecay(
                optimizers.SGD(0.1), {"hidden/kernel": 0.2}
            )
        ),
    ),
}

TARGETS = X[:, :1] ** 2


def digests(build_model, strength=0.1):
    """Returns what one model comes to, as a search builds it."""
    keras.utils.set_random_seed(0)
    model = build_model(strength)
    trainer_hooks.build_for_training(model, (X[:16], TARGETS[:16], None))
    return fingerprint.digests_of_model(model)


@pytest.mark.parametrize(
    ("before", "after"),
    [pytest.param(*pair, id=name) for name, pair in CHANGES.items()],
)
def test_a_change_is_seen_and_no_change_is_none(before, after):
    first = digests(before)
    values = np.array([each.value for each in first], dtype="uint64")
    # Built again, the layers and metrics have other names.
    assert fingerprint.first_difference(values, digests(before)) is None
    assert fingerprint.first_difference(values, digests(after)) is not None


@pytest.mark.parametrize("by_fit", [False, True])
@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("an activation", ".layers[1]"),
        ("a factor of the strength", ".layers[0].kernel_regularizer"),
        ("delta of Huber", ".loss._fn_kwargs"),
    ],
)
def test_a_search_does_not_go_on_with_another_model(
    monkeypatch, tmp_path, name, place, by_fit
):
    def as_number(build_model):
        # Asks for the value, so that replicas are trained by `fit`.
        def build(strength):
            model = build_model(float(strength))
            model.run_eagerly = BACKEND != "torch"
            return model

        return build if by_fit else build_model

    reason = "`build_model` asks for the value of the strength"
    reason = reason if by_fit else None
    before, after = (as_number(each) for each in CHANGES[name])
    monkeypatch.setattr(backup_file, "SECONDS", 0)
    options = {"y": TARGETS, "epochs": 2, "backup_dir": tmp_path}
    if not by_fit and BACKEND != "torch":
        options["at_once"] = 1  # What costs least.
    with monkeypatch.context() as context:
        interrupt(context, 2, "FitTrainer" if by_fit else "StackTrainer")
        with told_why(reason), pytest.warns(UserWarning, match="interrupted"):
            tune(before, **options)
    with pytest.raises(ValueError, match="trained something else") as error:
        tune(after, **options)
    assert str(error.value).startswith(
        f"{tmp_path / 'search.npz'} is of a search that trained something "
        "else than `build_model` returns now. The first difference is in "
    )
    assert place in str(error.value)
    assert str(error.value).endswith("Remove it, or give another `backup_dir`.")
    with told_why(reason):
        result = tune(before, **options)
    assert np.isfinite(result.validation_loss).all()


def test_by_fit_every_strength_is_looked_at(monkeypatch, tmp_path):
    def with_units(units):
        def build_model(strength):
            value = float(strength)
            between = layers.Dense(units if value == 0.2 else 3)
            model = regression(lambda: between)(value)
            model.run_eagerly = BACKEND != "torch"
            return model

        return build_model

    monkeypatch.setattr(backup_file, "SECONDS", 0)
    options = {"y": TARGETS, "strengths": [0.1, 0.2, 0.3], "epochs": 2}
    with monkeypatch.context() as context:
        interrupt(context, 2, "FitTrainer")
        with (
            pytest.warns(UserWarning, match="one after another"),
            pytest.warns(UserWarning, match="interrupted"),
        ):
            tune(with_units(3), backup_dir=tmp_path, **options)
    with pytest.raises(
        ValueError, match=re.escape("in model[strength 0.2, fold 0].layers[1]")
    ):
        tune(with_units(4), backup_dir=tmp_path, **options)


# What is not ------------------------------------------------------------------


def test_another_process_has_the_same_digests():
    # Other addresses, other hashes of strings, other counts of names.
    processes = [
        start_program("print_digests", number, PYTHONHASHSEED=str(number))
        for number in (1, 2)
    ]
    first, second = outputs(processes)
    assert first == second
    assert len(first.splitlines()) > 100


def test_what_code_counts_is_not_what_it_computes():
    namespace = {"ops": ops, "__name__": "users_module", "CALLS": 0}
    exec(
        "def loss(y_true, y_pred):\n"
        "    global CALLS\n"
        "    CALLS += 1\n"
        "    return ops.abs(y_true - y_pred)\n",
        namespace,
    )
    build_model = regression(loss=namespace["loss"])
    first = digests(build_model)
    namespace["CALLS"] = 7
    assert digests(build_model) == first


def test_a_layer_of_keras_is_the_same_when_it_is_made_again():
    made = {
        "lstm": lambda: [layers.Reshape((3, 2)), layers.LSTM(2, dropout=0.1)],
        "gru": lambda: [
            layers.Reshape((3, 2)),
            layers.Bidirectional(layers.GRU(2)),
        ],
        "attention": lambda: [
            layers.Reshape((3, 2)),
            layers.Conv1D(4, 2),
            layers.GlobalAveragePooling1D(),
        ],
        "normalized": lambda: [
            layers.Normalization(mean=1.0, variance=2.0),
            layers.BatchNormalization(),
            layers.LayerNormalization(),
            layers.GaussianNoise(0.1),
        ],
    }
    for name, between in made.items():

        def build_model(strength, between=between):
            model = keras.Sequential(
                [keras.Input((6,)), *between(), layers.Dense(1)]
            )
            model.compile("adam", "mse", metrics=[keras.metrics.AUC()])
            return model

        assert digests(build_model) == digests(build_model), name


def test_deep_models_are_no_deep_recursion():
    def build_model(strength):
        inputs = outputs = keras.Input((6,))
        for _ in range(400):
            outputs = layers.add([inputs, outputs])
        model = keras.Model(inputs, layers.Dense(1)(outputs))
        model.compile("sgd", "mse")
        return model

    assert len(digests(build_model)) > 400


def test_another_version_is_another_program(monkeypatch):
    before = np.array(
        [each.value for each in fingerprint.digests_of_versions()], "uint64"
    )
    now = fingerprint.digests_of_versions()
    assert fingerprint.first_difference(before, now) is None
    for module, name in ((keras, "Keras"), (l2keras, "l2keras")):
        with monkeypatch.context() as context:
            context.setattr(module, "__version__", "0.0.1")
            now = fingerprint.digests_of_versions()
        place = fingerprint.first_difference(before, now)
        assert place == f"the version of {name}"
    keras.config.set_epsilon(1e-3)
    try:
        now = fingerprint.digests_of_versions()
    finally:
        keras.config.set_epsilon(1e-7)
    place = fingerprint.first_difference(before, now)
    assert place == "`keras.config.epsilon()`"
