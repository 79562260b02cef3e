"""The model of the documentation, its data, and schedules for it."""

import keras
import numpy as np

import l2keras


def documented_model(first, second, inputs=10, between=()):
    """Returns Dense(64), the layers `between`, and Dense(3)."""
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input((inputs,)),
            keras.layers.Dense(
                64, activation="relu", kernel_regularizer=first, name="hidden"
            ),
            *between,
            keras.layers.Dense(
                3,
                activation="softmax",
                kernel_regularizer=second,
                name="output",
            ),
        ]
    )


def documented_data(samples=75, inputs=10, seed=0):
    """Returns inputs and one-hot targets; 75 leave a batch of 11 behind."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(samples, inputs)).astype("float32")
    y = np.eye(3, dtype="float32")[rng.integers(0, 3, samples)]
    return x, y


def linear_data(samples=40, inputs=4, outputs=2, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(samples, inputs)).astype("float32")
    y = rng.normal(size=(samples, outputs)).astype("float32")
    return x, y


def rising(step):
    """The value of `rising_schedule()`, in NumPy."""
    return 0.05 * float(np.clip((step - 2) / 8, 0, 1))


def rising_schedule():
    return l2keras.LinearSchedule(0.0, 0.05, steps=8, begin=2)


def falling(step):
    """The value of `falling_schedule()`, in NumPy."""
    return 0.02 * 0.5 * (1 + np.cos(np.pi * min(step, 12) / 12))


def falling_schedule():
    return keras.optimizers.schedules.CosineDecay(0.02, 12)
