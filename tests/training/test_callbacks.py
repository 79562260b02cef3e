"""The loss split in the logs, and scales that follow the epoch."""

import copy
import csv
import warnings

import keras
import numpy as np
import pytest
from helpers import (
    BACKEND,
    assert_means,
    assert_splits,
    assert_weights,
    documented_data,
    documented_model,
    falling,
    falling_schedule,
    number,
    rising,
    rising_schedule,
    simulate,
    simulated_losses,
)
from keras import ops

import l2keras

compiled_only = pytest.mark.skipif(
    BACKEND == "torch", reason="PyTorch runs the step anew each time."
)


def compiled(model, rate=0.1, **arguments):
    arguments.setdefault("loss", "categorical_crossentropy")
    model.compile(keras.optimizers.SGD(rate), **arguments)
    return model


def scheduled_model(rate=0.1, **arguments):
    model = documented_model(
        l2keras.L2(rising_schedule()), l2keras.L2(falling_schedule())
    )
    return compiled(model, rate, **arguments)


def constant_model(rate=0.1, **arguments):
    return compiled(
        documented_model(l2keras.L2(0.05), l2keras.L2(0.02)), rate, **arguments
    )


def fit(model, x, y=None, callbacks=None, **arguments):
    if callbacks is None:
        callbacks = [l2keras.RegularizationLogger()]
    if y is not None:
        arguments.setdefault("batch_size", 16)
    return model.fit(
        x, y, shuffle=False, verbose=0, callbacks=callbacks, **arguments
    ).history


