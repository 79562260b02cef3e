"""What it takes to choose a strength, beside the loops that people write.

    KERAS_BACKEND=tensorflow python benchmarks/tune_strength.py

The documented model under 32 strengths in 5 folds for 20 epochs: 160 models.
Prints wall time from the call to the result, compiling included, of

- `l2keras.tune_strength`;
- a plain loop of `fit`;
- scikit-learn's `GridSearchCV` over `keras.wrappers.SKLearnClassifier` with two
  jobs;
- keras-tuner's `GridSearch`, if it is installed: a search for each fold;

one after another in one run. `tune_strength` is run before and after each of
them, and its median counts. The loops are run on every eighth strength (option
`--every`) and scaled up, all but `GridSearchCV`, which starts processes first.
Then: how far the validation losses are from those of the plain loop, and how
the time grows from 10 to 1,000 replicas.

    KERAS_BACKEND=tensorflow python benchmarks/tune_strength.py --convolutional

does so for a small convolutional network with batch normalization and dropout
on scikit-learn's digits, beside the plain loop alone, which is validated after
each epoch too: on PyTorch dropout depends on what has been drawn before.
"""

import argparse
import os
import platform
import statistics
import tempfile
import time
import warnings

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

import l2keras
from l2keras._keras import backends

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


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--strengths", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--every", type=int, default=8)
    parser.add_argument("--growth", type=int, nargs="*", default=[2, 20, 200])
    parser.add_argument("--skip-grid-search", action="store_true")
    parser.add_argument("--convolutional", action="store_true")
    arguments = parser.parse_args()
    epochs = arguments.epochs
    if arguments.convolutional:
        (x, y), build = load_digits(), build_convolutional
    else:
        (x, y), build = make_data(), build_model
    strengths = np.logspace(-5, 0, arguments.strengths)
    some = strengths[:: arguments.every]
    scale = len(strengths) / len(some)
    print(
        f"{keras.backend.backend()}, {backends.device_name()}, "
        f"Keras {keras.__version__}, Python {platform.python_version()}, "
        f"{os.cpu_count()} cores"
    )
    print(f"{len(strengths)} strengths x {FOLDS} folds x {epochs} epochs\n")

    # What the first model of a process costs it, whoever builds it. To seed the
    # random numbers imports TensorFlow where it is installed.
    keras.utils.set_random_seed(0)
    build(0.0).fit(x[:BATCH], y[:BATCH], verbose=0)

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
    folds, validate = result.folds, arguments.convolutional
    seconds, losses = beside(
        lambda: plain_loop(build, x, y, some, epochs, folds, validate)
    )
    loops = {"plain loop of fit": seconds * scale}
    if not arguments.convolutional:
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
    base = statistics.median(ours)
    print(
        f"  {'l2keras.tune_strength':28s}{base:8.2f} s   "
        f"({min(ours):.2f} to {max(ours):.2f} in {len(ours)} runs)"
    )
    for name, seconds in loops.items():
        print(f"  {name:28s}{seconds:8.1f} s   x{seconds / base:.3g}")

    ours_last = result.validation_loss[:: arguments.every, :, -1]
    print(
        f"\nlargest difference of {losses.size} validation losses to those of "
        f"the plain loop: {np.abs(losses - ours_last).max():.1e}"
    )
    if not arguments.convolutional:
        print("\nreplicas, seconds")
        for number in arguments.growth:
            grid = np.logspace(-5, 0, number)
            seconds, _ = timed(
                lambda grid=grid: together(build, x, y, grid, epochs)
            )
            print(f"  {number * FOLDS:6d}{seconds:8.1f}")


if __name__ == "__main__":
    main()
