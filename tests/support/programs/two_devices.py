"""The report of the programs `two_devices_*`."""

import json

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


def report(devices, scope):
    """Prints the losses of training and evaluation, and those of NumPy."""
    x, y = documented_data(samples=64)
    with scope():
        model = documented_model(
            l2keras.L2(rising_schedule()), l2keras.L2(falling_schedule())
        )
        model.compile(keras.optimizers.SGD(0.1), "categorical_crossentropy")
    weights, losses, truths = model.get_weights(), [], []
    for step in (0, 8):
        model.fit(x, y, batch_size=16, epochs=2, shuffle=False, verbose=0)
        simulated = simulate(
            weights,
            x,
            y,
            first=rising,
            second=falling,
            epochs=2,
            begin=step,
        )
        weights = simulated.weights
        losses.append(model.evaluate(x, y, batch_size=32, verbose=0))
        step = simulated.step
        truth = simulated_losses(weights, x, y, rising(step), falling(step))
        truths.append(sum(truth))
    difference = max(
        np.abs(one - other).max()
        for one, other in zip(model.get_weights(), weights, strict=True)
    )
    found = {
        "devices": devices,
        "difference": float(difference),
        "losses": losses,
        "truth": truths,
    }
    print(json.dumps(found))
