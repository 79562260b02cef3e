"""The training of the programs `several_devices_*`."""

import contextlib
import tempfile

import keras

import l2keras
from tests.support import (
    documented_data,
    documented_model,
    falling,
    falling_schedule,
    rising,
    rising_schedule,
    simulate,
)


def grow(epoch):
    return 0.5 + epoch


def train(scope=contextlib.nullcontext):
    """Returns all that two logged trainings come to, and NumPy's truth."""
    x, y = documented_data(samples=64)
    with scope():
        model = documented_model(
            l2keras.L2(rising_schedule()), l2keras.L2(falling_schedule())
        )
        model.compile(keras.optimizers.SGD(0.1), "categorical_crossentropy")
    start = model.get_weights()
    callbacks = [
        l2keras.PenaltyScheduler({"hidden/.*": grow}),
        l2keras.RegularizationLogger(penalties=True, strengths=True),
    ]
    logs = [
        model.fit(
            x,
            y,
            batch_size=16,
            epochs=2,
            shuffle=False,
            verbose=0,
            validation_data=(x, y),
            validation_batch_size=32,
            callbacks=callbacks,
        ).history
        for _ in range(2)
    ]
    found = {
        "logs": {key: logs[0][key] + logs[1][key] for key in logs[0]},
        "step": int(keras.ops.convert_to_numpy(model.optimizer.iterations)),
        "scale": model.layers[0].kernel_regularizer.scale,
        "loss": model.evaluate(x, y, batch_size=32, verbose=0),
        "weights": [weight.tolist() for weight in model.get_weights()],
    }
    l2keras.set_step(model, 5)
    found["set"] = model.evaluate(x, y, batch_size=32, verbose=0)
    l2keras.set_step(model, found["step"])
    with tempfile.TemporaryDirectory() as folder:
        model.save(f"{folder}/model.keras")
        again = keras.saving.load_model(f"{folder}/model.keras")
    found["reloaded"] = again.evaluate(x, y, batch_size=32, verbose=0)
    truth = simulate(
        start,
        x,
        y,
        first=lambda step: rising(step) * grow(step // 4 % 2),
        second=falling,
        epochs=4,
    )
    found["data_loss"] = truth.data_losses
    found["regularization_loss"] = truth.regularization_losses
    found["simulated"] = [weight.tolist() for weight in truth.weights]
    return found
