"""What a training step costs with proximal steps, beside the plain optimizer.

    KERAS_BACKEND=tensorflow python benchmarks/proximal_step.py  (or jax, torch)

Prints how long a step inside `fit` takes with `Proximal`, as a ratio to the
same optimizer, penalties and model without it: three `Dense(128)`, with `L1`
and with `GroupLasso`, under Adam and under SGD with momentum. All variants are
trained in turn, many rounds in one run, and a ratio is that of medians over the
rounds.
"""

import argparse
import os
import platform
import statistics

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from step_time import BATCH, EpochTimer

import l2keras
from l2keras._keras.backend import backend

WIDTH = 128
OPTIMIZERS = {
    "Adam": lambda: keras.optimizers.Adam(0.001),
    "SGD, momentum": lambda: keras.optimizers.SGD(0.01, momentum=0.9),
}
PENALTIES = {
    "L1": lambda: l2keras.L1(1e-4),
    "GroupLasso": lambda: l2keras.GroupLasso(1e-3),
    "L1 + GroupLasso": lambda: l2keras.L1(1e-4) + l2keras.GroupLasso(1e-3),
}


class Run:
    """A model that `fit` trains for an epoch at a time."""

    def __init__(self, optimizer, penalty):
        keras.utils.set_random_seed(0)
        self.model = keras.Sequential(
            [
                keras.Input((WIDTH,)),
                *(
                    keras.layers.Dense(
                        WIDTH, activation="relu", kernel_regularizer=penalty()
                    )
                    for _ in range(3)
                ),
                keras.layers.Dense(3, activation="softmax"),
            ]
        )
        self.model.compile(optimizer, "categorical_crossentropy")

    def seconds(self, x, y):
        timer = EpochTimer()
        self.model.fit(x, y, batch_size=BATCH, verbose=0, callbacks=[timer])
        return timer.seconds


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--steps", type=int, default=200)
    arguments = parser.parse_args()
    print(
        f"{keras.backend.backend()}, {backend.device_name()}, "
        f"Keras {keras.__version__}, Python {platform.python_version()}, "
        f"{os.cpu_count()} cores"
    )
    print(f"three Dense({WIDTH}): step time / that of the optimizer alone")
    rng = np.random.default_rng(0)
    x = rng.normal(size=(arguments.steps * BATCH, WIDTH)).astype("float32")
    y = keras.utils.to_categorical(rng.integers(0, 3, len(x)), 3)
    for name, optimizer in OPTIMIZERS.items():
        for penalty, make in PENALTIES.items():
            runs = [
                Run(optimizer(), make),
                Run(l2keras.Proximal(optimizer()), make),
            ]
            seconds = [[], []]
            for turn in range(arguments.rounds + 1):
                for run, spent in zip(runs, seconds, strict=True):
                    value = run.seconds(x, y)
                    if turn:  # The first round compiles.
                        spent.append(value / arguments.steps)
            plain, ours = (statistics.median(each) for each in seconds)
            # Paired by round: the same moment of the machine.
            ratios = [b / a for a, b in zip(*seconds, strict=True)]
            print(
                f"  {name:14s} {penalty:16s} {ours / plain:5.2f}   "
                f"(by rounds {statistics.median(ratios):5.2f}, "
                f"{plain * 1e6:6.0f} us to {ours * 1e6:6.0f} us)",
                flush=True,
            )


if __name__ == "__main__":
    main()
