"""The documented model with schedules, its training, and copies of it."""

import keras
import numpy as np

import l2keras
from tests.support import (
    documented_data,
    documented_model,
    falling_schedule,
    rising_schedule,
)

X, Y = documented_data(samples=64)


def scheduled_model(**arguments):
    model = documented_model(
        l2keras.L1L2(l1=0.001, l2=rising_schedule()),
        l2keras.L2(falling_schedule()),
    )
    return compiled(model, **arguments)


def plain_model():
    return compiled(
        documented_model(
            keras.regularizers.L1L2(l1=0.001, l2=0.05),
            keras.regularizers.L2(0.02),
        )
    )


def compiled(model, **arguments):
    model.compile(
        keras.optimizers.SGD(0.1, momentum=0.9),
        "categorical_crossentropy",
        **arguments,
    )
    return model


def fit(model, epochs=1, callbacks=None, **arguments):
    if callbacks is None:
        callbacks = [l2keras.RegularizationLogger()]
    return model.fit(
        X,
        Y,
        batch_size=16,
        epochs=epochs,
        shuffle=False,
        verbose=0,
        callbacks=callbacks,
        **arguments,
    ).history


def trained_model():
    model = scheduled_model()
    fit(model)
    return model


def evaluate(model):
    return model.evaluate(X, Y, verbose=0)


def assert_same_weights(model, other):
    for one, two in zip(model.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)
