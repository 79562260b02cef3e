"""Whether all numbers lie on the device that computes.

    KERAS_BACKEND=jax python benchmarks/placement.py            (or torch, ...)

Trains with a schedule, the logger, `Proximal` and `DecoupledWeightDecay`, and
searches a strength; then looks where the variables of each model and of its
optimizer are. One on another device than the rest makes every step wait for a
copy. Exits with 1 if there is one.
"""

import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import machine
import numpy as np

import l2keras


def device_of(variable):
    """The device of a variable, by the backend's own name of it."""
    value = variable.value
    if keras.backend.backend() == "jax":
        (device,) = value.devices()
        return device.platform
    if keras.backend.backend() == "torch":
        return value.device.type
    name = value.device.rpartition("device:")[2].split(":")[0].lower()
    # TensorFlow keeps integers, such as a count of steps, on the host.
    is_integer = "int" in keras.backend.standardize_dtype(variable.dtype)
    return None if is_integer else name


def build_model(strength, optimizer=None):
    model = keras.Sequential(
        [
            keras.Input((10,)),
            keras.layers.Dense(
                64, activation="relu", kernel_regularizer=l2keras.L2(strength)
            ),
            keras.layers.Dropout(0.1),
            keras.layers.Dense(
                3,
                activation="softmax",
                kernel_regularizer=l2keras.GroupLasso(0.01),
            ),
        ]
    )
    model.compile(
        optimizer or "adam", "categorical_crossentropy", metrics=["accuracy"]
    )
    return model


def main():
    machine.describe()
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 10)).astype("float32")
    y = keras.utils.to_categorical(rng.integers(0, 3, 200), 3)
    models = {}

    def trained(name, optimizer):
        schedule = l2keras.LinearSchedule(0.0, 0.01, steps=10)
        model = models[name] = build_model(schedule, optimizer)
        model.fit(
            x,
            y,
            validation_split=0.2,
            epochs=2,
            verbose=0,
            callbacks=[
                l2keras.RegularizationLogger(penalties=True, strengths=True)
            ],
        )

    trained("Adam", keras.optimizers.Adam())
    trained("Proximal", l2keras.Proximal(keras.optimizers.Adam()))
    trained(
        "DecoupledWeightDecay",
        l2keras.DecoupledWeightDecay(keras.optimizers.Adam(), default=0.01),
    )

    def build_and_keep(strength):
        models["tune_strength"] = build_model(strength)
        return models["tune_strength"]

    strengths = [0.001, 0.01, 0.1]
    l2keras.tune_strength(build_and_keep, x, y, strengths, epochs=2, verbose=0)

    found = {}
    for name, model in models.items():
        for variable in [*model.variables, *model.optimizer.variables]:
            device = device_of(variable)
            if device is not None:
                path = f"{name}: {variable.path}"
                found.setdefault(device, []).append(path)
    for device, paths in found.items():
        print(f"  {len(paths):4d} variables on {device}")
    if len(found) > 1:
        fewest = min(found.values(), key=len)
        print("These are not where the others are:", *fewest, sep="\n  ")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
