"""What it takes to regularize a model that is built, and a step thereafter.

    KERAS_BACKEND=tensorflow python benchmarks/apply_regularizers.py

Prints the seconds that `apply_regularizers` takes on models of rising numbers
of weights, ResNet50 among them; and how long a training step of a model of 54
penalized kernels takes, as a ratio to the same model built with Keras's own
`L2`: both are trained in turn, many rounds in one run.
"""

import argparse
import os
import platform
import statistics
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

import l2keras
from l2keras._keras.backend import backend

BATCH = 32


def chain(layers, regularizer=None):
    """Returns a model of so many `Dense(64)`."""
    return keras.Sequential(
        [
            keras.Input((64,)),
            *(
                keras.layers.Dense(
                    64, activation="relu", kernel_regularizer=regularizer
                )
                for _ in range(layers)
            ),
        ]
    )


def applying(model, rounds):
    """Returns the median seconds of putting a penalty on each kernel."""
    seconds = []
    for turn in range(rounds):
        began = time.perf_counter()
        l2keras.apply_regularizers(model, default=l2keras.L2(1e-4 + turn))
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


def step_ratio(rounds, steps):
    """Returns a step after applying, over a step of a model built so."""
    x = np.random.default_rng(0).normal(size=(steps * BATCH, 64))
    x = x.astype("float32")
    applied = chain(54)
    l2keras.apply_regularizers(applied, default=l2keras.L2(1e-4))
    models = chain(54, keras.regularizers.L2(1e-4)), applied
    for model in models:
        model.compile("adam", "mse")
        model.fit(x, x, batch_size=BATCH, verbose=0)
    ratios = []
    for _ in range(rounds):
        seconds = []
        for model in models:
            began = time.perf_counter()
            model.fit(x, x, batch_size=BATCH, verbose=0)
            seconds.append(time.perf_counter() - began)
        ratios.append(seconds[1] / seconds[0])
    return statistics.median(ratios)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--steps", type=int, default=60)
    arguments = parser.parse_args()
    print(
        f"{keras.backend.backend()}, {backend.device_name()}, "
        f"Keras {keras.__version__}, Python {platform.python_version()}, "
        f"{os.cpu_count()} cores"
    )
    print("\napply_regularizers, seconds (median)")
    resnet = keras.applications.ResNet50(weights=None)
    for name, model in [
        ("ResNet50", resnet),
        *(
            (f"{number} x Dense(64)", chain(number))
            for number in (50, 100, 200)
        ),
    ]:
        print(
            f"  {name:16s} {len(model.weights):4d} weights   "
            f"{applying(model, arguments.rounds):.3f}"
        )
    ratio = step_ratio(arguments.rounds, arguments.steps)
    print("\nstep of 54 x Dense(64), applied / built with Keras's L2")
    print(f"  {ratio:.2f}")


if __name__ == "__main__":
    main()
