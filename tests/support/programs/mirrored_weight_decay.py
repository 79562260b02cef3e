"""Trains on two mirrored devices, in settings of Keras's.

Argument: JSON, for each setting how the wrapped optimizer is made, and how the
model is compiled. Prints the weights by setting and optimizer.
"""

import json
import sys

import keras
import numpy as np
import tensorflow as tf

import l2keras
from tests.support import documented_data, documented_model

x, y = documented_data(samples=64)
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(
    cpu, [tf.config.LogicalDeviceConfiguration()] * 2
)
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])


def plain(arguments, decay=0.0):
    optimizer = keras.optimizers.AdamW(0.01, weight_decay=decay, **arguments)
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    return optimizer


def ours(arguments, **options):
    return l2keras.DecoupledWeightDecay(
        plain(arguments), default=0.3, **options
    )


def train(compiling, make, *arguments, callbacks=(), **options):
    with strategy.scope():
        model = documented_model(None, None)
        optimizer = make(*arguments, **options)
        model.compile(optimizer, "categorical_crossentropy", **compiling)
    model.fit(
        x,
        y,
        batch_size=16,
        epochs=2,
        shuffle=False,
        verbose=0,
        callbacks=list(callbacks),
    )
    return [weight.tolist() for weight in model.get_weights()]


class Cautiously(keras.callbacks.Callback):
    def on_train_begin(self, logs=None):
        self.old = self.model.get_weights()

    def on_train_batch_end(self, batch, logs=None):
        new = self.model.get_weights()
        if np.array_equal(new[0], self.old[0]):  # It has but accumulated.
            return
        for index in (0, 2):
            old = self.old[index]
            shrinks = (old - new[index]) * old >= 0
            new[index] -= 0.01 * 0.3 * shrinks * old
        self.model.set_weights(new)
        self.old = new


found = {}
for name, (arguments, compiling) in json.loads(sys.argv[1]).items():
    found[name] = {
        "AdamW": train(compiling, plain, arguments, decay=0.3),
        "ours": train(compiling, ours, arguments),
    }
    if name in ("clipnorm", "accumulation"):  # Each training takes seconds.
        found[name]["cautious by hand"] = train(
            compiling, plain, arguments, callbacks=[Cautiously()]
        )
        found[name]["cautious"] = train(
            compiling, ours, arguments, cautious=True
        )
print(json.dumps(found))
