"""The metric by which a search chooses: `monitor` and `mode`."""

import dataclasses

import keras
import numpy as np
import pytest

import l2keras
from l2keras import L2
from l2keras.tuning import checkpoint
from tests.support.searches import (
    EXPECTED_WARNINGS,
    FOLDS,
    LABELS,
    STRENGTHS,
    X,
    assert_same,
    interrupt,
    net,
    several,
    tune,
)

pytestmark = EXPECTED_WARNINGS

RNG = np.random.default_rng(3)
SHAPE = 4, 3, 5


def made_up(monitor, mode):
    return l2keras.TuningResult(
        np.logspace(-3, 1, 4),
        RNG.uniform(size=SHAPE),
        RNG.uniform(size=SHAPE),
        {"val_accuracy": RNG.uniform(size=SHAPE)},
        [],
        monitor=monitor,
        mode=mode,
    )


@pytest.mark.parametrize(("mode", "sign"), [("max", -1), ("min", 1)])
def test_the_choice_is_the_best_mean_of_the_metric(mode, sign):
    result = made_up("val_accuracy", mode)
    values = sign * result.metrics["val_accuracy"]
    mean = values.mean(axis=1)
    error = values.std(axis=1, ddof=1) / np.sqrt(3)
    ((best, epoch),) = np.argwhere(mean == mean.min())
    assert result.best_strength == result.strengths[best]
    assert (result.best_index, result.best_epoch) == (best, epoch + 1)
    np.testing.assert_array_equal(result.best_epochs, mean.argmin(axis=1) + 1)
    within = mean.min(axis=1) <= mean[best, epoch] + error[best, epoch]
    assert result.one_standard_error_strength == result.strengths[within].max()
    path, errors = result.path()
    np.testing.assert_allclose(path, sign * mean.min(axis=1))
    np.testing.assert_allclose(errors, error[np.arange(4), mean.argmin(axis=1)])


def test_the_texts_and_the_figure_are_of_the_metric(capsys):
    result = made_up("val_accuracy", "max")
    result.summary()
    head = capsys.readouterr().out.splitlines()[1].split()
    assert head == [
        "Strength",
        "Epoch",
        "val_accuracy",
        "Error",
        "Choice",
        "val_data_loss",
    ]
    assert f"val_accuracy {result.path()[0].max():.4g}" in repr(result)
    pytest.importorskip("matplotlib")
    ax = result.plot()
    assert ax.get_ylabel() == "validation accuracy"
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), result.path()[0])


def test_a_replica_that_diverged_is_not_chosen():
    result = made_up("val_accuracy", "max")
    loss = result.validation_loss.copy()
    loss[result.best_index, 0] = np.nan
    lost = dataclasses.replace(result, validation_loss=loss)
    assert lost.best_strength != result.best_strength
    assert np.isnan(lost.path()[0][result.best_index])


@pytest.mark.parametrize(
    ("metric", "monitor", "mode", "expected"),
    [
        ("accuracy", "val_data_loss", None, "min"),
        ("accuracy", "val_accuracy", None, "max"),
        ("accuracy", "val_accuracy", "min", "min"),
        (
            "sparse_categorical_crossentropy",
            "val_sparse_categorical_crossentropy",
            None,
            "min",
        ),
    ],
)
def test_the_mode_is_the_guess_of_early_stopping(
    metric, monitor, mode, expected
):
    result = tune(net(metrics=[metric]), monitor=monitor, mode=mode, epochs=1)
    assert (result.monitor, result.mode) == (monitor, expected)


def test_the_monitor_changes_the_choice_and_no_loss():
    by_loss = tune(net(), epochs=3)
    result = tune(net(), epochs=3, monitor="val_accuracy")
    assert_same(result, by_loss, rtol=0, atol=0)
    mean = by_loss.metrics["val_accuracy"].mean(axis=1)
    best, epoch = np.unravel_index(mean.argmax(), mean.shape)
    assert result.best_strength == STRENGTHS[best]
    assert result.best_epoch == epoch + 1


