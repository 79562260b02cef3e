"""Models, trainings and optimizers for the tests of weight decay."""

import keras
import numpy as np
from keras import ops

from l2keras import DecoupledWeightDecay
from tests.support import BACKEND, documented_data, documented_model

X, Y = documented_data(samples=64)
DECAY = 0.1


def fit(model, optimizer, epochs=2, x=X, y=Y, **arguments):
    """Compiles the model and trains it for 4 steps in an epoch."""
    model.compile(optimizer, "categorical_crossentropy", **arguments)
    return fit_on(model, epochs, x, y)


def fit_peer(model, optimizer, **arguments):
    """Trains a model by Keras alone.

    Not compiled on TensorFlow, which takes seconds and tests nothing of ours.
    """
    eagerly = BACKEND == "tensorflow"
    return fit(model, optimizer, run_eagerly=eagerly, **arguments)


def fit_on(model, epochs, x=X, y=Y, callbacks=()):
    model.fit(
        x,
        y,
        batch_size=16,
        epochs=epochs,
        shuffle=False,
        verbose=0,
        callbacks=list(callbacks),
    )
    return model


def network(first=None, second=None):
    return documented_model(first, second)


def distance(model, other):
    pairs = zip(model.get_weights(), other.get_weights(), strict=True)
    return max(np.abs(one - two).max() for one, two in pairs)


def adamw(**arguments):
    """Returns Keras's AdamW, as the peer, or without decay, to be wrapped."""
    return keras.optimizers.AdamW(0.01, **{"weight_decay": 0.0, **arguments})


def single():
    """Returns a softmax regression: zeros give its kernel no gradient."""
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input((10,)),
            keras.layers.Dense(3, activation="softmax", name="output"),
        ]
    )


# Both divide by the root of a second moment plus this, but correct for the
# start before and after adding it.
EPSILON = 1e-12


def keras_sgd(**arguments):
    return keras.optimizers.SGD(0.1, **arguments)


def keras_adam():
    return keras.optimizers.Adam(0.01, epsilon=EPSILON)


def kernels_by_keras(**arguments):
    optimizer = adamw(weight_decay=DECAY, **arguments)
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    return optimizer


def kernels_by_us(**arguments):
    return DecoupledWeightDecay(adamw(**arguments), default=DECAY)


def decay(**arguments):
    return DecoupledWeightDecay(keras_sgd(), default=0.1, **arguments)


def zeros_for(variables):
    return [ops.zeros(variable.shape, variable.dtype) for variable in variables]
