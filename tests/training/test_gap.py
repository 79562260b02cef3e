"""The gap: the losses of training rows and of others, computed alike."""

import keras
import numpy as np
import pytest

import l2keras
from tests.support import documented_data, documented_model

X, Y = documented_data(90)
TRAIN, HELD_OUT = (X[:60], Y[:60]), (X[60:], Y[60:])


def a_model():
    model = documented_model(
        l2keras.L2(0.01),
        l2keras.L1(0.01),
        between=[keras.layers.Dropout(0.5, seed=1)],
    )
    model.compile("adam", "categorical_crossentropy", metrics=["accuracy"])
    return model


class EvaluatesAtEpochEnd(keras.callbacks.Callback):
    """The data loss of a model, in NumPy from its predictions."""

    def __init__(self, x, y):
        super().__init__()
        self.data, self.losses = (x, y), []

    def on_epoch_end(self, epoch, logs=None):
        x, y = self.data
        predicted = self.model.predict(x, verbose=0)
        self.losses.append(-np.log(predicted[y == 1]).mean())


def fit(logger, *callbacks, epochs=3, **arguments):
    model = a_model()
    return model.fit(
        *TRAIN,
        epochs=epochs,
        verbose=0,
        callbacks=[*callbacks, logger],
        **{"validation_data": HELD_OUT, **arguments},
    ).history


def test_train_data_loss_and_gap_equal_numpy():
    train, held_out = (
        EvaluatesAtEpochEnd(*TRAIN),
        EvaluatesAtEpochEnd(*HELD_OUT),
    )
    logger = l2keras.RegularizationLogger(train_data=TRAIN)
    logs = fit(logger, train, held_out)
    np.testing.assert_allclose(logs["train_data_loss"], train.losses, rtol=1e-5)
    np.testing.assert_allclose(
        logs["gap"],
        np.subtract(held_out.losses, train.losses),
        rtol=1e-4,
        atol=1e-6,
    )
    # Dropout and weights that move: the mean over the epoch is another number.
    assert np.all(np.abs(np.subtract(logs["data_loss"], train.losses)) > 1e-3)


def test_training_with_train_data_is_the_same_training():
    plain = fit(l2keras.RegularizationLogger())
    logged = fit(l2keras.RegularizationLogger(train_data=TRAIN))
    assert set(logged) - set(plain) == {"train_data_loss", "gap"}
    for name, values in plain.items():
        np.testing.assert_array_equal(logged[name], values, err_msg=name)


def test_a_sample_with_weights_is_evaluated_as_keras_does():
    weights = np.linspace(0.0, 2.0, 20)
    sample = (X[:20], Y[:20], weights)
    peer = []

    class Peer(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            loss = self.model.evaluate(
                *sample[:2], sample_weight=weights, verbose=0
            )[0]
            penalties = keras.ops.convert_to_numpy(sum(self.model.losses))
            peer.append(loss - float(penalties))

    logs = fit(l2keras.RegularizationLogger(train_data=sample), Peer())
    np.testing.assert_allclose(logs["train_data_loss"], peer, rtol=1e-4)


def test_a_data_set_is_evaluated():
    class Batches(keras.utils.PyDataset):
        def __len__(self):
            return 3

        def __getitem__(self, index):
            rows = slice(20 * index, 20 * index + 20)
            return X[rows], Y[rows]

    arrays = fit(l2keras.RegularizationLogger(train_data=TRAIN))
    batches = fit(l2keras.RegularizationLogger(train_data=Batches()))
    np.testing.assert_allclose(
        batches["train_data_loss"], arrays["train_data_loss"], rtol=1e-5
    )


def test_without_validation_there_is_no_gap():
    logger = l2keras.RegularizationLogger(train_data=TRAIN)
    logs = fit(logger, validation_data=None)
    assert len(logs["train_data_loss"]) == 3
    assert "gap" not in logs


def test_csv_logger_and_early_stopping_see_the_gap(tmp_path):
    path = tmp_path / "log.csv"
    stopping = keras.callbacks.EarlyStopping("gap", mode="max", patience=100)
    logs = fit(
        l2keras.RegularizationLogger(train_data=TRAIN),
        keras.callbacks.CSVLogger(path),
        stopping,
    )
    written = np.genfromtxt(path, delimiter=",", names=True)
    np.testing.assert_allclose(written["gap"], logs["gap"])
    assert stopping.best == pytest.approx(max(logs["gap"]))


def test_the_plot_shows_the_training_data_loss():
    logs = {
        "data_loss": [2.0, 1.0],
        "regularization_loss": [0.5, 0.25],
        "train_data_loss": [1.5, 0.8],
        "val_data_loss": [1.8, 1.2],
        "gap": [0.3, 0.4],
    }
    ax = l2keras.plot_loss_split(logs)
    drawn = [line.get_ydata().tolist() for line in ax.lines]
    assert drawn == [logs["val_data_loss"], logs["train_data_loss"]]


def test_train_data_of_too_many_parts_is_refused():
    with pytest.raises(ValueError, match="Received: a tuple of 4"):
        l2keras.RegularizationLogger(train_data=(X, Y, None, None))


@pytest.mark.parametrize("name", ["gap", "train_data_loss"])
def test_a_metric_of_the_same_name_is_not_overwritten(name):
    model = a_model()
    model.compile(
        "adam",
        "categorical_crossentropy",
        metrics=[keras.metrics.CategoricalAccuracy(name=name)],
    )
    # It is only in the way of `train_data`.
    plain = l2keras.RegularizationLogger()
    assert name in model.fit(*TRAIN, verbose=0, callbacks=[plain]).history
    logger = l2keras.RegularizationLogger(train_data=TRAIN)
    with pytest.raises(ValueError, match=f"logs '{name}' already"):
        model.fit(*TRAIN, verbose=0, callbacks=[logger])
