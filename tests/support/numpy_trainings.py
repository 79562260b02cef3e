"""Trainings of the documented model, compared with NumPy."""

import keras

import l2keras
from tests.support import (
    assert_means,
    assert_splits,
    assert_weights,
    documented_data,
    documented_model,
    falling,
    falling_schedule,
    rising,
    rising_schedule,
    simulate,
)


def scheduled_model():
    return documented_model(
        l2keras.L2(rising_schedule()), l2keras.L2(falling_schedule())
    )


def compiled(model, optimizer=None, **arguments):
    model.compile(
        optimizer or keras.optimizers.SGD(0.1),
        "categorical_crossentropy",
        **arguments,
    )
    return model


def fit(model, x, y, epochs=3, **arguments):
    arguments.setdefault("callbacks", [l2keras.RegularizationLogger()])
    arguments.setdefault("batch_size", 16)
    return model.fit(
        x, y, epochs=epochs, shuffle=False, verbose=0, **arguments
    ).history


def train_like_numpy(model, atol=1e-6, means_atol=1e-5, **arguments):
    """Fits a compiled `scheduled_model`, compares, and returns the logs."""
    x, y = documented_data()
    start = model.get_weights()
    logs = fit(model, x, y, **arguments)
    truth = simulate(start, x, y, first=rising, second=falling, epochs=3)
    assert_weights(model, truth.weights, atol)
    assert_means(logs, truth, means_atol)
    assert_splits(logs, rtol=max(1e-6, means_atol / 10))
    return logs
