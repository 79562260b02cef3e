"""What it takes to choose a strength, beside the loops that people write.

    KERAS_BACKEND=tensorflow python benchmarks/tune_strength.py

The documented model under 32 strengths in 5 folds for 20 epochs: 160 models.
Prints wall time from the call to the result, compiling included, of

- `l2keras.tune_strength`, and the same search written by hand for this one
  model, on the backend alone (`search_by_hand.py`): in turn, seven times each;
- a plain loop of `fit`;
- scikit-learn's `GridSearchCV` over `keras.wrappers.SKLearnClassifier` with two
  jobs;
- keras-tuner's `GridSearch`, if it is installed: a search for each fold;

one after another in one run. `tune_strength` is run before and after each of
the loops, and its median counts. The loops are run on every eighth strength
(option `--every`) and scaled up, all but `GridSearchCV`, which starts processes
first. Then: how far the validation losses are from those of the plain loop and
of the program written by hand, and how the time grows from 10 to 1,000
replicas, beside the same program.

    KERAS_BACKEND=torch python benchmarks/tune_strength.py --skip-loops --busy

leaves the loops out, and measures both once more while two other processes keep
two cores busy.

    KERAS_BACKEND=tensorflow python benchmarks/tune_strength.py --convolutional

does so for a small convolutional network with batch normalization and dropout
on scikit-learn's digits, beside the plain loop alone, which is validated after
each epoch too: on PyTorch dropout depends on what has been drawn before.
"""

import argparse
import contextlib
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import warnings

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import search_by_hand

import l2keras
from l2keras._keras.backend import backend

FOLDS, BATCH = 5, 50


def make_data():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(500, 10)).astype("float32")
    scores = x @ rng.normal(size=(10, 3)) + 2 * rng.normal(size=(500, 3))
    return x, keras.utils.to_categorical(scores.argmax(axis=1), 3)


def build_model(strength):
    model = keras.Sequential(
        [
            keras.Input((10,)),
            keras.layers.Dense(
                64, activation="relu", kernel_regularizer=l2keras.L2(strength)
            ),
            keras.layers.Dense(
                3,
                activation="softmax",
                kernel_regularizer=l2keras.L2(0.1 * strength),
            ),
        ]
    )
    model.compile("adam", "categorical_crossentropy", metrics=["accuracy"])
    return model


def load_digits():
    from sklearn.datasets import load_digits

    digits = load_digits()
    x = digits.images[:500, ..., None].astype("float32") / 16
    return x, keras.utils.to_categorical(digits.target[:500], 10)


def build_convolutional(strength):
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Conv2D(
                16, 3, use_bias=False, kernel_regularizer=l2keras.L2(strength)
            ),
            keras.layers.BatchNormalization(),
            keras.layers.ReLU(),
            keras.layers.Conv2D(
                32,
                3,
                activation="relu",
                kernel_regularizer=l2keras.L2(strength),
            ),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dropout(0.2),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile("adam", "categorical_crossentropy", metrics=["accuracy"])
    return model


def timed(function):
    began = time.perf_counter()
    result = function()
    return time.perf_counter() - began, result


def together(build_model, x, y, strengths, epochs):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # That the best is at the edge.
        return l2keras.tune_strength(
            build_model,
            x,
            y,
            strengths,
            folds=FOLDS,
            epochs=epochs,
            batch_size=BATCH,
            shuffle=False,
            verbose=0,
        )


def plain_loop(build_model, x, y, strengths, epochs, folds, validate):
    """Returns the last validation data losses, (strengths, folds)."""
    losses = np.zeros((len(strengths), len(folds)))
    for i, strength in enumerate(strengths):
        for k, fold in enumerate(folds):
            keras.utils.set_random_seed(k)
            model = build_model(float(strength))
            held_out = x[fold.validation], y[fold.validation]
            model.fit(
                x[fold.train],
                y[fold.train],
                batch_size=BATCH,
                epochs=epochs,
                shuffle=False,
                validation_data=held_out if validate else None,
                validation_batch_size=BATCH,
                verbose=0,
            )
            loss = model.evaluate(*held_out, batch_size=BATCH, verbose=0)[0]
            penalties = keras.ops.convert_to_numpy(sum(model.losses))
            losses[i, k] = loss - float(penalties)
    return losses


def sklearn_model(X, y, strength):  # noqa: N803
    return build_model(strength)


def grid_search(x, y, strengths, epochs):
    from keras.wrappers import SKLearnClassifier
    from sklearn.model_selection import GridSearchCV, KFold

    classifier = SKLearnClassifier(
        sklearn_model, model_kwargs={"strength": 0.0}
    )
    grid = {"model_kwargs": [{"strength": float(s)} for s in strengths]}
    search = GridSearchCV(
        classifier, grid, cv=KFold(FOLDS), n_jobs=2, refit=False
    )
    return search.fit(
        x, y.argmax(axis=1), epochs=epochs, batch_size=BATCH, verbose=0
    )


def keras_tuner_search(x, y, strengths, epochs, folds):
    import keras_tuner

    def build(hp):
        return build_model(hp.Choice("strength", [float(s) for s in strengths]))

    for k, fold in enumerate(folds):
        with tempfile.TemporaryDirectory() as folder:
            tuner = keras_tuner.GridSearch(
                build, "val_loss", directory=folder, project_name=str(k)
            )
            tuner.search(
                x[fold.train],
                y[fold.train],
                batch_size=BATCH,
                epochs=epochs,
                validation_data=(x[fold.validation], y[fold.validation]),
                verbose=0,
            )


