"""Trains on one device and on several, with each of some optimizers.

Weights may have penalties, for which proximal steps are taken.

On TensorFlow on two of a `MirroredStrategy`, on JAX on four that each have a
share of the data. Prints pairs of weights, those of one device first.
"""

import contextlib
import json

import keras

import l2keras
from tests.support import documented_model, rising_schedule
from tests.support.soft_threshold import NESTED
from tests.support.weight_decay_cases import X, Y


def decay(**arguments):
    return l2keras.DecoupledWeightDecay(
        keras.optimizers.SGD(0.1, momentum=0.9),
        {"hidden/.*": rising_schedule()},
        default=0.3,
        **arguments,
    )


def nested(order, learning_rate):
    return NESTED[order](keras.optimizers.Adam(learning_rate))


def proximal(inner):
    return l2keras.Proximal(inner)


def penalties():
    groups = l2keras.GroupLasso(rising_schedule(), axis=0)
    return groups + l2keras.L1(0.01), l2keras.L1L2(0.01, 0.01)


# How the optimizer is made, whether on several devices in a loss scale, and the
# regularizers of the model.
CASES = [
    (decay, False, None),
    (lambda: decay(cautious=True), True, None),
    (lambda: proximal(keras.optimizers.Adam(0.02)), True, penalties),
    (lambda: nested("threshold outside", 0.01), False, None),
    (lambda: nested("threshold inside", 0.02), True, None),
]


def train(make, penalties, scope=contextlib.nullcontext, scaled=False):
    with scope():
        both = (None, None) if penalties is None else penalties()
        model = documented_model(*both)
        optimizer = make()
        if scaled:
            optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
        model.compile(optimizer, "categorical_crossentropy")
    model.fit(X, Y, batch_size=16, epochs=2, shuffle=False, verbose=0)
    return [weight.tolist() for weight in model.get_weights()]


scope = contextlib.nullcontext
if keras.backend.backend() == "tensorflow":
    import tensorflow as tf

    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(
        cpu, [tf.config.LogicalDeviceConfiguration()] * 2
    )
    scope = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope
alone = [train(make, penalties) for make, _, penalties in CASES]
if keras.backend.backend() == "jax":
    keras.distribution.set_distribution(keras.distribution.DataParallel())
    assert len(keras.distribution.list_devices()) == 4
together = [
    train(make, penalties, scope, scaled) for make, scaled, penalties in CASES
]
print(json.dumps(list(zip(alone, together, strict=True))))