def warned(call, *arguments, **keywords):
    """Returns the result and what was warned of meanwhile."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = call(*arguments, **keywords)
    return result, [
        str(each.message)
        for each in caught
        if issubclass(each.category, UserWarning)
    ]


# The loss is the sum of its parts, whatever it is made of.


@keras.saving.register_keras_serializable(package="l2keras_tests")
class AddLoss(keras.layers.Layer):
    """Adds a loss of its own: a scalar, or one for each sample."""

    def __init__(self, axis=None, **arguments):
        super().__init__(**arguments)
        self.axis = axis

    def call(self, x):
        self.add_loss(0.1 * ops.mean(ops.square(x), axis=self.axis))
        return x


def with_layer(layer):
    return compiled(
        documented_model(l2keras.L2(0.05), l2keras.L2(0.02), between=[layer])
    )


def two_outputs():
    inputs = keras.Input((10,))
    hidden = keras.layers.Dense(8, kernel_regularizer=l2keras.L1(0.01))(inputs)
    classes = keras.layers.Dense(
        3,
        activation="softmax",
        name="classes",
        kernel_regularizer=l2keras.L2(rising_schedule()),
    )(hidden)
    values = keras.layers.Dense(3, name="values")(hidden)
    model = keras.Model(inputs, {"classes": classes, "values": values})
    return compiled(
        model,
        loss={"classes": "categorical_crossentropy", "values": "mse"},
        loss_weights={"classes": 0.5, "values": 2.0},
        metrics={"classes": ["accuracy"], "values": ["mae"]},
    )


def frozen_layer():
    model = scheduled_model()
    model.layers[0].trainable = False
    return compiled(model)


# Four equal batches: each other size of batch costs JAX a compilation.
X, Y = documented_data(samples=64)
STEPS = 4
VALIDATION = {"validation_data": (X[:32], Y[:32])}

# And five, the last of 11.
UNEVEN, TARGETS = documented_data(samples=75)
WEIGHTS = np.linspace(0, 2, 75).astype("float32")
BOTH = {"classes": TARGETS, "values": UNEVEN[:, :3]}
UNEVEN_VALIDATION = {"validation_data": (UNEVEN[:40], TARGETS[:40])}
THREE_BATCHES = {
    "batch_size": 25,
    "validation_data": (UNEVEN[:25], TARGETS[:25]),
}


def generate():
    for start in range(0, 75, 16):
        yield UNEVEN[start : start + 16], TARGETS[start : start + 16]


@pytest.mark.parametrize(
    ("build", "y", "arguments"),
    [
        pytest.param(constant_model, TARGETS, UNEVEN_VALIDATION, id="constant"),
        pytest.param(
            scheduled_model, TARGETS, UNEVEN_VALIDATION, id="scheduled"
        ),
        pytest.param(
            scheduled_model,
            TARGETS,
            {"batch_size": 30, "validation_split": 0.2},
            id="split off",
        ),
        pytest.param(
            lambda: scheduled_model(metrics=["accuracy", "mse"]),
            TARGETS,
            {
                "sample_weight": WEIGHTS,
                "validation_data": (UNEVEN[:40], TARGETS[:40], WEIGHTS[:40]),
            },
            id="sample weights",
        ),
        pytest.param(
            lambda: constant_model(
                weighted_metrics=["accuracy"],
                loss="sparse_categorical_crossentropy",
            ),
            TARGETS.argmax(1),
            {
                "class_weight": {0: 0.5, 1: 3.0, 2: 1.0},
                "batch_size": 25,
                "validation_data": (UNEVEN[:25], TARGETS[:25].argmax(1)),
            },
            id="class weights",
        ),
        pytest.param(
            two_outputs,
            BOTH,
            {"batch_size": 25, "validation_data": (UNEVEN, BOTH)},
            id="several outputs",
        ),
        pytest.param(
            lambda: with_layer(
                keras.layers.Dense(
                    64, activity_regularizer=l2keras.L1(rising_schedule())
                )
            ),
            TARGETS,
            THREE_BATCHES,
            id="activity",
        ),
        pytest.param(
            lambda: with_layer(AddLoss()),
            TARGETS,
            THREE_BATCHES,
            id="add_loss",
        ),
        pytest.param(
            lambda: with_layer(AddLoss(axis=-1)),
            TARGETS,
            UNEVEN_VALIDATION,
            id="add_loss for each sample",
        ),
        pytest.param(frozen_layer, TARGETS, THREE_BATCHES, id="frozen layer"),
        pytest.param(
            lambda: compiled(
                documented_model(
                    keras.regularizers.L2(0.05), keras.regularizers.L1(0.01)
                )
            ),
            TARGETS,
            THREE_BATCHES,
            id="Keras's own",
        ),
        pytest.param(
            lambda: compiled(documented_model(None, None)),
            TARGETS,
            THREE_BATCHES,
            id="none",
        ),
    ],
)
def test_the_parts_add_up(build, y, arguments):
    epochs = 2
    logger = l2keras.RegularizationLogger(penalties=True, strengths=True)
    model = build()
    logs = fit(model, UNEVEN, y, [logger], epochs=epochs, **arguments)
    assert len(logs["data_loss"]) == epochs
    assert_splits(logs)
    assert_splits(logs, "val_")
    # What is validated is what is evaluated alone.
    validation = arguments.get("validation_data")
    if validation is not None:
        alone = model.evaluate(
            *validation[:2],
            batch_size=arguments.get("batch_size", 16),
            sample_weight=validation[2] if len(validation) > 2 else None,
            return_dict=True,
            verbose=0,
        )
        for key, value in alone.items():
            np.testing.assert_allclose(logs[f"val_{key}"][-1], value, rtol=1e-6)
    for layer in model.layers:
        key = f"regularization_loss/{layer.name}/kernel"
        if getattr(layer, "kernel_regularizer", None) and layer.trainable:
            np.testing.assert_allclose(
                logs[f"val_{key}"][-1],
                number(layer.kernel_regularizer(layer.kernel)),
                rtol=1e-6,
            )
        else:
            assert key not in logs


def test_every_kind_of_layer_is_penalized_and_followed():
    def l2():
        return l2keras.L2(rising_schedule())

    class Own(keras.layers.Layer):
        def __init__(self):
            super().__init__()
            self.scale = self.add_weight((4,), "ones", regularizer=l2())

        def call(self, x):
            return x * self.scale

    inputs = keras.Input((3,), dtype="int32")
    x = keras.layers.Embedding(5, 4, embeddings_regularizer=l2())(inputs)
    x = keras.layers.MultiHeadAttention(1, 4, kernel_regularizer=l2())(x, x)
    x = keras.layers.Conv1D(4, 2, kernel_regularizer=l2())(x)
    x = keras.layers.BatchNormalization(gamma_regularizer=l2())(x)
    x = keras.layers.Bidirectional(
        keras.layers.SimpleRNN(
            2, kernel_regularizer=l2(), recurrent_regularizer=l2()
        )
    )(x)
    model = keras.Model(inputs, keras.layers.Dense(1)(Own()(x)))
    compiled(model, rate=0.0, loss="mse")
    logger = l2keras.RegularizationLogger(penalties=True, strengths=True)
    logs = fit(model, np.arange(192).reshape(64, 3) % 5, np.ones(64), [logger])
    squares = {
        weight.path.removeprefix(f"{model.name}/"): np.sum(
            np.square(ops.convert_to_numpy(weight))
        )
        for weight in model.trainable_weights
        if weight.regularizer is not None
    }
    strength = means_of(rising, 0)
    assert len(squares) == 12
    for path, square in squares.items():
        np.testing.assert_allclose(
            logs[f"regularization_loss/{path}"], [strength * square], rtol=1e-5
        )
        np.testing.assert_allclose(
            logs[f"strength/{path}"], [rising(STEPS)], rtol=1e-5
        )
    np.testing.assert_allclose(
        logs["regularization_loss"],
        [strength * sum(squares.values())],
        rtol=1e-5,
    )
    assert_splits(logs)


@pytest.mark.parametrize(
    "regularizer",
    [l2keras.L2(0.02), keras.regularizers.L2(0.02)],
    ids=["l2keras", "keras"],
)
def test_the_logger_changes_no_training(regularizer):
    def train(callbacks):
        between = [
            keras.layers.BatchNormalization(),
            keras.layers.Dropout(0.5, seed=1),
            AddLoss(),
        ]
        model = documented_model(regularizer, None, between=between)
        compiled(model, metrics=["accuracy"])
        logs = fit(model, X, Y, callbacks, epochs=2, **VALIDATION)
        return logs, model.get_weights()

    plain, expected = train([])
    logs, weights = train([l2keras.RegularizationLogger()])
    for key, values in plain.items():
        np.testing.assert_allclose(logs[key], values, rtol=1e-5, err_msg=key)
    for one, other in zip(weights, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-6)


def test_a_scheduled_model_trains_with_random_and_moving_state():
    model = documented_model(
        l2keras.L2(rising_schedule()),
        l2keras.L2(falling_schedule()),
        between=[
            keras.layers.GaussianNoise(0.1),
            keras.layers.BatchNormalization(),
            keras.layers.Dropout(0.5),
        ],
    )
    logger = l2keras.RegularizationLogger(strengths=True)
    logs = fit(compiled(model), X, Y, [logger], epochs=2, **VALIDATION)
    assert_splits(logs)
    assert_splits(logs, "val_")
    np.testing.assert_allclose(
        logs["strength/hidden/kernel"],
        [rising(STEPS), rising(2 * STEPS)],
        rtol=1e-5,
    )


def test_the_parts_add_up_for_data_of_unknown_length():
    model = scheduled_model()
    start = model.get_weights()
    logs = fit(
        model,
        generate(),
        steps_per_epoch=5,
        validation_data=generate(),
        validation_steps=5,
    )
    truth = simulate(start, UNEVEN, TARGETS, first=rising, second=falling)
    assert_weights(model, truth.weights)
    assert_means(logs, truth)
    assert_splits(logs, "val_")


def test_the_parts_add_up_for_a_dataset():
    class Batches(keras.utils.PyDataset):
        def __len__(self):
            return 5

        def __getitem__(self, index):
            where = slice(16 * index, 16 * index + 16)
            return UNEVEN[where], TARGETS[where]

    model = scheduled_model()
    start = model.get_weights()
    logs = fit(model, Batches(), epochs=2)
    truth = simulate(
        start, UNEVEN, TARGETS, first=rising, second=falling, epochs=2
    )
    assert_weights(model, truth.weights)
    assert_means(logs, truth)


def test_the_parts_add_up_without_a_loss():
    model = keras.Sequential([keras.Input((10,)), AddLoss()])
    penalized = keras.layers.Dense(
        2, use_bias=False, kernel_regularizer=l2keras.L2(0.5)
    )
    model.add(penalized)
    model.compile(keras.optimizers.SGD(0.0))
    logs = fit(model, X, np.zeros((64, 2)))
    np.testing.assert_allclose(logs["data_loss"], [0.0], atol=1e-7)
    assert_splits(logs)


def test_the_parts_add_up_where_no_output_has_a_loss():
    inputs = keras.Input((10,))
    hidden = keras.layers.Dense(2, kernel_regularizer=l2keras.L2(0.5))(inputs)
    model = keras.Model(inputs, [AddLoss()(hidden), hidden])
    model.compile(keras.optimizers.SGD(0.0), loss=[None, None])
    logs = fit(model, X, [np.zeros((64, 2))] * 2)
    assert logs["data_loss"] == [0.0]
    assert_splits(logs)


def test_a_small_data_loss_beside_a_large_penalty():
    # The loss itself, of about 1e9, cannot tell data losses of 1 and 30 apart.
    layer = keras.layers.Dense(3, kernel_regularizer=l2keras.L2(1e9))
    model = keras.Sequential([keras.Input((10,)), layer])
    model.compile(keras.optimizers.SGD(0.0), "mse", metrics=["mse"])
    logs = fit(model, X, Y, **VALIDATION)
    assert_splits(logs)
    for prefix in ("", "val_"):
        assert logs[prefix + "regularization_loss"][0] > 1e8
        np.testing.assert_allclose(
            logs[prefix + "data_loss"], logs[prefix + "mse"], rtol=1e-5
        )


def test_the_split_of_an_overridden_compute_loss():
    # As in a variational autoencoder: no `training` among the arguments.
    class Own(keras.Sequential):
        def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None):
            return ops.mean(ops.square(y - y_pred)) + sum(self.losses)

    hidden, output = scheduled_model().layers
    model = compiled(Own([keras.Input((10,)), hidden, output]), loss=None)
    logs = fit(model, X, Y, epochs=2, **VALIDATION)
    assert_splits(logs)
    assert_splits(logs, "val_")
    squares = np.sum(np.square(model.get_weights()[0]))
    output_squares = np.sum(np.square(model.get_weights()[2]))
    np.testing.assert_allclose(
        logs["val_regularization_loss"][-1],
        rising(8) * squares + falling(8) * output_squares,
        rtol=1e-5,
    )


# Where the numbers go.


def read_csv(path):
    with open(path) as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("position", [0, 1], ids=["first", "last"])
def test_keras_callbacks_see_the_split_wherever_the_logger_stands(
    position, tmp_path
):
    others = [
        keras.callbacks.CSVLogger(tmp_path / "log.csv"),
        keras.callbacks.ModelCheckpoint(
            tmp_path / "best.keras",
            monitor="val_data_loss",
            mode="min",
            save_best_only=True,
        ),
        # Nothing falls by 9: the first epoch stays the best.
        keras.callbacks.ReduceLROnPlateau(
            monitor="data_loss", mode="min", factor=0.5, patience=1, min_delta=9
        ),
        keras.callbacks.EarlyStopping(
            monitor="val_data_loss",
            mode="min",
            patience=2,
            min_delta=9,
            restore_best_weights=True,
        ),
    ]
    others.insert(
        position * len(others), l2keras.RegularizationLogger(penalties=True)
    )
    model = constant_model()
    logs = fit(model, X, Y, others, epochs=9, **VALIDATION)
    keys = {
        "loss",
        "data_loss",
        "regularization_loss",
        "regularization_loss/hidden/kernel",
        "regularization_loss/output/kernel",
    }
    assert set(logs) == keys | {f"val_{key}" for key in keys} | {
        "learning_rate"
    }
    assert len(logs["loss"]) == 3
    assert logs["learning_rate"] == pytest.approx([0.1, 0.1, 0.05])
    rows = read_csv(tmp_path / "log.csv")
    for key in sorted(keys):
        assert [float(row[key]) for row in rows] == pytest.approx(logs[key])
    # The best is what EarlyStopping restored, or an epoch that was better.
    best = keras.saving.load_model(tmp_path / "best.keras")
    np.testing.assert_allclose(
        simulated_losses(best.get_weights(), X[:32], Y[:32], 0, 0)[0],
        min(logs["val_data_loss"]),
        rtol=1e-5,
    )
    np.testing.assert_allclose(
        simulated_losses(model.get_weights(), X[:32], Y[:32], 0, 0)[0],
        logs["val_data_loss"][0],
        rtol=1e-5,
    )


def test_tensorboard_gets_the_split(tmp_path):
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    tf = pytest.importorskip("tensorflow", reason="Keras writes with it")
    from tensorboard.backend.event_processing import event_accumulator

    board = keras.callbacks.TensorBoard(tmp_path)
    logs = fit(
        constant_model(),
        X,
        Y,
        [board, l2keras.RegularizationLogger()],
        epochs=2,
        **VALIDATION,
    )
    for folder, prefix in (("train", ""), ("validation", "val_")):
        events = event_accumulator.EventAccumulator(str(tmp_path / folder))
        events.Reload()
        for key in ("data_loss", "regularization_loss"):
            written = [
                tf.make_ndarray(each.tensor_proto).item()
                for each in events.Tensors(f"epoch_{key}")
            ]
            assert written == pytest.approx(logs[prefix + key])


def test_the_progress_bar_shows_the_split(capsys):
    constant_model().fit(
        X,
        Y,
        verbose=2,
        callbacks=[l2keras.RegularizationLogger()],
        validation_data=(X, Y),
    )
    out = capsys.readouterr().out
    for key in ("data_loss", "regularization_loss"):
        assert f" {key}: " in out
        assert f" val_{key}: " in out


# Each weight's penalty, and each strength.


def means_of(function, epoch):
    steps = range(STEPS * epoch, STEPS * (epoch + 1))
    return np.mean([function(step) for step in steps])


def test_penalties_and_strengths_equal_numpy():
    model = compiled(
        documented_model(
            l2keras.L1L2(l1=0.01, l2=rising_schedule()),
            l2keras.L2(falling_schedule()),
        ),
        rate=0.0,
    )
    l2keras.set_scale(model, {"output/.*": 0.5})
    first, _, second, _ = model.get_weights()
    logger = l2keras.RegularizationLogger(penalties=True, strengths=True)
    logs = fit(model, X, Y, [logger], epochs=2, validation_data=(X, Y))

    def hidden(step):
        return 0.01 * np.sum(np.abs(first)) + rising(step) * np.sum(first**2)

    def output(step):
        return 0.5 * falling(step) * np.sum(second**2)

    penalties = {
        "regularization_loss/hidden/kernel": hidden,
        "regularization_loss/output/kernel": output,
        "regularization_loss": lambda step: hidden(step) + output(step),
    }
    # As when the epoch ends, and not means over it.
    strengths = {
        "strength/hidden/kernel/L1": lambda step: 0.01,
        "strength/hidden/kernel/L2": rising,
        "strength/output/kernel": lambda step: 0.5 * falling(step),
    }
    expected = {
        **{
            key: [means_of(function, 0), means_of(function, 1)]
            for key, function in penalties.items()
        },
        **{
            f"val_{key}": [function(STEPS), function(2 * STEPS)]
            for key, function in penalties.items()
        },
        **{
            key: [function(STEPS), function(2 * STEPS)]
            for key, function in strengths.items()
        },
    }
    for key, values in expected.items():
        np.testing.assert_allclose(logs[key], values, rtol=1e-5, err_msg=key)
    # The strengths of validation are the training's: not logged again.
    assert set(logs) == {
        *expected,
        "loss",
        "data_loss",
        "val_loss",
        "val_data_loss",
    }


def test_each_term_of_a_sum_has_a_strength_of_its_own():
    model = compiled(
        documented_model(
            l2keras.L2(0.25) + l2keras.L2(0.5) + l2keras.GroupLasso(0.125),
            l2keras.L2(1.0) + l2keras.L2(2.0) + keras.regularizers.L1(0.1),
        )
    )
    l2keras.set_scale(model, {"hidden/.*": 0.5})
    logger = l2keras.RegularizationLogger(strengths=True)
    logs = fit(model, X[:16], Y[:16], [logger])
    strengths = {
        key.removeprefix("strength/"): value[0]
        for key, value in logs.items()
        if key.startswith("strength/")
    }
    assert strengths == {
        "hidden/kernel/L2": 0.125,
        "hidden/kernel/L2_2": 0.25,
        "hidden/kernel/GroupLasso": 0.0625,
        "output/kernel/L2": 1.0,
        "output/kernel/L2_2": 2.0,
    }


def test_only_what_pays_is_logged_by_weight():
    frozen = keras.layers.Dense(
        64, name="frozen", kernel_regularizer=l2keras.L2(0.1)
    )
    free = keras.layers.Dense(64, name="free", activity_regularizer="l2")
    model = documented_model(
        l2keras.L2(0.1),
        keras.regularizers.L2(0.1),
        between=[frozen, free, AddLoss(axis=-1)],
    )
    frozen.trainable = False
    compiled(model, rate=0.0)
    logger = l2keras.RegularizationLogger(penalties=True, strengths=True)
    logs = fit(model, X, Y, [logger])
    kernels = [model.layers[0].kernel, model.layers[-1].kernel]
    assert sorted(key for key in logs if "/" in key) == [
        "regularization_loss/hidden/kernel",
        "regularization_loss/output/kernel",
        # Keras's own tell no strength.
        "strength/hidden/kernel",
    ]
    np.testing.assert_allclose(
        [
            logs["regularization_loss/hidden/kernel"][0],
            logs["regularization_loss/output/kernel"][0],
        ],
        [
            0.1 * np.sum(np.square(ops.convert_to_numpy(kernel)))
            for kernel in kernels
        ],
        rtol=1e-5,
    )


def test_paths_have_no_model_name_in_them():
    inner = keras.Sequential(
        [
            keras.Input((10,)),
            keras.layers.Dense(
                8,
                name="deep",
                kernel_regularizer=l2keras.L2(0.1),
                bias_regularizer=l2keras.L2(0.1),
            ),
        ],
        name="inner",
    )
    model = keras.Sequential(
        [
            keras.Input((10,)),
            inner,
            keras.layers.Dense(
                3,
                "softmax",
                name="top",
                kernel_regularizer=l2keras.L2(0.1),
            ),
        ],
        name="outer",
    )
    logger = l2keras.RegularizationLogger(penalties=True)
    logs = fit(compiled(model), X, Y, [logger])
    assert sorted(key for key in logs if "/" in key) == [
        "regularization_loss/inner/deep/bias",
        "regularization_loss/inner/deep/kernel",
        "regularization_loss/top/kernel",
    ]


@pytest.mark.parametrize("name", ["penalties", "strengths"])
@pytest.mark.parametrize("value", [1, None, "yes", np.True_], ids=repr)
def test_options_are_booleans(name, value):
    with pytest.raises(TypeError) as caught:
        l2keras.RegularizationLogger(**{name: value})
    assert str(caught.value) == (
        f"Argument `{name}` must be a boolean. Received: {name}={value!r}"
    )


# What a training leaves behind.


def contents(model):
    """Returns what a model is made of, down to the objects in its lists."""
    found = {}
    for key, value in vars(model).items():
        if key in ("_jax_state", "_jax_state_synced", "_l2keras_session"):
            continue  # The last has what was compiled, for the next training.
        found[key] = (
            [id(each) for each in value]
            if isinstance(value, list | tuple)
            else id(value)
        )
    return found


@pytest.mark.parametrize("build", [constant_model, scheduled_model])
def test_a_training_leaves_nothing_on_the_model(build):
    model = build(metrics=["accuracy"])
    logger = l2keras.RegularizationLogger(penalties=True, strengths=True)
    fit(model, X, Y, [], **VALIDATION)
    result = model.evaluate(X, Y, verbose=0)
    metrics = [id(each) for each in model.metrics]
    before = contents(model)
    fit(model, X, Y, [logger], **VALIDATION)
    after = contents(model)
    after["history"] = before["history"]
    assert after == before
    assert [id(each) for each in model.metrics] == metrics
    assert len(model.evaluate(X, Y, verbose=0)) == len(result) == 2


def test_a_logged_model_has_no_more_weights_or_layers():
    model, other = scheduled_model(), scheduled_model()
    logger = l2keras.RegularizationLogger(penalties=True, strengths=True)
    fit(model, X, Y, [logger])
    assert len(model.weights) == len(other.weights) == 4
    assert model.count_params() == other.count_params()
    assert model.non_trainable_variables == []


class Breaks(keras.callbacks.Callback):
    """Raises, as Ctrl-C does, in the second call of one of its hooks."""

    def __init__(self, hook):
        super().__init__()
        self.calls = 0
        setattr(self, hook, self.count)

    def count(self, *args, **kwargs):
        self.calls += 1
        if self.calls == 2:
            raise KeyboardInterrupt


class Fails(keras.layers.Layer):
    """Raises in its second batch, if compiled code calls no Python."""

    armed = False

    def call(self, x):
        if Fails.armed:
            raise RuntimeError("This layer fails.")
        return x


def breaking_data():
    for index, batch in enumerate(generate()):
        if index == 2:
            raise OSError("This disk fails.")
        yield batch


def interrupt(hook):
    def run(model, logger):
        with pytest.raises(KeyboardInterrupt):
            fit(model, X, Y, [logger, Breaks(hook)], epochs=3, **VALIDATION)

    return run


def fail_in_data(model, logger):
    # TensorFlow makes an error of its own out of it.
    with pytest.raises(Exception, match="This disk fails"):
        fit(model, breaking_data(), None, [logger])


def fail_in_layer(model, logger):
    Fails.armed = True
    try:
        with pytest.raises(RuntimeError, match="This layer fails"):
            fit(model, X, Y, [logger])
    finally:
        Fails.armed = False


def interrupt_evaluation(model, logger):
    callbacks = [logger, Breaks("on_test_batch_end")]
    with pytest.raises(KeyboardInterrupt):
        model.evaluate(X, Y, batch_size=16, verbose=0, callbacks=callbacks)


FAILURES = [
    *(
        pytest.param(interrupt(hook), id=hook)
        for hook in (
            "on_epoch_begin",
            "on_train_batch_begin",
            "on_train_batch_end",
            "on_test_batch_end",
            "on_epoch_end",
        )
    ),
    pytest.param(
        interrupt_evaluation,
        id="evaluation",
        marks=pytest.mark.skipif(
            BACKEND == "jax",
            reason="Keras's JAX trainer loses the weights.",
        ),
    ),
    pytest.param(fail_in_data, id="data"),
    pytest.param(
        fail_in_layer,
        id="layer",
        marks=pytest.mark.skipif(
            BACKEND == "jax",
            reason="Keras's JAX trainer loses the weights if the first step "
            "fails, and a layer's Python runs in no other.",
        ),
    ),
]


def breakable_model():
    model = documented_model(
        l2keras.L2(rising_schedule()),
        l2keras.L2(falling_schedule()),
        between=[Fails()],
    )
    return compiled(model, metrics=["accuracy"])


@pytest.mark.parametrize("fail", FAILURES)
def test_a_training_that_breaks_off_leaves_a_model_that_works(fail):
    model = breakable_model()
    logger = l2keras.RegularizationLogger()
    fail(model, logger)
    step = number(model.optimizer.iterations)
    start = model.get_weights()

    # As it was before: two numbers, and those of NumPy.
    l2keras.set_step(model, step)
    loss, _ = model.evaluate(X, Y, verbose=0)
    truth = simulated_losses(start, X, Y, rising(step), falling(step))
    np.testing.assert_allclose(loss, sum(truth), rtol=1e-5)

    logs = fit(model, X, Y, [logger], epochs=2, **VALIDATION)
    truth = simulate(
        start, X, Y, first=rising, second=falling, epochs=2, begin=step
    )
    assert_weights(model, truth.weights)
    assert_means(logs, truth)
    assert_splits(logs, "val_")
    assert "compute_loss" not in vars(model)
    assert len(model.evaluate(X, Y, verbose=0)) == 2


def test_all_else_works_after_a_training_that_broke_off(tmp_path):
    model = scheduled_model(metrics=["accuracy"])
    interrupt("on_train_batch_end")(model, l2keras.RegularizationLogger())
    assert len(model.evaluate(X, Y, verbose=0)) == 2
    assert len(model.test_on_batch(X, Y)) == 2
    assert model.predict(X, verbose=0).shape == (64, 3)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert again.evaluate(X, Y, verbose=0) == model.evaluate(X, Y, verbose=0)
    assert len(warned(model.train_on_batch, X, Y)[0]) == 2


@pytest.mark.parametrize("other", [True, False], ids=["logger", "plain"])
def test_a_training_after_one_that_broke_off(other):
    model = scheduled_model(metrics=["accuracy"])
    interrupt("on_train_batch_end")(model, l2keras.RegularizationLogger())
    callbacks = [l2keras.RegularizationLogger()] if other else []
    logs, _ = warned(fit, model, X, Y, callbacks)
    assert set(logs) == {"loss", "accuracy"} | (
        {"data_loss", "regularization_loss"} if other else set()
    )
    assert "compute_loss" not in vars(model)
    assert [each.name for each in model.metrics] == ["loss", "compile_metrics"]


@keras.saving.register_keras_serializable(package="l2keras_tests")
class BelowZeroLater(keras.optimizers.schedules.LearningRateSchedule):
    def __call__(self, step):
        # Not at 0, 1, 1000 and 1000000, which are tried at once.
        return ops.where(ops.equal(step, 8.0), -0.5, 0.01)

    def get_config(self):
        return {}

    def __repr__(self):
        return "BelowZeroLater()"


def test_a_schedule_that_falls_below_zero_is_found_when_an_epoch_ends():
    model = compiled(
        documented_model(l2keras.L2(BelowZeroLater()), None),
        metrics=["accuracy"],
    )
    logger = l2keras.RegularizationLogger()
    with pytest.raises(ValueError, match="A schedule must return") as caught:
        fit(model, X, Y, [logger], epochs=3)
    value = BelowZeroLater()(ops.cast(8, "float32"))
    assert str(caught.value) == (
        "A schedule must return a finite number >= 0 at each step. Received: "
        f"l2=BelowZeroLater(), which returned {value!r} at step 8"
    )
    assert len(model.evaluate(X, Y, verbose=0)) == 2
    assert_splits(fit(compiled(model), X, Y, [logger]))


def test_compiling_after_a_training_that_broke_off_takes_effect():
    model = constant_model()
    model.evaluate(X, Y, verbose=0)
    fit(model, X, Y, [])
    interrupt("on_train_batch_end")(model, l2keras.RegularizationLogger())
    start = model.get_weights()
    compiled(model, rate=0.0, loss="mse")
    expected = compiled(keras.models.clone_model(model), 0.0, loss="mse")
    expected.set_weights(start)
    np.testing.assert_allclose(
        model.evaluate(X, Y, verbose=0),
        expected.evaluate(X, Y, verbose=0),
        rtol=1e-6,
    )
    fit(model, X, Y, [])
    assert_weights(model, start, atol=0)


def test_compiling_after_a_training_takes_effect():
    model = constant_model()
    logger = l2keras.RegularizationLogger()
    fit(model, X, Y, [logger], validation_data=(X, Y))
    model.evaluate(X, Y, verbose=0)
    compiled(model, loss="mse")
    expected = compiled(keras.models.clone_model(model), loss="mse")
    expected.set_weights(model.get_weights())
    assert model.evaluate(X, Y, verbose=0) == pytest.approx(
        expected.evaluate(X, Y, verbose=0), rel=1e-6
    )


def test_two_loggers_of_as_many_numbers_log_their_own():
    # Both log four, which JAX tells apart by nothing but the function.
    logs = {}
    for options in ({"penalties": True}, {"strengths": True}):
        model = constant_model(rate=0.0)
        for each in ({"strengths": True}, {"penalties": True}, options):
            logger = l2keras.RegularizationLogger(**each)
            logs = fit(model, X, Y, [logger], validation_data=(X, Y))
        prefix = "strength" if "strengths" in options else "regularization_loss"
        first = logs[f"{prefix}/hidden/kernel"]
        regularizer = model.get_layer("hidden").kernel_regularizer
        truth = (
            regularizer.strength
            if "strengths" in options
            else number(regularizer(model.get_layer("hidden").kernel))
        )
        assert first == pytest.approx([truth], rel=1e-5)


@pytest.mark.parametrize(
    "hook", ["on_train_batch_end", "on_epoch_end", "on_epoch_begin"]
)
def test_evaluation_in_a_callback_is_keras_own(hook):
    class Looks(keras.callbacks.Callback):
        def __init__(self):
            super().__init__()
            self.results = []
            setattr(self, hook, self.look)

        def look(self, *args, **kwargs):
            self.results.append(self.model.evaluate(X[:16], Y[:16], verbose=0))

    model = scheduled_model()
    start = model.get_weights()
    looks = Looks()
    logs = fit(
        model,
        X,
        Y,
        [looks, l2keras.RegularizationLogger()],
        epochs=2,
        **VALIDATION,
    )
    assert all(isinstance(each, float) for each in looks.results)
    truth = simulate(start, X, Y, first=rising, second=falling, epochs=2)
    assert_weights(model, truth.weights)
    if hook == "on_epoch_end":
        assert_means(logs, truth)
        np.testing.assert_allclose(
            looks.results[-1],
            sum(
                simulated_losses(
                    model.get_weights(), X[:16], Y[:16], rising(8), falling(8)
                )
            ),
            rtol=1e-5,
        )


# One logger, several trainings.


def test_two_fits_go_on_where_the_first_stopped():
    model = scheduled_model()
    start = model.get_weights()
    logger = l2keras.RegularizationLogger()
    logs = [fit(model, X, Y, [logger], epochs=1) for _ in range(3)]
    truth = simulate(start, X, Y, first=rising, second=falling, epochs=3)
    assert_weights(model, truth.weights)
    assert_means(
        {key: [each[key][0] for each in logs] for key in logs[0]}, truth
    )


def test_compiling_anew_begins_at_step_zero():
    model = scheduled_model()
    logger = l2keras.RegularizationLogger()
    fit(model, X, Y, [logger])
    start = model.get_weights()
    compiled(model, rate=0.05)
    logs = fit(model, X, Y, [logger])
    truth = simulate(start, X, Y, first=rising, second=falling, rate=0.05)
    assert_weights(model, truth.weights)
    assert_means(logs, truth)


def test_freezing_between_trainings_takes_effect():
    model = constant_model()
    logger = l2keras.RegularizationLogger(penalties=True, strengths=True)
    logs = fit(model, X, Y, [logger])
    assert "regularization_loss/hidden/kernel" in logs
    model.layers[0].trainable = False
    compiled(model)
    frozen = model.get_weights()[0]
    logs = fit(model, X, Y, [logger], **VALIDATION)
    assert "regularization_loss/hidden/kernel" not in logs
    assert "strength/hidden/kernel" not in logs
    assert_splits(logs)
    np.testing.assert_allclose(
        logs["regularization_loss"], logs["regularization_loss/output/kernel"]
    )
    np.testing.assert_array_equal(model.get_weights()[0], frozen)
    model.layers[0].trainable = True
    compiled(model)
    logs = fit(model, X, Y, [logger])
    assert "regularization_loss/hidden/kernel" in logs
    assert_splits(logs)


def test_another_regularizer_between_trainings_takes_effect():
    model = compiled(documented_model(None, None))
    logger = l2keras.RegularizationLogger(penalties=True)
    assert fit(model, X, Y, [logger])["regularization_loss"] == [0.0]
    start = model.get_weights()
    model.layers[0].kernel.regularizer = l2keras.L2(rising_schedule())
    compiled(model)
    logs = fit(model, X, Y, [logger])
    truth = simulate(start, X, Y, first=rising, second=lambda step: 0.0)
    assert_weights(model, truth.weights)
    assert_means(logs, truth)


def test_one_logger_for_two_models():
    logger = l2keras.RegularizationLogger()
    models = [scheduled_model(), constant_model()]
    for model in [*models, models[0]]:
        logs = fit(model, X, Y, [logger], **VALIDATION)
        assert_splits(logs)
        assert_splits(logs, "val_")
    assert all("compute_loss" not in vars(model) for model in models)


def test_two_loggers_one_after_the_other():
    model = scheduled_model()
    start = model.get_weights()
    one = l2keras.RegularizationLogger()
    other = l2keras.RegularizationLogger(penalties=True)
    fit(model, X, Y, [one])
    fit(model, X, Y, [other])
    logs = fit(model, X, Y, [one])
    assert "regularization_loss/hidden/kernel" not in logs
    truth = simulate(start, X, Y, first=rising, second=falling, epochs=3)
    assert_weights(model, truth.weights)
    np.testing.assert_allclose(
        logs["data_loss"], truth.data_losses[-1:], rtol=1e-5
    )


def test_two_loggers_at_once_do_no_harm():
    model = scheduled_model()
    start = model.get_weights()
    loggers = [
        l2keras.RegularizationLogger(),
        l2keras.RegularizationLogger(penalties=True),
    ]
    logs = fit(model, X, Y, loggers, epochs=2, **VALIDATION)
    truth = simulate(start, X, Y, first=rising, second=falling, epochs=2)
    assert_weights(model, truth.weights)
    assert_means(logs, truth)
    assert "compute_loss" not in vars(model)
    assert [each.name for each in model.metrics] == ["loss"]


def test_evaluate_with_the_logger_splits():
    model = scheduled_model(metrics=["accuracy"])
    l2keras.set_step(model, 6)
    metrics = [id(each) for each in model.metrics]
    logger = l2keras.RegularizationLogger(penalties=True, strengths=True)
    logs = model.evaluate(X, Y, verbose=0, callbacks=[logger], return_dict=True)
    data, regularization = simulated_losses(
        model.get_weights(), X, Y, rising(6), falling(6)
    )
    assert set(logs) == {
        "loss",
        "accuracy",
        "data_loss",
        "regularization_loss",
        "regularization_loss/hidden/kernel",
        "regularization_loss/output/kernel",
    }
    np.testing.assert_allclose(logs["data_loss"], data, rtol=1e-5)
    np.testing.assert_allclose(
        logs["regularization_loss"], regularization, rtol=1e-5
    )
    assert_splits(logs)
    assert [id(each) for each in model.metrics] == metrics
    assert len(model.evaluate(X, Y, verbose=0)) == 2


def test_evaluate_with_the_logger_after_fit_and_again():
    model = scheduled_model()
    logger = l2keras.RegularizationLogger()
    for _ in range(2):
        fit(model, X, Y, [logger], **VALIDATION)
        logs = model.evaluate(
            X, Y, verbose=0, callbacks=[logger], return_dict=True
        )
        assert_splits(logs)
        assert isinstance(model.evaluate(X, Y, verbose=0), float)


@pytest.mark.parametrize("used", [False, True], ids=["new", "used"])
def test_a_logger_can_be_copied(used):
    # As tuners copy callbacks for each trial.
    logger = l2keras.RegularizationLogger(penalties=True)
    if used:
        fit(constant_model(), X, Y, [logger])
    again = copy.deepcopy(logger)
    logs = fit(constant_model(), X, Y, [again])
    assert "regularization_loss/hidden/kernel" in logs
    assert_splits(logs)


# Models with a training step of their own, as in Keras's guides.


def guide_model(first, second, name="guide", **overridden):
    """Returns the documented model with the guide's training step."""
    base = {
        "tensorflow": tensorflow_guide,
        "jax": jax_guide,
        "torch": torch_guide,
    }[BACKEND]()
    kind = type("Guide", (base,), overridden)
    documented = documented_model(first, second)
    return kind(documented.inputs, documented.outputs[0], name=name)


