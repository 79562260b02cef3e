"""Searches after Ctrl-C, a kill, a full disk, or without memory."""

import errno
import io
import signal
import subprocess
import sys

import keras
import numpy as np
import pytest

from l2keras.tuning import checkpoint
from tests.support import BACKEND, outputs, start_program
from tests.support.searches import (
    EXPECTED_WARNINGS,
    FOLDS,
    LABELS,
    STRENGTHS,
    WEIGHT,
    X,
    assert_same,
    by_fit,
    interrupt,
    net,
    optimizers,
    told_why,
    tune,
    with_dropout,
    with_momentum,
)

pytestmark = EXPECTED_WARNINGS

THREE = [0.0, 0.03, 0.3]


@pytest.fixture
def often(monkeypatch):
    """Has the file written after each epoch."""
    monkeypatch.setattr(checkpoint, "SECONDS", 0)


def break_off(monkeypatch, number, build_model=None, why=None, **options):
    """Interrupts a search when so many epochs were trained."""
    with monkeypatch.context() as context:
        interrupt(context, number)
        with told_why(why), pytest.warns(UserWarning, match="interrupted"):
            return tune(build_model or net(), **options)


def saved(folder):
    with np.load(folder / "search.npz") as file:
        return dict(file)


def test_a_diverging_replica_leaves_the_others_unchanged():
    build_model = net(optimizer=lambda: optimizers.SGD(0.1))
    good = tune(build_model, strengths=[0.0, 0.01], epochs=3)
    with pytest.warns(UserWarning, match="is not finite") as warned:
        result = tune(build_model, strengths=[0.0, 0.01, 1e6], epochs=3)
    assert [
        str(warning.message)
        for warning in warned
        if warning.category is UserWarning
        and not str(warning.message).startswith("The best strength")
    ] == [
        "The loss of 2 of 6 replicas is not finite: strength 1e+06. The others "
        "are not affected. A lower learning rate may help."
    ]
    for ours, others in (
        (result.validation_loss, good.validation_loss),
        (result.train_loss, good.train_loss),
        (result.metrics["val_accuracy"], good.metrics["val_accuracy"]),
    ):
        np.testing.assert_allclose(ours[:2], others, rtol=1e-6)
    assert np.isnan(result.validation_loss[2, :, -1]).all()
    assert result.best_strength == good.best_strength


ASKED = "`build_model` asks for the value of the strength"
PLANS = {
    "all together": (with_momentum, None, None, 4),
    "one after another in one model": (with_momentum, 1, None, 1),
    "each in a model of its own": (by_fit, None, ASKED, 1),
}

each_plan = pytest.mark.parametrize(
    ("build_model", "at_once", "why", "number"),
    [
        pytest.param(
            *row,
            id=name,
            marks=[] if name == "all together" else [pytest.mark.slow],
        )
        for name, row in PLANS.items()
    ],
)


@each_plan
def test_an_interrupted_search_returns_the_finished_epochs(
    monkeypatch, build_model, at_once, why, number
):
    options = {"epochs": 3, "at_once": at_once}
    with told_why(why):
        whole = tune(build_model, **options)
    # In the middle of a chunk, of which the one before is done.
    epochs = 2 if number == 4 else 4
    result = break_off(monkeypatch, epochs, build_model, why, **options)
    known = np.isfinite(result.validation_loss)
    assert known.sum() == epochs * number
    for name in ("validation_loss", "train_loss"):
        ours = getattr(result, name)
        np.testing.assert_array_equal(ours[known], getattr(whole, name)[known])
        assert np.isnan(ours[~known]).all()
    assert result.fallback_reason == why


def test_an_interruption_before_the_first_epoch_is_raised():
    def build_model(strength):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tune(build_model)


