"""What a training step costs with decay by path, beside Keras's `AdamW`.

    KERAS_BACKEND=tensorflow python benchmarks/weight_decay.py  (or jax, torch)

Prints, for the documented model and for one of forty `Dense(256)` layers, how
long a step inside `fit` takes in each variant, as a ratio to Keras's `AdamW`
with the biases excluded. On PyTorch `torch.optim.AdamW` in a plain loop on the
same model is measured too. As in `step_time.py` all variants are trained in
turn, many rounds in one run, and a ratio is that of medians over the rounds.
"""

import argparse
import os
import platform
import statistics
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from step_time import BATCH, EpochTimer, deep, documented

import l2keras
from l2keras._keras.backend import backend

PEER = "Keras's AdamW"


def peer():
    optimizer = keras.optimizers.AdamW(0.001, weight_decay=0.004)
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    return optimizer


def wrapped(**arguments):
    return l2keras.DecoupledWeightDecay(
        keras.optimizers.Adam(0.001), **arguments
    )


def scheduled():
    return l2keras.LinearSchedule(0.0, 0.004, steps=10_000)


VARIANTS = {
    "Keras's Adam, no decay": lambda: keras.optimizers.Adam(0.001),
    PEER: peer,
    "DecoupledWeightDecay": lambda: wrapped(default=0.004),
    "the same, scheduled": lambda: wrapped(default=scheduled()),
    "the same, cautious": lambda: wrapped(default=scheduled(), cautious=True),
}


class KerasRun:
    """A model that `fit` trains for an epoch at a time."""

    def __init__(self, build, optimizer):
        keras.utils.set_random_seed(0)
        self.model = build(lambda: None)
        self.model.compile(optimizer, "categorical_crossentropy")

    def seconds(self, x, y):
        timer = EpochTimer()
        self.model.fit(x, y, batch_size=BATCH, verbose=0, callbacks=[timer])
        return timer.seconds


class TorchRun:
    """The same model in the loop that PyTorch's users write."""

    def __init__(self, build):
        import torch

        keras.utils.set_random_seed(0)
        self.model = build(lambda: None)
        kernels = [w.value for w in self.model.trainable_variables[::2]]
        biases = [w.value for w in self.model.trainable_variables[1::2]]
        self.optimizer = torch.optim.AdamW(
            [
                {"params": kernels, "weight_decay": 0.004},
                {"params": biases, "weight_decay": 0.0},
            ],
            lr=0.001,
        )

    def seconds(self, x, y):
        import torch

        x, y = torch.tensor(x), torch.tensor(y)
        began = time.perf_counter()
        for first in range(0, len(x), BATCH):
            self.optimizer.zero_grad()
            predicted = self.model(x[first : first + BATCH], training=True)
            targets = y[first : first + BATCH]
            loss = -(targets * torch.log(predicted + 1e-7)).sum(1).mean()
            loss.backward()
            self.optimizer.step()
        return time.perf_counter() - began


def measure(build, steps, rounds):
    """Returns the seconds of a step, per variant a list over the rounds."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(steps * BATCH, 10)).astype("float32")
    y = keras.utils.to_categorical(rng.integers(0, 3, len(x)), 3)
    runs = {
        name: KerasRun(build, optimizer())
        for name, optimizer in VARIANTS.items()
    }
    if keras.backend.backend() == "torch":
        runs["torch.optim.AdamW, plain loop"] = TorchRun(build)
    seconds = {name: [] for name in runs}
    for turn in range(rounds + 1):
        for name, run in runs.items():
            spent = run.seconds(x, y)
            if turn:  # The first round compiles.
                seconds[name].append(spent / steps)
    return seconds


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
    for build in (documented, deep):
        seconds = measure(build, arguments.steps, arguments.rounds)
        base = statistics.median(seconds[PEER])
        print(f"\n{build.__name__} model: step time / that of {PEER}")
        for name, values in seconds.items():
            # Paired by round: the same moment of the machine.
            ratios = [a / b for a, b in zip(values, seconds[PEER], strict=True)]
            print(
                f"  {name:30s} {statistics.median(values) / base:5.2f}   "
                f"(by rounds {statistics.median(ratios):5.2f}, "
                f"{statistics.median(values) * 1e6:8.0f} us)"
            )


if __name__ == "__main__":
    main()
