"""Whether several strengths are better than one, and how long that takes.

    KERAS_BACKEND=jax python benchmarks/tune_strengths.py

On data sets that come with scikit-learn: chains of layers, in which several
strengths can be no better than one, and models with several inputs that differ
in how much they are worth. Of each split some 200 rows are for choosing, the
others for judging. Compared, all on the same folds, for 1,000 steps of Adam:

- `tune_strength` with 13 candidates for one strength, and its best epoch;
- its `one_standard_error_strength`, at the same epoch;
- `tune_strength` for several strengths by name, and its best epoch;
- on models with several inputs, random search: as many candidates as the search
  by name has tried, drawn log-uniformly from the same ranges. Each is a search
  of its own, so its time is not compared;
- no penalty, to the last epoch.

A model is then trained on all the rows for choosing, from other weights, and
judged by its mean log-loss on the others. Printed are these losses, the lowest
losses of the cross-validations, and the times of the searches, compiling
included, as ratios to those of one strength: geometric means of losses and
medians of times over the splits, of which `--splits` sets the number, all in
turn in one run.

    KERAS_BACKEND=torch python benchmarks/tune_strengths.py --quick

shows within a minute or two that it runs, on two problems with fewer steps and
candidates. Its figures mean nothing.
"""

import argparse
import collections
import math
import os
import statistics
import time
import warnings

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import machine
import numpy as np
from sklearn import datasets, model_selection, preprocessing

import l2keras

ROWS, BATCH, STEPS, QUICK_STEPS, FOLDS = 200, 32, 1_000, 50, 5
STRENGTHS = np.logspace(-6, 0, 13)
LOWEST, HIGHEST = 1e-7, 10.0  # What `None` stands for in `strengths`.
ONE, SEVERAL, RANDOM = "one strength", "several by name", "random search"


