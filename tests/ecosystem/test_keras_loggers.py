"""Event files and tables of Keras's callbacks, read back.

With `RegularizationLogger` before and after them in the list.
"""

import csv

import keras
import pytest

import l2keras
from tests.support import documented_data
from tests.support.logged_trainings import fit, scheduled_model

X, Y = documented_data(samples=64)
KEYS = [
    "loss",
    "data_loss",
    "regularization_loss",
    "regularization_loss/hidden/kernel",
    "regularization_loss/output/kernel",
]


def logged(callback, position):
    callbacks = [callback]
    callbacks.insert(position, l2keras.RegularizationLogger(penalties=True))
    return fit(
        scheduled_model(),
        X,
        Y,
        callbacks,
        epochs=3,
        validation_data=(X[:32], Y[:32]),
    )


before_and_after = pytest.mark.parametrize(
    "position", [0, 1], ids=["before", "after"]
)


@before_and_after
def test_csv_logger_writes_the_split(position, tmp_path):
    path = tmp_path / "log.csv"
    logs = logged(keras.callbacks.CSVLogger(path), position)
    with path.open() as file:
        rows = list(csv.DictReader(file))
    for key in [*KEYS, *(f"val_{key}" for key in KEYS)]:
        assert [float(row[key]) for row in rows] == pytest.approx(logs[key])


@before_and_after
def test_tensorboard_writes_the_split(position, tmp_path):
    pytest.importorskip("tensorboard")
    tf = pytest.importorskip("tensorflow", reason="Keras writes with it.")
    from tensorboard.backend.event_processing import event_accumulator

    logs = logged(keras.callbacks.TensorBoard(tmp_path), position)
    for folder, prefix in (("train", ""), ("validation", "val_")):
        events = event_accumulator.EventAccumulator(str(tmp_path / folder))
        events.Reload()
        for key in KEYS:
            written = [
                tf.make_ndarray(event.tensor_proto).item()
                for event in events.Tensors(f"epoch_{key}")
            ]
            assert written == pytest.approx(logs[prefix + key])