def initial_weights(build_model, folds):
    """Returns the weights that each fold begins with, stacked."""
    values = []
    for k in range(len(folds)):
        keras.utils.set_random_seed(k)
        values.append(build_model(0.0).get_weights())
    return [np.stack(each) for each in zip(*values, strict=True)]


def by_hand(initial, x, y, strengths, epochs, folds):
    search = getattr(search_by_hand, f"in_{keras.backend.backend()}")
    train, held_out = (np.stack(each) for each in zip(*folds, strict=True))
    return search(initial, x, y, strengths, train, held_out, epochs, BATCH)


@contextlib.contextmanager
def busy_neighbours(number=2):
    """Keeps as many cores busy."""
    processes = [
        subprocess.Popen([sys.executable, "-c", "while True: pass"])
        for _ in range(number)
    ]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def in_turn(rounds, **functions):
    """Returns the seconds that functions take, in turn, and their results."""
    seconds = {name: [] for name in functions}
    results = {}
    for _ in range(rounds):
        for name, function in functions.items():
            taken, results[name] = timed(function)
            seconds[name].append(taken)
    return seconds, results


def line(name, seconds, base=None):
    """Prints the median, the range, and the ratio to another median."""
    median = statistics.median(seconds)
    ratio = f"   x{median / base:.3g}" if base else ""
    print(
        f"  {name:28s}{median:8.2f} s   ({min(seconds):.2f} to "
        f"{max(seconds):.2f} in {len(seconds)} runs){ratio}"
    )
    return median


def beside_by_hand(build, x, y, strengths, epochs, folds, rounds):
    """Prints our time and that of the program written by hand."""
    initial = initial_weights(build, folds)
    functions = {
        "ours": lambda: together(build, x, y, strengths, epochs),
        "hand": lambda: by_hand(initial, x, y, strengths, epochs, folds),
    }
    in_turn(1, **functions)  # What the first call in a process costs.
    seconds, results = in_turn(rounds, **functions)
    base = line("written by hand", seconds["hand"])
    line("l2keras.tune_strength", seconds["ours"], base)
    difference = results["ours"].validation_loss - results["hand"]
    print(
        f"  largest difference of their losses: {np.abs(difference).max():.1e}"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--strengths", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--every", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--growth", type=int, nargs="*", default=[2, 20, 200])
    parser.add_argument("--skip-grid-search", action="store_true")
    parser.add_argument("--skip-loops", action="store_true")
    parser.add_argument("--busy", action="store_true")
    parser.add_argument("--convolutional", action="store_true")
    arguments = parser.parse_args()
    epochs = arguments.epochs
    if arguments.convolutional:
        (x, y), build = load_digits(), build_convolutional
    else:
        (x, y), build = make_data(), build_model
    strengths = np.logspace(-5, 0, arguments.strengths)
    print(
        f"{keras.backend.backend()}, {backend.device_name()}, "
        f"Keras {keras.__version__}, Python {platform.python_version()}, "
        f"{os.cpu_count()} cores"
    )
    print(f"{len(strengths)} strengths x {FOLDS} folds x {epochs} epochs\n")

    # What the first model of a process costs it, whoever builds it. To seed the
    # random numbers imports TensorFlow where it is installed.
    keras.utils.set_random_seed(0)
    build(0.0).fit(x[:BATCH], y[:BATCH], verbose=0)
    folds = together(build, x, y, strengths[:2], epochs=1).folds

    if not arguments.convolutional:

        def both(grid, rounds):
            beside_by_hand(build, x, y, grid, epochs, folds, rounds)

        both(strengths, arguments.rounds)
        if arguments.busy:
            print("\nbeside two busy processes")
            with busy_neighbours():
                both(strengths, arguments.rounds)
        for number in arguments.growth:
            print(f"\n{number * FOLDS} replicas")
            both(np.logspace(-5, 0, number), max(1, arguments.rounds // 3))
    if not arguments.skip_loops:
        print()
        beside_loops(build, x, y, strengths, folds, arguments)


def beside_loops(build, x, y, strengths, folds, arguments):
    """Prints our time and that of the loops."""
    epochs, convolutional = arguments.epochs, arguments.convolutional
    some = strengths[:: arguments.every]
    scale = len(strengths) / len(some)
    ours = []

    def note():
        seconds, result = timed(
            lambda: together(build, x, y, strengths, epochs)
        )
        ours.append(seconds)
        return result

    def beside(loop):
        """Times a loop, and ours before and after it."""
        note()
        found = timed(loop)
        note()
        return found

    result = note()
    seconds, losses = beside(
        lambda: plain_loop(build, x, y, some, epochs, folds, convolutional)
    )
    loops = {"plain loop of fit": seconds * scale}
    if not convolutional:
        try:
            seconds, _ = beside(
                lambda: keras_tuner_search(x, y, some, epochs, folds)
            )
            loops["keras-tuner's GridSearch"] = seconds * scale
        except ImportError:
            print("  (keras-tuner is not installed)")
        if not arguments.skip_grid_search:
            seconds, _ = beside(lambda: grid_search(x, y, strengths, epochs))
            loops["GridSearchCV, two jobs"] = seconds
    base = line("l2keras.tune_strength", ours)
    for name, seconds in loops.items():
        print(f"  {name:28s}{seconds:8.1f} s   x{seconds / base:.3g}")

    ours_last = result.validation_loss[:: arguments.every, :, -1]
    print(
        f"\nlargest difference of {losses.size} validation losses to those of "
        f"the plain loop: {np.abs(losses - ours_last).max():.1e}"
    )


if __name__ == "__main__":
    main()
