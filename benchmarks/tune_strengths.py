"""Whether several learned strengths beat one, on real data, and what it takes.

    KERAS_BACKEND=jax python benchmarks/tune_strengths.py

On data sets that come with scikit-learn: chains of layers, in which several
strengths can be no better than one, and models with several inputs that differ
in what they are worth. Of each split some 200 rows are for choosing, the others
for judging. Compared, all on the same folds, for 1,000 steps of Adam:

- `tune_strength` with 13 strengths and its best epoch;
- its `one_standard_error_strength`, at the same epoch;
- what `tune_strengths` learns, before it is checked;
- `tune_strengths` as it is;
- no penalty, to the last epoch.

A model is then trained on all the rows for choosing, from other weights, and
judged by its mean log-loss on the others. Printed are these losses and the
times of the searches, compiling included, as ratios to those of
`tune_strength`: geometric means and medians over the splits, of which
`--splits` sets the number, all in turn in one run. The time to learn is a part
of the time of `tune_strengths`.
"""

import argparse
import collections
import functools
import math
import os
import platform
import statistics
import time
import unittest.mock
import warnings

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from sklearn import datasets, model_selection, preprocessing

import l2keras
from l2keras.tuning import tune_several

ROWS, BATCH, STEPS, FOLDS = 200, 32, 1_000, 5
STRENGTHS = np.logspace(-6, 0, 13)
ONE, LEARNED, CHECKED = "13 strengths", "learned", "learned and checked"


def chain(*units, activation="relu"):
    """Returns what builds a chain of layers with a strength for each."""

    def build(inputs, classes, strengths):
        (outputs,) = inputs
        for place, width in enumerate([*units, classes]):
            outputs = keras.layers.Dense(
                width,
                "softmax" if place == len(units) else activation,
                kernel_regularizer=l2keras.L2(strengths[f"layer {place}"]),
            )(outputs)
        return outputs

    return build


def branches(*names):
    """Returns what builds a layer for each input, and one on their sum."""

    def build(inputs, classes, strengths):
        hidden = keras.layers.add(
            [
                keras.layers.Dense(
                    64, kernel_regularizer=l2keras.L2(strengths[name])
                )(each)
                for name, each in zip(names, inputs, strict=True)
            ]
        )
        return keras.layers.Dense(
            classes,
            "softmax",
            kernel_regularizer=l2keras.L2(strengths["output"]),
        )(keras.layers.Activation("relu")(hidden))

    return build


def standardized(x):
    return preprocessing.StandardScaler().fit_transform(x)


def problems():
    """Yields a name, what builds the outputs, the inputs, and the labels."""
    for load in (
        datasets.load_breast_cancer,
        datasets.load_digits,
        datasets.load_wine,
    ):
        x, y = load(return_X_y=True)
        name = load.__name__.removeprefix("load_").replace("_", " ")
        for build, kind in (
            (chain(64), "one hidden layer"),
            (chain(64, 64), "two hidden layers"),
        ):
            yield f"{name}, {kind}", build, [standardized(x)], y
    rng = np.random.default_rng(0)
    x, y = datasets.load_digits(return_X_y=True)
    x = standardized(x)
    noise = rng.normal(size=(len(x), 256))
    yield "digits beside noise", branches("digit", "noise"), [x, noise], y
    x, y = datasets.load_wine(return_X_y=True)
    first, second = rng.integers(x.shape[1], size=(2, 300))
    products = standardized(x)[:, first] * standardized(x)[:, second]
    noise = rng.normal(size=(len(x), 300))
    yield (
        "wine, products and noise",
        branches("measured", "products", "noise"),
        [standardized(x), products, noise],
        y,
    )


def make_build_model(build, x, classes):
    def build_model(strengths):
        inputs = [keras.Input(each.shape[1:]) for each in x]
        model = keras.Model(inputs, build(inputs, classes, strengths))
        model.compile(
            keras.optimizers.Adam(3e-3), "sparse_categorical_crossentropy"
        )
        return model

    return build_model


