"""What goes wrong on the way: no numbers, Ctrl-C, a kill, another memory."""

import signal

import numpy as np
import pytest
from helpers import BACKEND, outputs
from searches import (
    CHEAP,
    EXPECTED_WARNINGS,
    FOLDS,
    LABELS,
    WEIGHT,
    X,
    assert_same,
    by_fit,
    interrupt,
    net,
    optimizers,
    start_program,
    told_why,
    tune,
    with_dropout,
    with_momentum,
)

from l2keras.tuning import backup_file, stack_trainer
from l2keras.tuning.grid.stack import StackingError

pytestmark = EXPECTED_WARNINGS


def test_a_replica_without_a_number_does_not_spoil_the_others():
    build_model = net(optimizer=lambda: optimizers.SGD(0.1))
    good = tune(build_model, strengths=[0.0, 0.01], epochs=3)
    with pytest.warns(UserWarning, match="is not finite") as warned:
        result = tune(build_model, strengths=[0.0, 0.01, 1e6], epochs=3)
    assert [
        str(each.message)
        for each in warned
        if each.category is UserWarning
        and not str(each.message).startswith("The best strength")
    ] == [
        "The loss of 2 of 6 replicas is not finite, at the strengths 1e+06. "
        "The others are not affected. A lower learning rate may help."
    ]
    for ours, others in (
        (result.validation_loss, good.validation_loss),
        (result.train_loss, good.train_loss),
        (result.metrics["val_accuracy"], good.metrics["val_accuracy"]),
    ):
        np.testing.assert_allclose(ours[:2], others, rtol=1e-6)
    assert np.isnan(result.validation_loss[2, :, -1]).all()
    assert np.isnan(result.train_loss[2, :, -1]).all()
    assert result.best_strength == good.best_strength


WAYS = {
    "all at once": (with_momentum, "StackTrainer", None, None, (2, 2, 2)),
    "alone": (with_momentum, "StackTrainer", 1, None, (1, 0, 2)),
    "by fit": (
        by_fit,
        "FitTrainer",
        None,
        "`build_model` asks for the value of the strength",
        (1, 0, 2),
    ),
}

each_way = pytest.mark.parametrize(
    ("build_model", "trainer", "at_once", "why", "done"),
    [
        pytest.param(
            *row,
            id=name,
            # What is kept of a chunk, no backend decides.
            marks=[] if name == "all at once" else [pytest.mark.slow],
        )
        for name, row in WAYS.items()
    ],
)


@each_way
def test_after_an_interruption_there_is_what_was_done(
    monkeypatch, build_model, trainer, at_once, why, done
):
    options = {"epochs": 3, "at_once": at_once}
    with told_why(why):
        whole = tune(build_model, **options)
    # The third epoch, or the second of the second replica.
    call = 3 if done == (2, 2, 2) else 5
    interrupt(monkeypatch, call, trainer)
    with (
        told_why(why),
        pytest.warns(UserWarning, match="interrupted") as warned,
    ):
        result = tune(build_model, **options)
    lost = np.isnan(result.validation_loss)
    number = lost[:, :, -1].sum()
    assert number == (4 if done == (2, 2, 2) else 3)
    assert (
        f"The search was interrupted: {number} of 4 replicas were not trained "
        "to their end."
    ) in [str(each.message) for each in warned]
    assert lost.sum() == 12 - (8 if done == (2, 2, 2) else 4)
    for name in ("validation_loss", "train_loss"):
        ours = getattr(result, name)
        assert (np.isnan(ours) == lost).all()
        np.testing.assert_array_equal(ours[~lost], getattr(whole, name)[~lost])
    assert result.one_by_one == why


def test_an_interruption_before_anything_is_done_is_raised(monkeypatch):
    interrupt(monkeypatch, 1)
    with pytest.raises(KeyboardInterrupt):
        tune(net(), **CHEAP)


@each_way
def test_an_interrupted_search_goes_on_from_its_backup(
    monkeypatch, tmp_path, build_model, trainer, at_once, why, done
):
    monkeypatch.setattr(backup_file, "SECONDS", 0)
    options = {"epochs": 3, "at_once": at_once}
    with told_why(why):
        whole = tune(build_model, **options)
    folder = tmp_path / "not" / "there"
    with monkeypatch.context() as context:
        interrupt(context, 3, trainer)
        with told_why(why), pytest.warns(UserWarning, match="interrupted"):
            tune(build_model, backup_dir=folder, **options)
    assert (folder / "search.npz").exists()
    with told_why(why):
        result = tune(build_model, backup_dir=str(folder), **options)
    assert_same(result, whole, rtol=0, atol=0)
    assert list(folder.iterdir()) == []


@pytest.mark.slow
def test_a_backup_of_another_search_is_refused(monkeypatch, tmp_path):
    monkeypatch.setattr(backup_file, "SECONDS", 0)
    with monkeypatch.context() as context:
        interrupt(context, 3)
        with pytest.warns(UserWarning, match="interrupted"):
            tune(net(), epochs=3, backup_dir=tmp_path)
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
            f"{tmp_path / 'search.npz'} is of a search with other arguments or "
            "other data. Remove it, or give another `backup_dir`."
        )


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="Nothing to kill by")
def test_a_killed_search_goes_on_from_its_backup(tmp_path):
    process = start_program("killed_search", tmp_path)
    options = {"epochs": 4, "at_once": 1}
    reason = (
        "layer 'dropout' draws random numbers" if BACKEND == "torch" else None
    )
    with told_why(reason):
        whole = tune(with_dropout, **options)
    outputs([process], returncode=-signal.SIGKILL)
    (file,) = tmp_path.iterdir()
    with np.load(file) as saved:
        assert np.isfinite(saved["validation_loss"]).sum() == 2
    with told_why(reason):
        result = tune(with_dropout, backup_dir=tmp_path, **options)
    assert_same(result, whole, rtol=0, atol=0)
    assert list(tmp_path.iterdir()) == []


def test_a_search_that_left_a_way_goes_on_in_the_next(monkeypatch, tmp_path):
    # The backup is of the second way, while the first is tried again first.
    monkeypatch.setattr(backup_file, "SECONDS", 0)
    begin = stack_trainer.StackTrainer.begin

    def not_mapped(self, chunk):
        if len(chunk.candidates) > 1:
            raise StackingError("it was not to be")
        begin(self, chunk)

    monkeypatch.setattr(stack_trainer.StackTrainer, "begin", not_mapped)
    options = {"epochs": 2, "backup_dir": tmp_path}
    with pytest.warns(UserWarning, match="it was not to be"):
        whole = tune(net(), **options)
    with monkeypatch.context() as context:
        interrupt(context, 4)
        with (
            pytest.warns(UserWarning, match="it was not to be"),
            pytest.warns(UserWarning, match="interrupted"),
        ):
            tune(net(), **options)
    with pytest.warns(UserWarning, match="it was not to be"):
        again = tune(net(), **options)
    np.testing.assert_array_equal(again.validation_loss, whole.validation_loss)
