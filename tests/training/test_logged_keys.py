"""The keys of the logs, and the callbacks that read them."""

import csv

import keras
import numpy as np
import pytest
from keras import ops

import l2keras
from tests.support import (
    documented_model,
    falling,
    falling_schedule,
    rising,
    rising_schedule,
    simulated_losses,
)
from tests.support.logged_trainings import (
    STEPS,
    VALIDATION,
    AddLoss,
    X,
    Y,
    compiled,
    constant_model,
    fit,
    means_of,
)

# Where the numbers go.


def read_csv(path):
    with open(path) as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("position", [0, 1], ids=["first", "last"])
def test_keras_callbacks_see_the_split_before_and_after_the_logger(
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
    # The best is the epoch that EarlyStopping restored, or a better one.
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


@pytest.mark.parametrize("position", [0, 1, 2], ids=["first", "mid", "last"])
def test_csv_logger_writes_strengths_wherever_the_logger_stands(
    position, tmp_path
):
    called = []
    others = [
        keras.callbacks.CSVLogger(tmp_path / "log.csv"),
        keras.callbacks.LambdaCallback(
            on_train_begin=lambda logs: called.append("begin"),
            on_epoch_end=lambda epoch, logs: called.append(epoch),
            on_train_end=lambda logs: called.append("end"),
        ),
    ]
    logger = l2keras.RegularizationLogger(strengths=True)
    others.insert(position, logger)
    model = compiled(
        documented_model(l2keras.L2(rising_schedule()), l2keras.L2(0.5))
    )
    logs = fit(model, X, Y, others, epochs=3)
    rows = read_csv(tmp_path / "log.csv")
    for name, at_end in (
        ("hidden", [rising(STEPS * epoch) for epoch in (1, 2, 3)]),
        ("output", [0.5] * 3),
    ):
        key = f"strength/{name}/kernel"
        assert logs[key] == pytest.approx(at_end)
        assert [float(row[key]) for row in rows] == pytest.approx(at_end)
    # The others are called as often as before.
    assert called == ["begin", 0, 1, 2, "end"]
    assert others[position] is logger  # In the list of the user.


# Each weight's penalty, and each strength.


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


def test_only_trained_weights_with_a_penalty_are_logged_by_weight():
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


def test_logged_paths_leave_out_the_name_of_the_model():
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
def test_options_must_be_booleans(name, value):
    with pytest.raises(TypeError) as caught:
        l2keras.RegularizationLogger(**{name: value})
    assert str(caught.value) == (
        f"Argument `{name}` must be a boolean. Received: {name}={value!r}"
    )