def tensorflow_guide():
    import tensorflow as tf

    class Guide(keras.Model):
        def train_step(self, data):
            x, y = data
            with tf.GradientTape() as tape:
                y_pred = self(x, training=True)
                loss = self.compute_loss(y=y, y_pred=y_pred)
            gradients = tape.gradient(loss, self.trainable_variables)
            self.optimizer.apply(gradients, self.trainable_variables)
            return self.update_metrics(y, y_pred, loss)

        def test_step(self, data):
            x, y = data
            y_pred = self(x, training=False)
            loss = self.compute_loss(y=y, y_pred=y_pred)
            return self.update_metrics(y, y_pred, loss)

        update_metrics = update_metrics

    return Guide


def torch_guide():
    import torch

    class Guide(keras.Model):
        def train_step(self, data):
            x, y = data
            self.zero_grad()
            y_pred = self(x, training=True)
            loss = self.compute_loss(y=y, y_pred=y_pred)
            loss.backward()
            weights = self.trainable_weights
            gradients = [each.value.grad for each in weights]
            with torch.no_grad():
                self.optimizer.apply(gradients, weights)
            return self.update_metrics(y, y_pred, loss)

        def test_step(self, data):
            x, y = data
            y_pred = self(x, training=False)
            loss = self.compute_loss(y=y, y_pred=y_pred)
            return self.update_metrics(y, y_pred, loss)

        update_metrics = update_metrics

    return Guide


