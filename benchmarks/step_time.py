"""What a training step costs with l2keras, beside Keras alone.

    KERAS_BACKEND=tensorflow python benchmarks/step_time.py     (or jax, torch)

Prints, for the documented model and for one of forty `Dense(256)` layers, how
long a step inside `fit` takes in each variant, as a ratio to Keras's own `L2`.
All variants are trained in turn, many rounds in one run, so that a slow moment
of the machine meets each of them: a ratio is that of medians over the rounds.
Each round trains for a whole epoch, whose first steps are left out.
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


class EpochTimer(keras.callbacks.Callback):
    """Takes the time of an epoch, to its last step and without validation."""

    def on_epoch_begin(self, epoch, logs=None):
        self.began = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        self.seconds = time.perf_counter() - self.began


class UsualCallback(keras.callbacks.Callback):
    """What people write today: the losses summed up after each batch."""

    def on_train_batch_end(self, batch, logs=None):
        losses = self.model.losses
        self.last = float(keras.ops.convert_to_numpy(sum(losses)))


def documented(regularizer):
    return keras.Sequential(
        [
            keras.Input((10,)),
            keras.layers.Dense(
                64, activation="relu", kernel_regularizer=regularizer()
            ),
            keras.layers.Dense(
                3, activation="softmax", kernel_regularizer=regularizer()
            ),
        ]
    )


def deep(regularizer):
    hidden = [
        keras.layers.Dense(
            256, activation="relu", kernel_regularizer=regularizer()
        )
        for _ in range(40)
    ]
    head = keras.layers.Dense(
        3, activation="softmax", kernel_regularizer=regularizer()
    )
    return keras.Sequential([keras.Input((10,)), *hidden, head])


def scheduled():
    return l2keras.L2(l2keras.LinearSchedule(0.0, 1e-4, steps=10_000))


VARIANTS = {
    "no penalty": (lambda: None, lambda: []),
    "Keras's L2": (lambda: keras.regularizers.L2(1e-4), lambda: []),
    "Keras's L2, one metric": (
        lambda: keras.regularizers.L2(1e-4),
        lambda: [],
        "accuracy",
    ),
    "Keras's L2, usual callback": (
        lambda: keras.regularizers.L2(1e-4),
        lambda: [UsualCallback()],
    ),
    "l2keras.L2": (lambda: l2keras.L2(1e-4), lambda: []),
    "l2keras.L2 scheduled": (scheduled, lambda: []),
    "l2keras.L2 scheduled, logger": (
        scheduled,
        lambda: [l2keras.RegularizationLogger()],
    ),
    "the same, every option": (
        scheduled,
        lambda: [l2keras.RegularizationLogger(penalties=True, strengths=True)],
    ),
}


MODELS = {"documented": documented, "deep": deep}


def measure(build, steps, rounds):
    """Returns the seconds of a step, per variant a list over the rounds."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(steps * BATCH, 10)).astype("float32")
    y = keras.utils.to_categorical(rng.integers(0, 3, len(x)), 3)
    runs = {}
    for name, (regularizer, callbacks, *metrics) in VARIANTS.items():
        keras.utils.set_random_seed(0)
        model = build(regularizer)
        model.compile("adam", "categorical_crossentropy", metrics=metrics)
        runs[name] = model, callbacks
    seconds = {name: [] for name in VARIANTS}
    for turn in range(rounds + 1):
        for name, (model, callbacks) in runs.items():
            timer = EpochTimer()
            model.fit(
                x,
                y,
                batch_size=BATCH,
                verbose=0,
                # New ones for each, as people write it.
                callbacks=[*callbacks(), timer],
            )
            if turn:  # The first round compiles.
                seconds[name].append(timer.seconds / steps)
    return seconds


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument(
        "--models", nargs="+", choices=list(MODELS), default=list(MODELS)
    )
    arguments = parser.parse_args()
    print(
        f"{keras.backend.backend()}, {backend.device_name()}, "
        f"Keras {keras.__version__}, Python {platform.python_version()}, "
        f"{os.cpu_count()} cores"
    )
    for model in arguments.models:
        seconds = measure(MODELS[model], arguments.steps, arguments.rounds)
        base = statistics.median(seconds["Keras's L2"])
        print(f"\n{model} model: step time / that with Keras's L2")
        for name, values in seconds.items():
            # Paired by round: the same moment of the machine.
            ratios = [
                a / b
                for a, b in zip(values, seconds["Keras's L2"], strict=True)
            ]
            print(
                f"  {name:30s} {statistics.median(values) / base:5.2f}   "
                f"(by rounds {statistics.median(ratios):5.2f}, "
                f"{statistics.median(values) * 1e6:8.0f} us)"
            )


if __name__ == "__main__":
    main()
