"""Trainings with the logger: models, data, their logs and warnings."""

import warnings

import keras
import numpy as np
from keras import ops

import l2keras
from tests.support import (
    documented_data,
    documented_model,
    falling_schedule,
    rising_schedule,
)


def compiled(model, rate=0.1, **arguments):
    arguments.setdefault("loss", "categorical_crossentropy")
    model.compile(keras.optimizers.SGD(rate), **arguments)
    return model


def scheduled_model(rate=0.1, **arguments):
    model = documented_model(
        l2keras.L2(rising_schedule()), l2keras.L2(falling_schedule())
    )
    return compiled(model, rate, **arguments)


def constant_model(rate=0.1, **arguments):
    return compiled(
        documented_model(l2keras.L2(0.05), l2keras.L2(0.02)), rate, **arguments
    )


def fit(model, x, y=None, callbacks=None, **arguments):
    if callbacks is None:
        callbacks = [l2keras.RegularizationLogger()]
    if y is not None:
        arguments.setdefault("batch_size", 16)
    return model.fit(
        x, y, shuffle=False, verbose=0, callbacks=callbacks, **arguments
    ).history


def warned(call, *arguments, **keywords):
    """Returns the result of a call, and its warnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = call(*arguments, **keywords)
    return result, [
        str(warning.message)
        for warning in caught
        if issubclass(warning.category, UserWarning)
    ]


@keras.saving.register_keras_serializable(package="l2keras_tests")
class AddLoss(keras.layers.Layer):
    """Adds a loss of its own: a scalar, or one for each sample."""

    def __init__(self, axis=None, **arguments):
        super().__init__(**arguments)
        self.axis = axis

    def call(self, x):
        self.add_loss(0.1 * ops.mean(ops.square(x), axis=self.axis))
        return x


# Four equal batches: each other size of batch costs JAX a compilation.
X, Y = documented_data(samples=64)
STEPS = 4
VALIDATION = {"validation_data": (X[:32], Y[:32])}

# And five, the last of 11.
UNEVEN, TARGETS = documented_data(samples=75)


def generate():
    for start in range(0, 75, 16):
        yield UNEVEN[start : start + 16], TARGETS[start : start + 16]


def means_of(function, epoch):
    steps = range(STEPS * epoch, STEPS * (epoch + 1))
    return np.mean([function(step) for step in steps])