def update_metrics(self, y, y_pred, loss):
    for metric in self.metrics:
        if metric.name == "loss":
            metric.update_state(loss)
        else:
            metric.update_state(y, y_pred)
    return {metric.name: metric.result() for metric in self.metrics}


def jax_guide():
    import jax

    class Guide(keras.Model):
        def compute_loss_and_updates(
            self, trainable, non_trainable, metrics, x, y, training=False
        ):
            y_pred, non_trainable = self.stateless_call(
                trainable, non_trainable, x, training=training
            )
            loss, (_, non_trainable, metrics) = self.stateless_compute_loss(
                trainable,
                non_trainable,
                metrics,
                y=y,
                y_pred=y_pred,
                training=training,
            )
            return loss, (y_pred, non_trainable, metrics)

        def train_step(self, state, data):
            trainable, non_trainable, optimizer, metrics = state
            x, y = data[:2]
            (loss, (y_pred, non_trainable, metrics)), gradients = (
                jax.value_and_grad(self.compute_loss_and_updates, has_aux=True)(
                    trainable, non_trainable, metrics, x, y, training=True
                )
            )
            trainable, optimizer = self.optimizer.stateless_apply(
                optimizer, gradients, trainable
            )
            logs, metrics = self.updated_metrics(metrics, y, y_pred, loss)
            return logs, (trainable, non_trainable, optimizer, metrics)

        def test_step(self, state, data):
            trainable, non_trainable, metrics = state
            x, y = data[:2]
            loss, (y_pred, non_trainable, metrics) = (
                self.compute_loss_and_updates(
                    trainable, non_trainable, metrics, x, y
                )
            )
            logs, metrics = self.updated_metrics(metrics, y, y_pred, loss)
            return logs, (trainable, non_trainable, metrics)

        def updated_metrics(self, variables, y, y_pred, loss):
            updated, logs = [], {}
            for metric in self.metrics:
                own = variables[
                    len(updated) : len(updated) + len(metric.variables)
                ]
                if metric.name == "loss":
                    own = metric.stateless_update_state(own, loss)
                else:
                    own = metric.stateless_update_state(own, y, y_pred)
                logs[metric.name] = metric.stateless_result(own)
                updated += own
            return logs, updated

    return Guide