def chain(*units, activation="relu"):
    """Function that builds a chain of layers with a strength for each."""

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
    """Function that builds a layer for each input, and one on their sum."""

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
    """Names, functions that build the outputs, names of the strengths, x, y."""
    for load in (
        datasets.load_breast_cancer,
        datasets.load_digits,
        datasets.load_wine,
    ):
        x, y = load(return_X_y=True)
        name = load.__name__.removeprefix("load_").replace("_", " ")
        for layers, kind in ((1, "one hidden layer"), (2, "two hidden layers")):
            names = [f"layer {place}" for place in range(layers + 1)]
            build = chain(*[64] * layers)
            yield f"{name}, {kind}", build, names, [standardized(x)], y
    rng = np.random.default_rng(0)
    x, y = datasets.load_digits(return_X_y=True)
    x = standardized(x)
    noise = rng.normal(size=(len(x), 256))
    names = "digit", "noise"
    yield (
        "digits beside noise",
        branches(*names),
        [*names, "output"],
        [x, noise],
        y,
    )
    x, y = datasets.load_wine(return_X_y=True)
    first, second = rng.integers(x.shape[1], size=(2, 300))
    products = standardized(x)[:, first] * standardized(x)[:, second]
    noise = rng.normal(size=(len(x), 300))
    names = "measured", "products", "noise"
    yield (
        "wine, products and noise",
        branches(*names),
        [*names, "output"],
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
    """The log-loss on new rows, after training on all the others."""
    keras.utils.set_random_seed(100)
    model = build_model(strengths)
    model.fit(*train, epochs=epochs, batch_size=BATCH, verbose=0)
    predicted = model.predict(test[0], verbose=0)
    right = predicted[np.arange(len(test[1])), test[1]]
    return -np.log(np.maximum(right, 1e-12)).mean()


def timed(function):
    keras.utils.clear_session()
    began = time.perf_counter()
    result = function()
    return time.perf_counter() - began, result


def random_search(build_model, names, number, train, options, seed):
    """The best of so many random candidates: loss, strengths, epoch."""
    rng = np.random.default_rng(seed)
    best = math.inf, None, None
    for _ in range(number):
        drawn = np.exp(rng.uniform(np.log(LOWEST), np.log(HIGHEST), len(names)))
        drawn = dict(zip(names, drawn.tolist(), strict=True))
        keras.utils.clear_session()
        result = l2keras.tune_strength(
            # Bound now, and a search for one strength: a factor for all.
            lambda factor, drawn=drawn: build_model(
                {name: factor * value for name, value in drawn.items()}
            ),
            *train,
            [1.0],
            **options,
        )
        loss = result.mean_loss.min()
        if loss < best[0]:
            best = loss, drawn, result.best_epoch
    return best


def compare(build_model, names, x, y, seed, arguments):
    """Losses, losses of the cross-validations, and times, of one split."""
    chosen, judged = model_selection.train_test_split(
        np.arange(len(y)),
        train_size=min(ROWS, len(y) // 2),
        random_state=seed,
        stratify=y,
    )
    train, test = (
        ([each[rows] for each in x], y[rows]) for rows in (chosen, judged)
    )
    steps = QUICK_STEPS if arguments.quick else STEPS
    options = {
        "folds": FOLDS,
        "epochs": math.ceil(steps / ((1 - 1 / FOLDS) * len(chosen) / BATCH)),
        "batch_size": BATCH,
        "seed": seed,
        "verbose": 0,
    }
    times = {}
    times[ONE], one = timed(
        lambda: l2keras.tune_strength(
            lambda strength: build_model(dict.fromkeys(names, strength)),
            *train,
            STRENGTHS,
            **options,
        )
    )
    times[SEVERAL], several = timed(
        lambda: l2keras.tune_strength(
            build_model, *train, dict.fromkeys(names), **options
        )
    )
    choices = {
        ONE: (one.best_strength, one.best_epoch),
        SEVERAL: (several.best_strength, several.best_epoch),
        "one standard error": (one.one_standard_error_strength, one.best_epoch),
        "no penalty": (0.0, options["epochs"]),
    }
    validated = {ONE: one.mean_loss.min(), SEVERAL: several.mean_loss.min()}
    if len(x) > 1:
        number = 3 if arguments.quick else len(several.strengths)
        validated[RANDOM], *choices[RANDOM] = random_search(
            build_model, names, number, train, options, seed
        )
    losses = {}
    for name, (strengths, epochs) in choices.items():
        if not isinstance(strengths, dict):
            strengths = dict.fromkeys(names, strengths)
        losses[name] = judge(build_model, strengths, epochs, train, test)
    print(f"  split {seed}: {len(several.strengths)} candidates by name")
    return losses, validated, times


def print_ratios(losses, validated, times):
    """Prints the ratios of each method to one strength, over the splits."""

    def mean_ratio(by_split, name):
        ratios = [each[name] / each[ONE] for each in by_split]
        return np.exp(np.mean(np.log(ratios)))

    for name in losses[0]:
        line = f"  {name:20} loss {mean_ratio(losses, name):.3f}"
        if name in validated[0]:
            line += f"   validated {mean_ratio(validated, name):.3f}"
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
    parser.add_argument("--quick", action="store_true", help="only try it")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.splits = 1
    # That it is at an edge, or makes no difference.
    warnings.filterwarnings("ignore", message="The (best )?strength")
    machine.describe()
    kinds = collections.defaultdict(lambda: ([], [], []))
    for name, build, names, x, y in problems():
        kind = "chains" if len(x) == 1 else "several inputs"
        if arguments.only not in name or (arguments.quick and kind in kinds):
            continue
        x = [each.astype("float32") for each in x]
        build_model = make_build_model(build, x, len(np.unique(y)))
        print(f"\n{name}")
        runs = [
            compare(build_model, names, x, y, seed, arguments)
            for seed in range(arguments.splits)
        ]
        runs = [list(each) for each in zip(*runs, strict=True)]
        print_ratios(*runs)
        for all_of_kind, each in zip(kinds[kind], runs, strict=True):
            all_of_kind.extend(each)
    for kind, runs in kinds.items():
        print(f"\nall {kind}")
        print_ratios(*runs)


if __name__ == "__main__":
    main()
