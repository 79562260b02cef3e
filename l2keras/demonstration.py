"""The demonstration: the documented model trained on real data."""

import argparse
import csv
import pathlib
import sys
import time
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
import rich.box
import rich.console
import rich.table

import l2keras
from l2keras._keras.backend import backend

try:
    import matplotlib.figure
    from sklearn.datasets import load_wine
    from sklearn.model_selection import train_test_split
except ImportError as error:
    raise SystemExit(
        f"{error}. The demonstration needs scikit-learn and matplotlib: "
        '`pip install "l2keras[demo]"`.'
    ) from None


def demonstrate(arguments: argparse.Namespace) -> int:
    """Trains the documented model on wine data; returns the exit status."""
    console = rich.console.Console(markup=False)
    console.print(
        f"l2keras {l2keras.__version__}, Keras {keras.__version__} on "
        f"{keras.backend.backend()}, device: {backend.device_name()}"
    )
    keras.utils.set_random_seed(arguments.seed)
    train, test = _wine(arguments.seed)
    steps = arguments.epochs * -(-len(train[0]) // arguments.batch_size)
    strength = arguments.strength
    rising = l2keras.LinearSchedule(0.0, strength, steps=max(1, steps // 2))
    model = _documented_model(
        train[0].shape[1],
        hidden=l2keras.L2(rising),
        output=l2keras.L2(0.1 * strength),
    )
    model.summary()

    history = model.fit(
        *train,
        batch_size=arguments.batch_size,
        epochs=arguments.epochs,
        validation_data=test,
        # The bar rewrites its line, which only a terminal can show.
        verbose=1 if sys.stdout.isatty() else 2,
        callbacks=[l2keras.RegularizationLogger(strengths=True)],
    ).history
    console.print(_table(history))

    folder = arguments.output
    folder.mkdir(parents=True, exist_ok=True)
    model.save(folder / "model.keras")
    _write_csv(history, folder / "history.csv")
    figure = matplotlib.figure.Figure(layout="constrained")
    ax = l2keras.plot_loss_split(history, figure.subplots())
    ax.set_title("Dense(64), Dense(3) on wine: the training loss in two parts")
    figure.savefig(folder / "losses.png", dpi=150)

    reloaded = keras.saving.load_model(folder / "model.keras")
    before = model.evaluate(*test, verbose=0, return_dict=True)
    after = reloaded.evaluate(*test, verbose=0, return_dict=True)
    console.print(f"evaluated before saving:  {before}", soft_wrap=True)
    console.print(f"evaluated after reload:   {after}", soft_wrap=True)
    console.print(
        f"wrote model.keras, history.csv, losses.png to {folder}/",
        soft_wrap=True,
    )
    if before != after:
        console.print("The reloaded model differs from the one saved.")
        return 1
    console.print("The reloaded model is the same to the last bit.")
    _choose_strength(train, arguments, console)
    _switch_units_off(train, test, arguments, console)
    return 0


def _choose_strength(
    train: tuple[np.ndarray, np.ndarray],
    arguments: argparse.Namespace,
    console: rich.console.Console,
) -> None:
    """Cross-validates 16 strengths on the wines that were trained on."""

    def build_model(strength: Any) -> keras.Model:
        return _documented_model(
            train[0].shape[1],
            hidden=l2keras.L2(strength),
            output=l2keras.L2(0.1 * strength),
        )

    strengths = np.logspace(-5, 0, 16)
    console.print("\nWhich strength is the best? 16 of them in 5 folds:")
    began = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Where the best is at an edge.
        result = l2keras.tune_strength(
            build_model,
            *train,
            strengths,
            epochs=arguments.epochs,
            batch_size=arguments.batch_size,
            seed=arguments.seed,
            verbose=int(sys.stdout.isatty()),
        )
    seconds = time.perf_counter() - began
    result.summary(lambda text: console.print(text, soft_wrap=True))
    figure = matplotlib.figure.Figure(layout="constrained")
    ax = result.plot(figure.subplots())
    ax.set_title("Dense(64), Dense(3) on wine: 80 models, 5 folds")
    figure.savefig(arguments.output / "strengths.png", dpi=150)
    console.print(
        f"80 models in {seconds:.1f} s. Best strength: "
        f"{result.best_strength:.2g}; the strongest within one standard error: "
        f"{result.one_standard_error_strength:.2g}. "
        f"Wrote strengths.png to {arguments.output}/",
        soft_wrap=True,
    )


def _switch_units_off(
    train: tuple[np.ndarray, np.ndarray],
    test: tuple[np.ndarray, np.ndarray],
    arguments: argparse.Namespace,
    console: rich.console.Console,
) -> None:
    """Trains the model with a penalty that switches units off, and cuts it."""
    console.print("\nHow many of the 64 units does it need?")
    keras.utils.set_random_seed(arguments.seed)
    model = _documented_model(
        train[0].shape[1],
        hidden=l2keras.GroupLasso(0.02),
        optimizer=l2keras.Proximal(keras.optimizers.Adam(0.01)),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # That few epochs switch nothing off.
        model.fit(
            *train,
            batch_size=arguments.batch_size,
            epochs=arguments.epochs,
            verbose=0,
        )
    small, report = l2keras.compact(model)
    console.print(str(report).strip("\n"))
    figure = matplotlib.figure.Figure(layout="constrained", figsize=(8, 2.4))
    ax = l2keras.plot_sparsity(model, ax=figure.subplots())
    ax.set_title("Dense(64), Dense(3) on wine, under GroupLasso")
    figure.savefig(arguments.output / "units.png", dpi=150)
    before, after = (
        each.predict(test[0], verbose=0) for each in (model, small)
    )
    accuracy = np.mean(after.argmax(axis=-1) == test[1].argmax(axis=-1))
    console.print(
        f"Accuracy on other wines: {accuracy:.3f}. The outputs of the two "
        f"models differ by {np.abs(after - before).max():.1g} at most. Wrote "
        f"units.png to {arguments.output}/",
        soft_wrap=True,
    )


def _wine(
    seed: int,
) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Returns (x, y) to train and to test, x standardized and y one-hot."""
    x, y = load_wine(return_X_y=True)
    x_train, x_test, y_train, y_test = train_test_split(
        x, y, test_size=0.25, random_state=seed, stratify=y
    )
    # By the training part alone: the other must stay unseen.
    mean, deviation = x_train.mean(axis=0), x_train.std(axis=0)
    return (
        ((x_train - mean) / deviation, keras.utils.to_categorical(y_train)),
        ((x_test - mean) / deviation, keras.utils.to_categorical(y_test)),
    )


def _documented_model(
    num_inputs: int,
    hidden: l2keras.Regularizer,
    output: l2keras.Regularizer | None = None,
    optimizer: str | keras.optimizers.Optimizer = "adam",
) -> keras.Model:
    model = keras.Sequential(
        [
            keras.Input((num_inputs,)),
            keras.layers.Dense(
                64,
                activation="relu",
                kernel_regularizer=hidden,
                name="hidden",
            ),
            keras.layers.Dense(
                3,
                activation="softmax",
                kernel_regularizer=output,
                name="output",
            ),
        ]
    )
    model.compile(optimizer, "categorical_crossentropy", metrics=["accuracy"])
    return model


def _table(history: Mapping[str, Sequence[float]]) -> rich.table.Table:
    columns = {
        "loss": "loss",
        "data\nloss": "data_loss",
        "regulari-\nzation loss": "regularization_loss",
        "strength\nhidden": "strength/hidden/kernel",
        "strength\noutput": "strength/output/kernel",
        "validation\ndata loss": "val_data_loss",
        "validation\naccuracy": "val_accuracy",
    }
    table = rich.table.Table(
        title="Means over each epoch, and strengths at its end",
        box=rich.box.SIMPLE_HEAD,
        padding=0,
        collapse_padding=True,
    )
    for name in ("epoch", *columns):
        table.add_column(name, justify="right")
    for epoch in range(len(history["loss"])):
        values = [history[key][epoch] for key in columns.values()]
        table.add_row(str(epoch + 1), *(f"{value:.4f}" for value in values))
    return table


def _write_csv(
    history: Mapping[str, Sequence[float]], path: pathlib.Path
) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["epoch", *history])
        for epoch, row in enumerate(zip(*history.values(), strict=True), 1):
            writer.writerow([epoch, *row])