@pytest.mark.parametrize("metrics", [None, ["accuracy"]], ids=str)
def test_the_split_of_a_model_as_in_keras_guides(metrics):
    # The guides weight no batch by its size, but here all have the same.
    model = compiled(
        guide_model(
            l2keras.L2(rising_schedule()), l2keras.L2(falling_schedule())
        ),
        metrics=metrics,
    )
    start = model.get_weights()
    logs = fit(model, X, Y, epochs=2, validation_data=(X, Y))
    truth = simulate(start, X, Y, first=rising, second=falling, epochs=2)
    assert_weights(model, truth.weights)
    assert_means(logs, truth)
    assert_splits(logs, "val_")
    np.testing.assert_allclose(
        logs["val_data_loss"][-1],
        simulated_losses(model.get_weights(), X, Y, 0, 0)[0],
        rtol=1e-5,
    )


def test_a_train_step_without_compute_loss_warns():
    def compute_nothing(self, *data):
        if BACKEND == "jax":
            return {"loss": data[0][3][0]}, data[0]
        return {"loss": 0.0}

    model = compiled(
        guide_model(
            l2keras.L2(0.1), None, name="silent", train_step=compute_nothing
        )
    )
    x, y = documented_data(samples=32)
    logger = l2keras.RegularizationLogger()
    messages = warned(fit, model, x, y, [logger], epochs=2)[1]
    assert messages == [
        "Model 'silent' calls no `compute_loss` in its `train_step`, so that "
        "l2keras cannot split the loss. Let `train_step` take the loss from "
        "`self.compute_loss(x, y, y_pred, sample_weight)`, or on JAX from "
        "`self.stateless_compute_loss(...)`."
    ]