def judge(build_model, strengths, epochs, train, test):
    """Returns the log-loss on new rows, after training on all the others."""
    keras.utils.set_random_seed(100)
    model = build_model(strengths)
    model.fit(*train, epochs=epochs, batch_size=BATCH, verbose=0)
    predicted = model.predict(test[0], verbose=0)
    right = predicted[np.arange(len(test[1])), test[1]]
    return -np.log(np.maximum(right, 1e-12)).mean()


def timed(function, times, name):
    """Returns the function, which adds to the times how long it took."""

    @functools.wraps(function)
    def call(*arguments, **options):
        began = time.perf_counter()
        result = function(*arguments, **options)
        times[name] = time.perf_counter() - began
        return result

    return call


def compare(build_model, x, y, seed):
    """Returns losses and times by method, for one split."""
    chosen, judged = model_selection.train_test_split(
        np.arange(len(y)),
        train_size=min(ROWS, len(y) // 2),
        random_state=seed,
        stratify=y,
    )
    train, test = (
        ([each[rows] for each in x], y[rows]) for rows in (chosen, judged)
    )
    options = {
        "folds": FOLDS,
        "epochs": math.ceil(STEPS / ((1 - 1 / FOLDS) * len(chosen) / BATCH)),
        "batch_size": BATCH,
        "seed": seed,
        "verbose": 0,
    }
    times = {}
    keras.utils.clear_session()
    one = timed(l2keras.tune_strength, times, ONE)(
        lambda strength: build_model(collections.defaultdict(lambda: strength)),
        *train,
        STRENGTHS,
        **options,
    )
    keras.utils.clear_session()
    learn = timed(tune_several.learn, times, LEARNED)
    with unittest.mock.patch.object(tune_several, "learn", learn):
        several = timed(l2keras.tune_strengths, times, CHECKED)(
            build_model, *train, **options
        )
    names = [name for name, _ in several.candidates]
    of_learned = several.mean_loss[names.index("learned x 1")]
    choices = {
        ONE: (one.best_strength, one.best_epoch),
        LEARNED: (several.learned, 1 + of_learned.argmin()),
        CHECKED: (several.strengths, several.best_epoch),
        "one standard error": (one.one_standard_error_strength, one.best_epoch),
        "no penalty": (0.0, options["epochs"]),
    }
    losses = {}
    for name, (strengths, epochs) in choices.items():
        if not isinstance(strengths, dict):
            strengths = dict.fromkeys(several.learned, strengths)
        losses[name] = judge(build_model, strengths, epochs, train, test)
    return losses, times


def print_ratios(losses, times):
    """Prints the ratios of each method to one strength, by split."""
    for name in losses[0]:
        ratios = [loss[name] / loss[ONE] for loss in losses]
        mean = np.exp(np.mean(np.log(ratios)))
        line = f"  {name:20} loss {mean:.3f}"
        if name in times[0]:
            spent = statistics.median(each[name] / each[ONE] for each in times)
            seconds = statistics.median(each[name] for each in times)
            line += f"   time {spent:.2f} ({seconds:.1f} s)"
        print(line, flush=True)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--splits", type=int, default=3)
    parser.add_argument("--only", default="", help="problems with this in them")
    arguments = parser.parse_args()
    for message in ("The best strength", "What '", "The strength '"):
        warnings.filterwarnings("ignore", message=message)
    print(
        f"Keras {keras.__version__} on {keras.backend.backend()}, Python "
        f"{platform.python_version()}, {os.cpu_count()} CPU cores"
    )
    kinds = collections.defaultdict(lambda: ([], []))
    for name, build, x, y in problems():
        if arguments.only not in name:
            continue
        x = [each.astype("float32") for each in x]
        build_model = make_build_model(build, x, len(np.unique(y)))
        runs = [
            compare(build_model, x, y, seed) for seed in range(arguments.splits)
        ]
        losses, times = zip(*runs, strict=True)
        print(f"\n{name}")
        print_ratios(losses, times)
        kind = "chains" if len(x) == 1 else "several inputs"
        kinds[kind][0].extend(losses)
        kinds[kind][1].extend(times)
    for kind, (losses, times) in kinds.items():
        print(f"\nall {kind}")
        print_ratios(losses, times)


if __name__ == "__main__":
    main()
