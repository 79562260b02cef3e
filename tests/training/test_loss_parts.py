"""The loss is the sum of data loss and regularization loss, for any loss."""

import keras
import numpy as np
import pytest
from keras import ops

import l2keras
from tests.support import (
    BACKEND,
    assert_means,
    assert_splits,
    assert_weights,
    documented_model,
    falling,
    falling_schedule,
    number,
    rising,
    rising_schedule,
    simulate,
    simulated_losses,
)
from tests.support.custom_train_steps import guide_model
from tests.support.logged_trainings import (
    STEPS,
    TARGETS,
    UNEVEN,
    VALIDATION,
    AddLoss,
    X,
    Y,
    compiled,
    constant_model,
    fit,
    generate,
    means_of,
    scheduled_model,
)


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


WEIGHTS = np.linspace(0, 2, 75).astype("float32")
BOTH = {"classes": TARGETS, "values": UNEVEN[:, :3]}
UNEVEN_VALIDATION = {"validation_data": (UNEVEN[:40], TARGETS[:40])}
THREE_BATCHES = {
    "batch_size": 25,
    "validation_data": (UNEVEN[:25], TARGETS[:25]),
}


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
def test_data_and_regularization_loss_add_up_to_the_loss(build, y, arguments):
    epochs = 2
    logger = l2keras.RegularizationLogger(penalties=True, strengths=True)
    model = build()
    logs = fit(model, UNEVEN, y, [logger], epochs=epochs, **arguments)
    assert len(logs["data_loss"]) == epochs
    assert_splits(logs)
    assert_splits(logs, "val_")
    # Validation equals evaluation alone.
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


def test_the_split_and_schedules_of_every_kind_of_layer():
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


def test_the_split_adds_up_for_data_of_unknown_length():
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


def test_the_split_adds_up_for_a_dataset():
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


def test_the_split_adds_up_without_a_loss():
    model = keras.Sequential([keras.Input((10,)), AddLoss()])
    penalized = keras.layers.Dense(
        2, use_bias=False, kernel_regularizer=l2keras.L2(0.5)
    )
    model.add(penalized)
    model.compile(keras.optimizers.SGD(0.0))
    logs = fit(model, X, np.zeros((64, 2)))
    np.testing.assert_allclose(logs["data_loss"], [0.0], atol=1e-7)
    assert_splits(logs)


def test_the_split_adds_up_where_no_output_has_a_loss():
    inputs = keras.Input((10,))
    hidden = keras.layers.Dense(2, kernel_regularizer=l2keras.L2(0.5))(inputs)
    model = keras.Model(inputs, [AddLoss()(hidden), hidden])
    model.compile(keras.optimizers.SGD(0.0), loss=[None, None])
    logs = fit(model, X, [np.zeros((64, 2))] * 2)
    assert logs["data_loss"] == [0.0]
    assert_splits(logs)


def test_a_small_data_loss_is_exact_beside_a_large_penalty():
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


# Losses with a number for each sample, of which Keras logs the mean.


def each_sample(**arguments):
    model = keras.Sequential([keras.Input((10,)), keras.layers.Dense(3)])
    loss = keras.losses.MeanSquaredError(reduction="none")
    return compiled(model, rate=0.01, loss=loss, **arguments)


@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["plain", "weighted"])
def test_the_split_of_an_unreduced_loss(weights):
    model = each_sample()
    arguments = {"batch_size": 16, "sample_weight": weights, "verbose": 0}
    logs = model.evaluate(
        UNEVEN,
        TARGETS,
        callbacks=[l2keras.RegularizationLogger()],
        return_dict=True,
        **arguments,
    )
    errors = (ops.convert_to_numpy(model(UNEVEN)) - TARGETS) ** 2
    scale = 1.0 if weights is None else weights
    truth = np.mean(errors.mean(1) * scale)
    np.testing.assert_allclose(logs["data_loss"], truth, rtol=1e-5)
    np.testing.assert_allclose(logs["loss"], truth, rtol=1e-5)
    assert logs["regularization_loss"] == 0.0
    if BACKEND == "tensorflow":  # Elsewhere Keras cannot train it.
        logs = model.fit(
            UNEVEN,
            TARGETS,
            callbacks=[l2keras.RegularizationLogger()],
            epochs=2,
            **arguments,
        ).history
        assert_splits(logs)


def test_the_split_of_an_unreduced_loss_of_two_axes():
    inputs = keras.Input((5, 10))
    model = keras.Model(inputs, keras.layers.Dense(3)(inputs))
    compiled(model, loss=keras.losses.MeanSquaredError(reduction="none"))
    x, y = UNEVEN.reshape(15, 5, 10), TARGETS.reshape(15, 5, 3)
    logs = model.evaluate(
        x,
        y,
        batch_size=4,
        verbose=0,
        callbacks=[l2keras.RegularizationLogger()],
        return_dict=True,
    )
    truth = np.mean((ops.convert_to_numpy(model(x)) - y) ** 2)
    np.testing.assert_allclose(logs["data_loss"], truth, rtol=1e-5)
    assert_splits({key: [value] for key, value in logs.items()})


def test_the_split_of_several_unreduced_outputs():
    inputs = keras.Input((10,))
    outputs = [keras.layers.Dense(3, name=name)(inputs) for name in ("a", "b")]
    loss = [keras.losses.MeanSquaredError(reduction="none") for _ in outputs]
    model = keras.Model(inputs, outputs)
    compiled(model, loss=loss, loss_weights=[0.5, 2.0])
    logs = model.evaluate(
        UNEVEN,
        [TARGETS, TARGETS],
        batch_size=16,
        verbose=0,
        callbacks=[l2keras.RegularizationLogger()],
        return_dict=True,
    )
    a, b = (
        np.mean((ops.convert_to_numpy(each) - TARGETS) ** 2)
        for each in model(UNEVEN)
    )
    np.testing.assert_allclose(logs["data_loss"], 0.5 * a + 2 * b, rtol=1e-5)
    assert_splits({key: [value] for key, value in logs.items()})


def test_the_split_of_a_compute_loss_that_returns_a_loss_per_sample():
    class Own(keras.Model):
        def compute_loss(
            self,
            x=None,
            y=None,
            y_pred=None,
            sample_weight=None,
            training=True,
        ):
            errors = ops.mean(ops.square(y - y_pred), axis=-1)
            return errors + sum(self.losses)

    inputs = keras.Input((10,))
    dense = keras.layers.Dense(3, kernel_regularizer=l2keras.L2(0.1))
    model = compiled(Own(inputs, dense(inputs)), loss=None)
    logs = model.evaluate(
        UNEVEN,
        TARGETS,
        batch_size=16,
        verbose=0,
        callbacks=[l2keras.RegularizationLogger()],
        return_dict=True,
    )
    data = np.mean((ops.convert_to_numpy(model(UNEVEN)) - TARGETS) ** 2)
    penalty = 0.1 * np.sum(np.square(model.get_weights()[0]))
    np.testing.assert_allclose(logs["data_loss"], data, rtol=1e-5)
    np.testing.assert_allclose(logs["regularization_loss"], penalty, rtol=1e-5)
    assert_splits({key: [value] for key, value in logs.items()})