def test_a_model_that_hides_metrics_warns():
    class Hides(keras.Model):
        @property
        def metrics(self):
            return super().metrics[:1]

    documented = documented_model(l2keras.L2(rising_schedule()), None)
    model = compiled(
        Hides(documented.inputs, documented.outputs[0], name="hiding")
    )
    start = model.get_weights()
    logs, messages = warned(fit, model, X, Y)
    assert messages == [
        "Model 'hiding' overrides `metrics` and leaves out l2keras's, so that "
        "Keras logs no `data_loss` and no `regularization_loss`. Let it return "
        "`[*super().metrics, ...]`."
    ]
    assert set(logs) == {"loss"}
    # The schedules are followed all the same.
    truth = simulate(start, X, Y, first=rising, second=lambda step: 0.0)
    assert_weights(model, truth.weights)


def test_iterations_that_stand_still_warn():
    def count_nothing(self, *data):
        # Trains by other means than `self.optimizer`.
        if BACKEND == "jax":
            trainable, non_trainable, optimizer, metrics = data[0]
            x, y = data[1][:2]
            loss, (_, non_trainable, metrics) = self.compute_loss_and_updates(
                trainable, non_trainable, metrics, x, y
            )
            return {"loss": loss}, (
                trainable,
                non_trainable,
                optimizer,
                metrics,
            )
        x, y = data[0]
        return {"loss": self.compute_loss(y=y, y_pred=self(x))}

    model = compiled(
        guide_model(
            l2keras.L2(rising_schedule()),
            None,
            name="standing",
            train_step=count_nothing,
        )
    )
    x, y = documented_data(samples=32)
    messages = warned(fit, model, x, y, epochs=2)[1]
    assert messages == [
        "Model 'standing' returns logs of its own from its `train_step`, "
        "without `data_loss` and `regularization_loss`. Let it return "
        "`self.get_metrics_result()`, or the result of each of "
        "`self.metrics`.",
        "Model 'standing' has trained for an epoch, but its "
        "`optimizer.iterations` stand still at 0, and so do the schedules that "
        "read them. If it trains with other optimizers, call "
        "`l2keras.set_step(model, step)` before each step instead.",
    ]


