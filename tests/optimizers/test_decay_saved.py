"""Decay is saved, reloaded and resumed as if nothing had been."""

import json
import signal
import zipfile

import h5py
import keras
import pytest

from l2keras import DecoupledWeightDecay
from tests.support import outputs, rising_schedule, run_program, start_program
from tests.support.weight_decay_cases import (
    adamw,
    distance,
    fit,
    fit_on,
    kernels_by_us,
    network,
)


@keras.saving.register_keras_serializable(package="l2keras_tests")
def halved_each_time(step):
    return 0.2 * 0.5**step


def elaborate():
    return DecoupledWeightDecay(
        adamw(),
        {"hidden/.*": rising_schedule(), "output/bias": halved_each_time},
        default=keras.optimizers.schedules.CosineDecay(0.2, 12),
        coupled_to_learning_rate=False,
        cautious=True,
        name="mine",
    )


def test_the_optimizer_is_rebuilt_from_its_config():
    optimizer = elaborate()
    config = json.loads(json.dumps(optimizer.get_config()))
    again = DecoupledWeightDecay.from_config(config)
    assert again.get_config() == optimizer.get_config()
    assert again.rules["output/bias"] is halved_each_time
    assert (again.cautious, again.coupled_to_learning_rate) == (True, False)
    assert again.name == "mine"
    assert list(optimizer.get_config()) == [
        "name",
        "optimizer",
        "rules",
        "default",
        "coupled_to_learning_rate",
        "cautious",
        "peak_learning_rate",
    ]
    corrected = DecoupledWeightDecay(
        adamw(), default=0.1, peak_learning_rate=0.5
    )
    again = DecoupledWeightDecay.from_config(corrected.get_config())
    assert again.peak_learning_rate == 0.5
    serialized = keras.optimizers.serialize(optimizer)
    assert serialized["registered_name"] == "l2keras>DecoupledWeightDecay"
    other = keras.optimizers.deserialize(serialized)
    assert other.get_config() == optimizer.get_config()


def test_a_reloaded_model_trains_as_if_never_saved(tmp_path):
    whole = fit(network(), elaborate(), epochs=4)
    half = fit(network(), elaborate(), epochs=2)
    half.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert again.optimizer.strengths() == half.optimizer.strengths()
    assert set(again.optimizer.decayed()) == {
        "hidden/kernel",
        "hidden/bias",
        "output/kernel",
        "output/bias",
    }
    fit_on(again, 2)
    assert distance(again, whole) == 0.0


def test_saved_state_is_that_of_the_wrapped_optimizer(tmp_path):
    files = []
    for name, optimizer in (("ours", kernels_by_us()), ("plain", adamw())):
        model = fit(network(), optimizer, epochs=1)
        model.save(tmp_path / f"{name}.keras")
        with zipfile.ZipFile(tmp_path / f"{name}.keras") as archive:
            archive.extract("model.weights.h5", tmp_path / name)
        found = {}
        with h5py.File(tmp_path / name / "model.weights.h5") as file:
            file.visititems(
                lambda key, value, found=found: found.update(
                    {key: getattr(value, "shape", None)}
                )
            )
        files.append(found)
    assert files[0] == files[1]
    wrapper = kernels_by_us()
    assert wrapper.variables == wrapper.inner_optimizer.variables
    assert "inner_optimizer" not in dir(wrapper)
    with pytest.raises(ValueError, match="not yet been built"):
        wrapper.set_weights([])


def test_training_resumes_from_a_backup(tmp_path):
    class Breaks(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 2:
                raise KeyboardInterrupt

    def backup():
        return keras.callbacks.BackupAndRestore(tmp_path / "backup")

    def compiled():
        model = network()
        model.compile(elaborate(), "categorical_crossentropy")
        return model

    with pytest.raises(KeyboardInterrupt):
        fit_on(compiled(), 4, callbacks=[backup(), Breaks()])
    again = fit_on(compiled(), 4, callbacks=[backup()])
    assert distance(again, fit_on(compiled(), 4)) == 0.0


PROGRAM = "resume_optimizers"


@pytest.mark.slow
def test_a_killed_training_resumes_exactly(tmp_path):
    killed = start_program(PROGRAM, tmp_path / "backup", "dies")
    outputs([killed], returncode=-signal.SIGKILL)
    assert (tmp_path / "backup").exists()
    out = run_program(PROGRAM, tmp_path / "backup")
    whole, again = json.loads(out.splitlines()[-1])
    assert again == whole
    assert 0.0 in whole[0][0]  # By proximal steps.
