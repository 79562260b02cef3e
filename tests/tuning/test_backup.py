"""The file of a search that goes on: what it survives, and what it says."""

import io

import numpy as np
import pytest
from searches import (
    EXPECTED_WARNINGS,
    FOLDS,
    by_fit,
    interrupt,
    net,
    told_why,
    tune,
)

from l2keras.tuning import backup_file, chunks, stack_trainer

pytestmark = [*EXPECTED_WARNINGS, pytest.mark.slow]

THREE = [0.0, 0.03, 0.3]


@pytest.fixture
def often(monkeypatch):
    """Has the file written after each epoch."""
    monkeypatch.setattr(backup_file, "SECONDS", 0)


@pytest.fixture
def trained(monkeypatch):
    """Notes which chunk is trained for which epoch, by stacks."""
    calls = []
    train = stack_trainer.StackTrainer.epoch

    def epoch(self, chunk, number):
        calls.append((tuple(chunk.folds), tuple(chunk.candidates), number))
        return train(self, chunk, number)

    monkeypatch.setattr(stack_trainer.StackTrainer, "epoch", epoch)
    return calls


def array_file():
    """Returns what is in the file of one array."""
    file = io.BytesIO()
    np.save(file, np.zeros(3))
    return file.getvalue()


def break_off(monkeypatch, call, trainer="StackTrainer", **options):
    with monkeypatch.context() as context:
        interrupt(context, call, trainer)
        with pytest.warns(UserWarning, match="interrupted"):
            tune(net(), strengths=THREE, epochs=3, **options)


# The folder, and the file -----------------------------------------------------


@pytest.mark.parametrize("below", ["", "below", "below/that"])
def test_a_file_in_place_of_the_folder_is_found_before_training(
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
    assert file.read_text() == "mine"


def test_a_folder_that_cannot_be_written_is_found_before_training(
    monkeypatch, tmp_path
):
    def refuse(**options):
        raise PermissionError(13, "Permission denied")

    # Whoever runs the tests may be allowed to write everywhere.
    monkeypatch.setattr(backup_file.tempfile, "TemporaryFile", refuse)
    asked = []
    with pytest.raises(ValueError, match="Permission denied"):
        tune(asked.append, backup_dir=tmp_path)
    assert not asked


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
def test_a_file_that_cannot_be_read_is_named(
    monkeypatch, tmp_path, often, damage, kind
):
    break_off(monkeypatch, 2, backup_dir=tmp_path)
    file = tmp_path / "search.npz"
    data = damage(file.read_bytes())
    if data is None:
        file.unlink()
        file.mkdir()
    else:
        file.write_bytes(data)
    with pytest.raises(
        ValueError, match="must be what a search wrote"
    ) as error:
        tune(net(), strengths=THREE, epochs=3, backup_dir=tmp_path)
    assert str(error.value).startswith(
        f"{file} must be what a search wrote. Received: a file that cannot be "
        f"read as such ({kind}: "
    )
    assert str(error.value).endswith("Remove it, or give another `backup_dir`.")


def test_an_archive_of_something_else_is_named(tmp_path):
    file = tmp_path / "search.npz"
    np.savez(file, weights=np.zeros(3))
    with pytest.raises(ValueError, match="'arguments'"):
        tune(net(), backup_dir=tmp_path)
    assert file.exists()


# As many at once as before, or as many as are asked for -----------------------


def test_it_goes_on_with_as_many_as_it_was_begun_with(
    monkeypatch, tmp_path, often, trained
):
    whole = tune(net(), strengths=THREE, epochs=3)
    break_off(monkeypatch, 3, backup_dir=tmp_path)
    del trained[:]
    # The memory has room for fewer by now.
    monkeypatch.setattr(chunks.backends, "free_memory", lambda: 1)
    result = tune(net(), strengths=THREE, epochs=3, backup_dir=tmp_path)
    assert trained == [((0, 1), (0, 1, 2), 2)]
    np.testing.assert_array_equal(result.validation_loss, whole.validation_loss)


def test_replicas_that_are_done_stay_done_with_another_number(
    monkeypatch, tmp_path, often, trained
):
    whole = tune(net(), strengths=THREE, epochs=3, at_once=3)
    # The first of two chunks is done, of the second an epoch.
    break_off(monkeypatch, 5, at_once=3, backup_dir=tmp_path)
    del trained[:]
    with pytest.warns(UserWarning, match="was broken off") as warned:
        result = tune(
            net(), strengths=THREE, epochs=3, at_once=1, backup_dir=tmp_path
        )
    (told,) = (e for e in warned if "broken off" in str(e.message))
    assert str(told.message) == (
        "The search was broken off while it trained 3 replicas at once, and "
        "goes on with 1. The 1 epochs of those that were in training are "
        "trained again."
    )
    # Where the search was called, which is in this function of the tests.
    assert told.filename == tune.__code__.co_filename
    assert trained == [
        ((1,), (strength,), epoch)
        for strength in range(3)
        for epoch in range(3)
    ]
    np.testing.assert_allclose(
        result.validation_loss, whole.validation_loss, rtol=0, atol=1e-5
    )
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_said_where_nothing_is_trained_again(
    monkeypatch, tmp_path, trained
):
    # Written when a chunk is done, and not while one is in training.
    break_off(monkeypatch, 5, at_once=3, backup_dir=tmp_path)
    del trained[:]
    result = tune(
        net(), strengths=THREE, epochs=3, at_once=2, backup_dir=tmp_path
    )
    assert {folds for folds, *_ in trained} == {(1,)}
    assert np.isfinite(result.validation_loss).all()


def test_what_was_lost_is_not_taken_for_done(
    monkeypatch, tmp_path, often, trained
):
    break_off(monkeypatch, 3, at_once=3, backup_dir=tmp_path)
    with monkeypatch.context() as context:
        interrupt(context, 2)
        with (
            pytest.warns(UserWarning, match="was broken off"),
            pytest.warns(UserWarning, match="interrupted"),
        ):
            result = tune(
                net(), strengths=THREE, epochs=3, at_once=1, backup_dir=tmp_path
            )
    assert np.isfinite(result.validation_loss).sum() == 1
    assert np.isfinite(result.validation_loss[0, 0, 0])


def test_by_fit_the_next_replica_is_the_next(monkeypatch, tmp_path, often):
    reason = "`build_model` asks for the value of the strength"
    options = {"epochs": 2, "folds": FOLDS}
    with told_why(reason):
        whole = tune(by_fit, **options)
    with monkeypatch.context() as context:
        interrupt(context, 4, "FitTrainer")
        with told_why(reason), pytest.warns(UserWarning, match="interrupted"):
            tune(by_fit, backup_dir=tmp_path, **options)
    # Another number has no meaning by `fit`.
    with told_why(reason):
        result = tune(by_fit, backup_dir=tmp_path, at_once=7, **options)
    np.testing.assert_array_equal(result.validation_loss, whole.validation_loss)