@each_plan
def test_an_interrupted_search_resumes_from_its_backup(
    monkeypatch, tmp_path, often, build_model, at_once, why, number
):
    options = {"epochs": 3, "at_once": at_once}
    with told_why(why):
        whole = tune(build_model, **options)
    folder = tmp_path / "not" / "there"
    options["backup_dir"] = folder
    break_off(monkeypatch, 3, build_model, why, **options)
    assert (folder / "search.npz").exists()
    with told_why(why):
        result = tune(build_model, **{**options, "backup_dir": str(folder)})
    assert_same(result, whole, rtol=0, atol=0)
    assert list(folder.iterdir()) == []


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="Nothing to kill by")
def test_a_killed_search_resumes_from_its_backup(tmp_path):
    process = start_program("killed_search", tmp_path)
    options = {"epochs": 3, "at_once": 2}
    reason = (
        "layer 'dropout' draws random numbers" if BACKEND == "torch" else None
    )
    with told_why(reason):
        whole = tune(with_dropout, **options)
    outputs([process], returncode=-signal.SIGKILL)
    assert np.isfinite(saved(tmp_path)["validation_loss"]).sum() == (
        3 if BACKEND == "torch" else 6
    )
    with told_why(reason):
        result = tune(with_dropout, backup_dir=tmp_path, **options)
    assert_same(result, whole, rtol=0, atol=0)
    assert list(tmp_path.glob("search*")) == []


# Which search a file is of ---------------------------------------------------


@pytest.mark.slow
def test_a_backup_of_another_search_is_refused(monkeypatch, tmp_path, often):
    break_off(monkeypatch, 2, epochs=3, backup_dir=tmp_path)
    for other in (
        {"seed": 1},
        {"epochs": 4},
        {"batch_size": 8},
        {"shuffle": False},
        {"folds": FOLDS[::-1]},
        {"strengths": [0.01, 0.4]},
        {"x": 2 * X},
        {"y": 2 - LABELS},
        {"sample_weight": WEIGHT},
    ):
        with pytest.raises(ValueError, match="other arguments") as error:
            tune(net(), backup_dir=tmp_path, **{"epochs": 3, **other})
        assert str(error.value) == (
            f"The backup {str(tmp_path / 'search.npz')!r} is of a search with "
            "other arguments or data. Remove it, or give another `backup_dir`."
        )


def other_layer(strength):
    return net(lambda: keras.layers.LayerNormalization())(strength)


def other_rate(strength):
    return net(optimizer=lambda: optimizers.Adam(0.02))(strength)


def rate_that_falls_later(strength):
    rate = optimizers.schedules.PiecewiseConstantDecay([1000], [0.01, 0.001])
    return net(optimizer=lambda: optimizers.Adam(rate))(strength)


@pytest.mark.parametrize(
    ("build_model", "what"),
    [
        (other_layer, "data_loss is "),
        (other_rate, "of a search for another model"),
        (rate_that_falls_later, "the optimizer or a regularizer is another"),
    ],
)
def test_a_backup_of_other_models_is_refused(
    monkeypatch, tmp_path, often, build_model, what
):
    break_off(monkeypatch, 2, backup_dir=tmp_path)
    with pytest.raises(
        ValueError, match="of a search for another model"
    ) as error:
        tune(build_model, backup_dir=tmp_path)
    assert what in str(error.value)