# Refusals.

CLASH = (
    "Model 'clash' logs 'data_loss' already, which l2keras uses for its part "
    "of the loss. Give the metric, or the output that it is named after, "
    "another name."
)


def clash_by_output():
    inputs = keras.Input((10,))
    outputs = [
        keras.layers.Dense(
            3, name=name, kernel_regularizer=l2keras.L2(rising_schedule())
        )(inputs)
        for name in ("data", "other")
    ]
    model = keras.Model(inputs, outputs, name="clash")
    return compiled(model, loss=["mse", "mse"]), [Y, Y]


def clash_by_metric():
    documented = documented_model(l2keras.L2(rising_schedule()), None)
    model = keras.Model(documented.inputs, documented.outputs[0], name="clash")
    metric = keras.metrics.MeanSquaredError(name="data_loss")
    return compiled(model, metrics=[metric]), Y


@pytest.mark.parametrize("build", [clash_by_output, clash_by_metric])
@pytest.mark.parametrize("trained", [False, True], ids=["new", "trained"])
def test_a_name_that_is_taken_is_refused_and_nothing_changed(build, trained):
    model, y = build()
    if trained:
        warned(fit, model, X, y, [])
    variables = [id(each) for each in model.variables]
    metrics = [each.name for each in model.metrics]
    with pytest.raises(ValueError, match="logs 'data_loss' already") as caught:
        fit(model, X, y)
    assert str(caught.value) == CLASH
    assert [id(each) for each in model.variables] == variables
    assert "compute_loss" not in vars(model)
    assert not {"regularization_loss"} & {each.name for each in model.metrics}
    if trained:
        assert [each.name for each in model.metrics] == metrics
    assert "data_loss" in warned(fit, model, X, y, [])[0]


def test_a_model_that_is_not_compiled_is_refused():
    logger = l2keras.RegularizationLogger()
    model = documented_model(l2keras.L2(0.1), None)
    for given in (model, None):
        logger.set_model(given)
        with pytest.raises(ValueError, match="must be compiled") as caught:
            logger.on_train_begin()
        assert str(caught.value) == (
            "The model must be compiled before its losses can be logged. Call "
            "`model.compile(...)` first."
        )


# PenaltyScheduler.


def grow(epoch):
    return 0.5 + epoch


