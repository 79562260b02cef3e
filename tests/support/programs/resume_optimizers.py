"""Trains for 4 epochs, is killed in the third if told so, or goes on after.

Arguments: a folder for `BackupAndRestore`; and "dies", or nothing. Prints the
weights of a training that was not broken off, and of the one that goes on.
"""

import json
import os
import signal
import sys

import keras

import l2keras
from tests.support import documented_data, documented_model, rising_schedule


class Dies(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if (self.epoch, batch) == (2, 1):
            os.kill(os.getpid(), signal.SIGKILL)


def trained(*callbacks):
    x, y = documented_data(samples=64)
    model = documented_model(l2keras.L1(0.02), None)
    decay = l2keras.DecoupledWeightDecay(
        keras.optimizers.SGD(0.05, momentum=0.9),
        {"hidden/.*": rising_schedule()},
        default=0.1,
    )
    model.compile(l2keras.Proximal(decay), "categorical_crossentropy")
    model.fit(
        x,
        y,
        batch_size=16,
        epochs=4,
        shuffle=False,
        verbose=0,
        callbacks=list(callbacks),
    )
    return [weight.tolist() for weight in model.get_weights()]


backup = keras.callbacks.BackupAndRestore(sys.argv[1])
if "dies" in sys.argv:
    trained(backup, Dies())
else:
    print(json.dumps([trained(), trained(backup)]))
