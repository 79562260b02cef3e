"""Checkpoints and backups: trainings that were broken off, and go on."""

import signal

import keras
import numpy as np
import pytest

import l2keras
from tests.support import (
    falling,
    number,
    outputs,
    rising,
    run_program,
    simulated_losses,
    start_program,
)
from tests.support.scheduled_trainings import (
    X,
    Y,
    assert_same_weights,
    evaluate,
    fit,
    scheduled_model,
)


def assert_checkpoint(path, step):
    """Asserts that a model was saved after so many steps, all of it."""
    model = keras.saving.load_model(path)
    assert number(model.optimizer.iterations) == step
    hidden = model.layers[0].kernel_regularizer
    data, l2 = simulated_losses(
        model.get_weights(), X, Y, rising(step), falling(step)
    )
    kernel = model.get_weights()[0]
    np.testing.assert_allclose(
        evaluate(model),
        data + l2 + hidden.l1 * np.sum(np.abs(kernel)),
        rtol=1e-5,
    )
    return model


@pytest.mark.parametrize("position", [0, 1], ids=["first", "last"])
def test_checkpoints_have_the_step_at_which_they_were_made(position, tmp_path):
    callbacks = [
        keras.callbacks.ModelCheckpoint(tmp_path / "epoch-{epoch}.keras"),
        keras.callbacks.ModelCheckpoint(
            tmp_path / "batch-{epoch}-{batch}.keras", save_freq=3
        ),
    ]
    callbacks.insert(2 * position, l2keras.RegularizationLogger())
    model = scheduled_model()
    fit(model, epochs=3, callbacks=callbacks)
    for epoch in (1, 2, 3):
        assert_checkpoint(tmp_path / f"epoch-{epoch}.keras", 4 * epoch)
    for name, step in (("1-3", 3), ("2-2", 6), ("3-1", 9), ("3-4", 12)):
        assert_checkpoint(tmp_path / f"batch-{name}.keras", step)
    # Training on from a checkpoint leads where the training led.
    again = keras.saving.load_model(tmp_path / "epoch-2.keras")
    fit(again)
    assert_same_weights(again, model)


@pytest.mark.parametrize("position", [0, 1], ids=["first", "last"])
def test_training_resumes_from_a_backup(position, tmp_path):
    class Breaks(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 2:
                raise KeyboardInterrupt

    def callbacks():
        made = [keras.callbacks.BackupAndRestore(tmp_path / "backup")]
        made.insert(position, l2keras.RegularizationLogger())
        return made

    with pytest.raises(KeyboardInterrupt):
        fit(scheduled_model(), epochs=4, callbacks=[*callbacks(), Breaks()])
    again = scheduled_model()
    logs = fit(again, epochs=4, callbacks=callbacks())
    whole = scheduled_model()
    expected = fit(whole, epochs=4)
    assert_same_weights(again, whole)
    for key, values in expected.items():
        assert logs[key] == values[2:]


def test_a_killed_training_resumes_exactly(tmp_path):
    # After two epochs, and in the middle of the third.
    moments = {"2": tmp_path / "after", "2-1": tmp_path / "within"}
    killed = [
        start_program("resume_penalties", "killed", folder, moment)
        for moment, folder in moments.items()
    ]
    outputs(killed, returncode=-signal.SIGKILL)
    assert all(folder.exists() for folder in moments.values())
    out = run_program("resume_penalties", "resumed", *moments.values())
    assert [float(each) for each in out.split()[-4:]] == [0.0] * 4
