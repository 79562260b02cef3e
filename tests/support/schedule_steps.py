"""The documented model with schedules, at the steps of its own optimizer."""

import keras
import numpy as np

import l2keras
from tests.support import (
    documented_data,
    documented_model,
    falling,
    falling_schedule,
    rising,
    rising_schedule,
    simulate,
    simulated_losses,
)

X, Y = documented_data(samples=64)


def scheduled_model(rate=0.1, **arguments):
    model = documented_model(
        l2keras.L2(rising_schedule()), l2keras.L2(falling_schedule())
    )
    model.compile(
        keras.optimizers.SGD(rate), "categorical_crossentropy", **arguments
    )
    return model


def fit(model, epochs=1, **arguments):
    settings = {"batch_size": 16, "shuffle": False, "verbose": 0}
    model.fit(X, Y, epochs=epochs, **settings | arguments)


def simulated(start, **arguments):
    return simulate(start, X, Y, first=rising, second=falling, **arguments)


def assert_evaluates_at(model, step):
    """Asserts that the loss is NumPy's at a step."""
    truth = simulated_losses(
        model.get_weights(), X, Y, rising(step), falling(step)
    )
    loss = model.evaluate(X, Y, verbose=0)
    np.testing.assert_allclose(loss, sum(truth), rtol=1e-5)
