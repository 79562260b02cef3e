"""What it takes to compact networks of other people, and what it saves.

    KERAS_BACKEND=tensorflow python benchmarks/compact.py

Makes networks of `keras.applications` without trained weights, switches off a
share of the filters of each convolution at random, so that no two layers fit,
and compacts them; and trains two small networks on scikit-learn's digits with
`GroupLasso` under `Proximal`, and compacts these. Prints seconds, parameters,
FLOPs, the largest difference of an output as a fraction of the largest output,
and the time of a prediction as a ratio: both models predict in turn, many
rounds in one run.
"""

import argparse
import os
import statistics
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import machine
import numpy as np
import trained_digits

import l2keras

NETWORKS = ["MobileNetV2", "ResNet50", "EfficientNetB0"]


def switch_off(model, share):
    """Switches off a share of the filters, and gives the rest statistics."""
    rng = np.random.default_rng(0)
    for layer in model.layers:
        is_depthwise = isinstance(layer, keras.layers.DepthwiseConv2D)
        for variable in layer.weights:
            array = np.array(keras.ops.convert_to_numpy(variable))
            if array.ndim == 4:
                axis = -2 if is_depthwise else -1
                off = rng.random(array.shape[axis]) < share
                np.moveaxis(array, axis, 0)[off] = 0.0
            elif variable.name in ("beta", "moving_mean"):
                array = 0.1 * rng.normal(size=array.shape)
            variable.assign(array)


def prediction_ratio(models, x, rounds):
    """Returns the time of the second model's, over that of the first's."""
    ratios = []
    for model in models:
        model.predict(x, verbose=0)
    for _ in range(rounds):
        seconds = []
        for model in models:
            began = time.perf_counter()
            model.predict(x, verbose=0)
            seconds.append(time.perf_counter() - began)
        ratios.append(seconds[1] / seconds[0])
    return statistics.median(ratios)


def measure(name, arguments):
    began = time.perf_counter()
    if name in trained_digits.NETWORKS:
        model = trained_digits.train(name, arguments.epochs)
        x = trained_digits.load()[2]
    else:
        shape = (arguments.size, arguments.size, 3)
        model = getattr(keras.applications, name)(
            weights=None, input_shape=shape
        )
        switch_off(model, arguments.share)
        x = np.random.default_rng(0).normal(size=(arguments.images, *shape))
        x = x.astype("float32")
    made = time.perf_counter() - began
    began = time.perf_counter()
    small, report = l2keras.compact(model)
    compacted = time.perf_counter() - began
    before, after = (each.predict(x, verbose=0) for each in (model, small))
    difference = np.abs(before - after).max() / np.abs(before).max()
    ratio = prediction_ratio([model, small], x, arguments.rounds)
    parameters = report.parameters[1] / report.parameters[0]
    flops = report.flops[1] / report.flops[0]
    print(
        f"  {name:16s} made {made:5.1f} s, compacted {compacted:5.1f} s, "
        f"parameters x{parameters:.2f}, FLOPs x{flops:.2f}, "
        f"predict x{ratio:.2f}, difference {difference:.0e}"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--share", type=float, default=0.4)
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--epochs", type=int, default=30)
    names = [*NETWORKS, *trained_digits.NETWORKS]
    parser.add_argument("--models", nargs="+", choices=names, default=names)
    arguments = parser.parse_args()
    machine.describe()
    for name in arguments.models:
        measure(name, arguments)


if __name__ == "__main__":
    main()