def fraction(y_true, y_pred):
    return keras.ops.mean(y_pred)


@pytest.mark.parametrize(
    ("build_model", "options", "message"),
    [
        (
            net(),
            {"monitor": "val_loss"},
            "Argument `monitor` must be the name of a number that is computed "
            "on the rows held out, one of ['val_accuracy', 'val_data_loss']. "
            "Received: monitor='val_loss'",
        ),
        (
            net(metrics=[fraction]),
            {"monitor": "val_fraction"},
            "Argument `mode` must be 'min' or 'max', since Keras does not know "
            "which values of 'val_fraction' are better. Received: mode=None",
        ),
        (
            net(),
            {"monitor": "val_accuracy", "mode": "auto"},
            "Argument `mode` must be 'min', 'max' or `None`, to have Keras "
            "guess. Received: mode='auto'",
        ),
    ],
)
def test_a_wrong_monitor_is_refused(build_model, options, message):
    with pytest.raises(ValueError, match="Argument `mo") as error:
        tune(build_model, **options)
    assert str(error.value) == message


def test_a_metric_of_one_output_can_be_monitored():
    result = tune(
        several,
        {"a": X, "b": X**2},
        {"p": LABELS, "q": X[:, :1]},
        monitor="val_p_accuracy",
        mode="max",
        epochs=1,
    )
    mean = result.metrics["val_p_accuracy"].mean(axis=1)[:, 0]
    assert result.best_strength == STRENGTHS[mean.argmax()]


def of_two(strengths):
    model = keras.Sequential(
        [
            keras.Input((6,)),
            keras.layers.Dense(
                8, "relu", kernel_regularizer=L2(strengths["a"])
            ),
            keras.layers.Dense(
                3, "softmax", kernel_regularizer=L2(strengths["b"])
            ),
        ]
    )
    model.compile(
        keras.optimizers.SGD(0.2),
        "sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    return model


def test_several_strengths_are_searched_by_the_metric():
    ranges = {"a": (1e-3, 1.0), "b": (1e-3, 1.0)}
    options = {"strengths": ranges, "epochs": 3}
    result = tune(of_two, monitor="val_accuracy", **options)
    mean = result.metrics["val_accuracy"].mean(axis=1)
    assert mean[result.best_index, result.best_epoch - 1] == mean.max()
    # The first round is the same, and the later ones follow the metric.
    by_loss = tune(of_two, **options)
    np.testing.assert_array_equal(result.strengths[:9], by_loss.strengths[:9])
    assert mean.max() >= by_loss.metrics["val_accuracy"].mean(axis=1)[:9].max()


@pytest.mark.filterwarnings("ignore:The search was interrupted")
def test_a_resumed_search_may_have_another_monitor(monkeypatch, tmp_path):
    monkeypatch.setattr(checkpoint, "SECONDS", 0)
    options = {"epochs": 3, "backup_dir": tmp_path}
    with monkeypatch.context() as context:
        interrupt(context, 2)
        tune(net(), **options)
    result = tune(net(), monitor="val_accuracy", **options)
    whole = tune(net(), epochs=3, monitor="val_accuracy")
    assert_same(result, whole, rtol=0, atol=1e-6)
    assert result.best_strength == whole.best_strength


@pytest.mark.filterwarnings("ignore:The search was interrupted")
def test_for_several_strengths_the_monitor_must_be_the_same(
    monkeypatch, tmp_path
):
    monkeypatch.setattr(checkpoint, "SECONDS", 0)
    options = {
        "strengths": {"a": None, "b": None},
        "epochs": 2,
        "folds": FOLDS[:1],
        "backup_dir": tmp_path,
    }
    with monkeypatch.context() as context:
        interrupt(context, 2)
        tune(of_two, **options)
    with pytest.raises(ValueError, match="of a search with other arguments"):
        tune(of_two, monitor="val_accuracy", **options)