@pytest.mark.parametrize("order", ["alone", "before", "after"])
def test_the_scale_follows_the_epoch(order):
    model = scheduled_model() if order != "alone" else constant_model()
    start = model.get_weights()
    scheduler = l2keras.PenaltyScheduler({"hidden/.*": grow})
    logger = l2keras.RegularizationLogger(strengths=True)
    callbacks = {
        "alone": [scheduler],
        "before": [scheduler, logger],
        "after": [logger, scheduler],
    }[order]

    def first(step):
        strength = rising(step) if order != "alone" else 0.05
        return strength * grow(step // STEPS)

    def second(step):
        return falling(step) if order != "alone" else 0.02

    logs = fit(model, X, Y, callbacks, epochs=3, **VALIDATION)
    truth = simulate(start, X, Y, first=first, second=second, epochs=3)
    assert_weights(model, truth.weights)
    # Validation, and what comes after, has the last epoch's scale.
    losses = simulated_losses(
        model.get_weights(),
        X[:32],
        Y[:32],
        2.5 * (rising(12) if order != "alone" else 0.05),
        second(12),
    )
    np.testing.assert_allclose(logs["val_loss"][-1], sum(losses), rtol=1e-5)
    np.testing.assert_allclose(
        model.evaluate(X[:32], Y[:32], verbose=0), sum(losses), rtol=1e-5
    )
    assert model.layers[0].kernel_regularizer.scale == 2.5
    assert model.layers[1].kernel_regularizer.scale == 1.0
    if order != "alone":
        assert_means(logs, truth)
        assert_splits(logs, "val_")
        np.testing.assert_allclose(
            logs["strength/hidden/kernel"],
            [rising(STEPS * (epoch + 1)) * grow(epoch) for epoch in range(3)],
            rtol=1e-5,
        )

    # A second training with the same callbacks counts epochs from 0 again.
    start = model.get_weights()
    fit(model, X, Y, callbacks, epochs=2)
    truth = simulate(
        start,
        X,
        Y,
        first=lambda step: (
            first(step) / grow(step // STEPS) * grow(step // STEPS - 3)
        ),
        second=second,
        epochs=2,
        begin=3 * STEPS,
    )
    assert_weights(model, truth.weights)


def test_the_scale_follows_initial_epoch():
    scales = []
    scheduler = l2keras.PenaltyScheduler(
        {"hidden/kernel": lambda epoch: scales.append(epoch) or 1.0}
    )
    fit(constant_model(), X, Y, [scheduler], epochs=5, initial_epoch=3)
    assert scales == [3, 4]


def test_an_exact_path_goes_before_a_pattern():
    model = constant_model()
    scheduler = l2keras.PenaltyScheduler(
        {".*/kernel": lambda epoch: 2.0, "output/kernel": lambda epoch: 3.0}
    )
    fit(model, X, Y, [scheduler])
    assert model.layers[0].kernel_regularizer.scale == 2.0
    assert model.layers[1].kernel_regularizer.scale == 3.0


def test_one_pattern_scales_a_shared_regularizer():
    shared = l2keras.L2(0.05)
    model = compiled(documented_model(shared, shared))
    fit(model, X, Y, [l2keras.PenaltyScheduler({".*": grow})], epochs=2)
    assert shared.scale == 1.5


@keras.saving.register_keras_serializable(package="l2keras_tests")
class Repr(keras.regularizers.L2):
    def __repr__(self):
        return "<Keras's L2>"


@pytest.mark.parametrize(
    ("scales", "error", "message"),
    [
        (
            {"hiden/.*": grow},
            ValueError,
            "Pattern 'hiden/.*' matches no weight. A pattern is a whole path "
            "or a regular expression for one. Paths: 'hidden/kernel', "
            "'output/kernel'",
        ),
        (
            {"hidden/.*": grow, ".*kernel": grow},
            ValueError,
            "Weight 'hidden/kernel' is matched by more than one pattern: "
            "'hidden/.*', '.*kernel'. Make each weight match at most one.",
        ),
        (
            {"hidden/[": grow},
            ValueError,
            "Pattern 'hidden/[' is not a regular expression: unterminated "
            "character set at position 7.",
        ),
        (
            {"output/kernel": grow},
            TypeError,
            "The regularizer of 'output/kernel' must be one of l2keras to have "
            "a scale. Received: <Keras's L2>",
        ),
    ],
)
def test_patterns_are_checked_when_training_begins(scales, error, message):
    model = compiled(documented_model(l2keras.L2(0.1), Repr(0.1)))
    with pytest.raises(error) as caught:
        fit(model, X, Y, [l2keras.PenaltyScheduler(scales)])
    assert str(caught.value) == message
    assert model.layers[0].kernel_regularizer.scale == 1.0
    assert len(model.variables) == 4


def test_one_regularizer_has_one_scale():
    shared = l2keras.L2(0.1)
    model = compiled(documented_model(shared, shared))
    scheduler = l2keras.PenaltyScheduler(
        {"hidden/kernel": grow, "output/kernel": grow}
    )
    with pytest.raises(ValueError, match="share one regularizer") as caught:
        fit(model, X, Y, [scheduler])
    assert str(caught.value) == (
        "Weights 'hidden/kernel' and 'output/kernel' share one regularizer, "
        "L2(l2=0.1), which cannot have two scales. Give each layer a "
        "regularizer of its own, or match both weights with one pattern."
    )


@pytest.mark.parametrize(
    ("value", "error", "received"),
    [
        (-1.0, ValueError, "-1.0"),
        (float("nan"), ValueError, "nan"),
        (float("inf"), ValueError, "inf"),
        (None, TypeError, "None (of type NoneType)"),
        ("1", TypeError, "'1' (of type str)"),
    ],
)
def test_values_are_checked_when_an_epoch_begins(value, error, received):
    model = constant_model()
    scheduler = l2keras.PenaltyScheduler(
        {
            "output/.*": lambda epoch: 4.0,
            "hidden/.*": lambda epoch: [0.5, value][epoch],
        }
    )
    with pytest.raises(error) as caught:
        fit(model, X, Y, [scheduler, l2keras.RegularizationLogger()], epochs=2)
    assert str(caught.value) == (
        "Argument `scales['hidden/.*'](1)` must be a finite number >= 0. "
        f"Received: scales['hidden/.*'](1)={received}"
    )
    assert model.layers[0].kernel_regularizer.scale == 0.5
    assert isinstance(model.evaluate(X, Y, verbose=0), float)


@pytest.mark.parametrize(
    "scales",
    [None, 0.5, grow, [("hidden", grow)], {"hidden/.*": 0.5}],
    ids=["None", "number", "function", "list", "number by pattern"],
)
def test_scales_are_functions_by_pattern(scales):
    with pytest.raises(TypeError) as caught:
        l2keras.PenaltyScheduler(scales)
    assert str(caught.value) == (
        "Argument `scales` must be a dictionary from path or pattern to a "
        "function of the epoch. For a constant scale, call "
        "`l2keras.set_scale(model, scales)`. "
        f"Received: scales={scales!r}"
    )


def test_the_scale_is_saved(tmp_path):
    model = constant_model()
    fit(model, X, Y, [l2keras.PenaltyScheduler({"hidden/.*": grow})], epochs=2)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert again.layers[0].kernel_regularizer.scale == 1.5
    assert again.evaluate(X, Y, verbose=0) == model.evaluate(X, Y, verbose=0)
    # And goes on to change.
    for each in (model, again):
        fit(each, X, Y, [l2keras.PenaltyScheduler({"hidden/.*": grow})])
    assert again.layers[0].kernel_regularizer.scale == 0.5
    assert_weights(again, model.get_weights(), atol=0)


@keras.saving.register_keras_serializable(package="l2keras_tests")
class Traces(keras.layers.Layer):
    """Counts how often Python passes through it: once for a trace."""

    count = 0

    def call(self, x):
        Traces.count += 1
        return x


@compiled_only
@pytest.mark.parametrize("order", ["alone", "before", "after"])
def test_no_epoch_traces_anew(order):
    class Counts(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            counts.append(Traces.count)

    x, y = documented_data(samples=32)
    model = compiled(
        documented_model(l2keras.L2(0.05), l2keras.L2(0.02), between=[Traces()])
    )
    scheduler = l2keras.PenaltyScheduler({"hidden/.*": grow})
    logger = l2keras.RegularizationLogger()
    callbacks = {
        "alone": [scheduler],
        "before": [scheduler, logger],
        "after": [logger, scheduler],
    }[order]
    counts = []
    fit(model, x, y, [*callbacks, Counts()], epochs=3)
    assert set(counts) == {counts[0]}
    # Beside the logger, a second training finds what the first compiled if the
    # scales were there before it.
    fit(model, x, y, callbacks)
    before = Traces.count
    fit(model, x, y, callbacks, epochs=3)
    assert Traces.count == before