def array_file():
    """Returns the bytes of a file with one array."""
    file = io.BytesIO()
    np.save(file, np.zeros(3))
    return file.getvalue()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("damage", "kind"),
    [
        (lambda data: data[: len(data) // 2], "BadZipFile"),
        (lambda data: b"", "EOFError"),
        (lambda data: b"something else", "ValueError"),
        (lambda data: array_file(), "TypeError"),
        (lambda data: None, "IsADirectoryError"),
    ],
    ids=["truncated", "empty", "of another kind", "an array", "a folder"],
)
def test_an_unreadable_backup_is_named(
    monkeypatch, tmp_path, often, damage, kind
):
    break_off(monkeypatch, 2, epochs=3, backup_dir=tmp_path)
    file = tmp_path / "search.npz"
    data = damage(file.read_bytes())
    if data is None:
        file.unlink()
        file.mkdir()
    else:
        file.write_bytes(data)
    with pytest.raises(ValueError, match=f"cannot be read \\({kind}: "):
        tune(net(), epochs=3, backup_dir=tmp_path)


@pytest.mark.slow
def test_finished_replicas_stay_finished_with_another_at_once(
    monkeypatch, tmp_path, often
):
    options = {"strengths": THREE, "epochs": 3}
    whole = tune(net(), at_once=3, **options)
    # The first of two chunks is done, and an epoch of the second is in the
    # file.
    break_off(monkeypatch, 5, at_once=3, backup_dir=tmp_path, **options)
    np.testing.assert_array_equal(saved(tmp_path)["done"], [[True, False]] * 3)
    with pytest.warns(UserWarning, match="was interrupted while") as warned:
        result = tune(net(), at_once=1, backup_dir=tmp_path, **options)
    (told,) = (e for e in warned if "interrupted while" in str(e.message))
    assert str(told.message) == (
        "The search was interrupted while it trained 3 replicas at once, and "
        "is resumed with 1. The 1 epochs of replicas that were in training are "
        "trained again."
    )
    np.testing.assert_array_equal(
        result.validation_loss[:, 0], whole.validation_loss[:, 0]
    )
    np.testing.assert_allclose(
        result.validation_loss, whole.validation_loss, rtol=0, atol=1e-5
    )


# The folder ------------------------------------------------------------------


@pytest.mark.parametrize("below", ["", "below", "below/that"])
def test_a_file_in_place_of_the_backup_folder_is_refused_before_training(
    tmp_path, below
):
    file = tmp_path / "file"
    file.write_text("mine")
    asked = []
    with pytest.raises(ValueError, match="must be a folder") as error:
        tune(asked.append, backup_dir=file / below)
    assert not asked
    assert str(error.value).startswith(
        "Argument `backup_dir` must be a folder that can be written. Received: "
        f"backup_dir={str(file / below)!r} ("
    )


def test_a_full_disk_warns_and_the_search_continues(
    monkeypatch, tmp_path, often
):
    savez, calls = np.savez, []

    def full_at_first(*arguments, **options):
        calls.append(arguments)
        if len(calls) < 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        return savez(*arguments, **options)

    monkeypatch.setattr(np, "savez", full_at_first)
    whole = tune(net(), epochs=4)
    with pytest.warns(UserWarning, match="No space left on device") as warned:
        result = tune(net(), epochs=4, backup_dir=tmp_path)
    assert sum("No space" in str(warning.message) for warning in warned) == 1
    assert_same(result, whole, rtol=0, atol=0)
    assert len(calls) == 4
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform == "win32", reason="There are no such locks.")
def test_two_searches_in_one_folder_are_refused(tmp_path):
    program = (
        "import pathlib, sys\n"
        "from l2keras.tuning.checkpoint import only_search_in\n"
        "with only_search_in(pathlib.Path(sys.argv[1])):\n"
        "    print('in', flush=True)\n"
        "    sys.stdin.readline()\n"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert other.stdout.readline() == "in\n"
    with pytest.raises(ValueError, match="no other search uses"):
        tune(net(), backup_dir=tmp_path)
    other.communicate("\n")
    tune(net(), backup_dir=tmp_path)


# Memory ----------------------------------------------------------------------


def error_of_memory():
    """Returns the error that the backend raises when out of memory."""
    if BACKEND == "jax":
        import jax

        return jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory")
    if BACKEND == "tensorflow":
        import tensorflow as tf

        return tf.errors.ResourceExhaustedError(None, None, "OOM")
    import torch

    return torch.OutOfMemoryError("CUDA out of memory.")


def failing_in_training(monkeypatch, error, times):
    """Has a search fail after its first epoch, for so many times."""
    update, calls = keras.utils.Progbar.update, []

    def fails(*arguments, **options):
        calls.append(arguments)
        if len(calls) <= times:
            raise error
        return update(*arguments, **options)

    monkeypatch.setattr(keras.utils.Progbar, "update", fails)


def test_out_of_memory_halves_the_number_trained_at_once(monkeypatch):
    options = {"strengths": THREE, "epochs": 2, "at_once": 6}
    whole = tune(net(), **options)
    failing_in_training(monkeypatch, error_of_memory(), times=1)
    with pytest.warns(
        UserWarning, match="Out of memory with 6 replicas"
    ) as warned:
        result = tune(net(), **options)
    assert any("continues with 3" in str(warning.message) for warning in warned)
    assert result.fallback_reason is None
    assert_same(result, whole, rtol=0, atol=1e-5)


def test_another_error_in_training_is_raised(monkeypatch):
    failing_in_training(monkeypatch, ZeroDivisionError("a fault"), times=1)
    with pytest.raises(ZeroDivisionError, match="a fault"):
        tune(net(), strengths=STRENGTHS)
