"""Trains the documented model, to be killed, or goes on where that was.

`killed FOLDER MOMENT` dies when an epoch begins, or after a batch of one.
`resumed FOLDER ...` goes on from each backup, and prints by how much weights
and loss differ from those of a training without interruption.
"""

import os
import signal
import sys

import keras
import numpy as np

import l2keras
from tests.support import (
    documented_data,
    documented_model,
    falling_schedule,
    rising_schedule,
)

x, y = documented_data(samples=64)


class Dies(keras.callbacks.Callback):
    def __init__(self, moment):
        super().__init__()
        self.moment = moment

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch
        self.reached(f"{epoch}")

    def on_train_batch_end(self, batch, logs=None):
        self.reached(f"{self.epoch}-{batch}")

    def reached(self, moment):
        if moment == self.moment:
            os.kill(os.getpid(), signal.SIGKILL)


def train(*callbacks):
    model = documented_model(
        l2keras.L2(rising_schedule()), l2keras.L2(falling_schedule())
    )
    # Made anew, it starts from the same weights, which are seeded.
    l2keras.apply_regularizers(
        model,
        {
            "hidden/kernel": l2keras.L2(rising_schedule())
            + l2keras.FromStart(l2keras.L2(0.05))
        },
    )
    model.compile(
        keras.optimizers.SGD(0.1, momentum=0.9), "categorical_crossentropy"
    )
    model.fit(
        x,
        y,
        batch_size=16,
        epochs=4,
        shuffle=False,
        verbose=0,
        callbacks=[l2keras.RegularizationLogger(), *callbacks],
    )
    return model


def back_up(folder):
    return keras.callbacks.BackupAndRestore(folder)


mode, *arguments = sys.argv[1:]
if mode == "killed":
    folder, moment = arguments
    train(back_up(folder), Dies(moment))
elif mode == "resumed":
    whole = train()
    for folder in arguments:
        model = train(back_up(folder))
        weights = zip(model.get_weights(), whole.get_weights(), strict=True)
        print(max(np.abs(one - other).max() for one, other in weights))
        print(model.evaluate(x, y, verbose=0) - whole.evaluate(x, y, verbose=0))
else:
    raise ValueError(f"Received: {mode}")
