"""The demonstration: the gain of regularization on real data, held out."""

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
from l2keras import plots
from l2keras._keras.backend import backend

try:
    from matplotlib.figure import Figure
    from sklearn.datasets import load_diabetes
    from sklearn.model_selection import train_test_split
except ImportError as error:
    raise SystemExit(
        f"{error}. The demonstration needs scikit-learn and matplotlib: "
        '`pip install "l2keras[demo]"`.'
    ) from None

# No penalty, and strengths from too weak to too strong, so that the best one
# is not at an edge.
STRENGTHS = np.concatenate([[0.0], np.logspace(-3.5, 0.0, 15)])
LEARNING_RATE = 0.01

History = Mapping[str, Sequence[float]]


class Demonstration:
    """The steps of the demonstration, which share the data and the options.

    Args:
        arguments: The options of the command line.
    """

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments = arguments
        self.folder: pathlib.Path = arguments.output
        self.console = rich.console.Console(markup=False, highlight=False)
        self.train, self.test = _patients(arguments.seed)

    def run(self) -> int:
        """Runs all steps; returns the exit status."""
        self._print(
            f"l2keras {l2keras.__version__}, Keras {keras.__version__} on "
            f"{keras.backend.backend()}, device: {backend.device_name()}\n"
            "442 patients with diabetes, 10 measurements each; the disease "
            "progresses slowly,\nmoderately or fast within a year. Two "
            "thirds of them are held out. The model is\n"
            "Dense(64, relu), Dense(3, softmax)."
        )
        result = self._choose_strength()
        self._compare(result)
        strength = self.arguments.strength
        if strength is None:
            strength = result.best_strength
        same = self._log_and_reload(strength)
        self._remove_units()
        self._print(
            "\nWrote model.keras, history.csv, gain.png, strengths.png, "
            f"losses.png, units.png\nto {self.folder}/."
        )
        return 0 if same else 1

    def _choose_strength(self) -> l2keras.TuningResult:
        self._print("\nWhich strength of L2? Cross-validation, 5 folds:")
        began = time.perf_counter()
        with warnings.catch_warnings():
            # A choice at an edge is said in our own words.
            warnings.filterwarnings("ignore", "The best strength")
            # `tune_strength` keeps what it has; here nothing is to be kept.
            warnings.filterwarnings("error", "The search was interrupted")
            try:
                result = l2keras.tune_strength(
                    build_model,
                    *self.train,
                    STRENGTHS,
                    epochs=self.arguments.epochs,
                    batch_size=self.arguments.batch_size,
                    seed=self.arguments.seed,
                    verbose=int(sys.stdout.isatty()),
                )
            except UserWarning:
                raise KeyboardInterrupt from None
        seconds = time.perf_counter() - began
        result.summary(self._print)
        models = len(result.strengths) * len(result.folds)
        self._print(
            f"{models} models in {seconds:.1f} s. Best: strength "
            f"{result.best_strength:.2g} after {result.best_epoch} epochs."
        )
        if result.best_strength in (STRENGTHS[0], STRENGTHS[-1]):
            self._print("It is at the edge of those tried: train longer.")
        figure = Figure(layout="constrained")
        result.plot(figure.subplots()).set_title(f"{models} models, 5 folds")
        figure.savefig(self.folder / "strengths.png", dpi=150)
        return result

    def _compare(self, result: l2keras.TuningResult) -> None:
        """Tests models without a penalty and with the chosen strength."""
        self._print("\nWhat is it worth, on the patients who were held out?")
        epochs = self.arguments.epochs
        chosen = f"L2({result.best_strength:.2g})"
        unpenalized = self._trained(l2keras.L2(0.0), l2keras.L2(0.0))[1]
        strength = result.best_strength
        penalized = self._trained(l2keras.L2(strength), l2keras.L2(strength))[1]
        table = _new_table("Model", "Epochs", "Test loss", "Test accuracy")
        for name, history, epoch in (
            ("no penalty", unpenalized, epochs),
            # By cross-validation, as the strength: the first is 0.
            (
                "no penalty, stopped early",
                unpenalized,
                int(result.mean_loss[0].argmin()) + 1,
            ),
            (chosen, penalized, epochs),
            (f"{chosen}, stopped early", penalized, result.best_epoch),
        ):
            table.add_row(
                name,
                str(epoch),
                f"{history['val_data_loss'][epoch - 1]:.3f}",
                f"{history['val_accuracy'][epoch - 1]:.3f}",
            )
        self.console.print(table)
        error = 0.5 / np.sqrt(len(self.test[0]))
        self._print(f"Accuracies are known to {error:.2f} (a standard error).")
        figure = Figure((9, 3.6), layout="constrained")
        axes = figure.subplots(1, 2)
        for key, ax in zip(("data_loss", "accuracy"), axes, strict=True):
            for name, history, color in (
                ("no penalty", unpenalized, plots.RED),
                (
                    f"{chosen}, chosen by cross-validation",
                    penalized,
                    plots.BLUE,
                ),
            ):
                numbers = np.arange(1, epochs + 1)
                ax.plot(numbers, history[key], ":", color=color)
                ax.plot(numbers, history[f"val_{key}"], color=color, label=name)
            ax.set(xlabel="epoch", ylabel=key.replace("_", " "))
        axes[0].set_ylim(0, None)
        figure.legend(
            *axes[0].get_legend_handles_labels(), loc="outside upper center"
        )
        figure.supxlabel("lines: patients held out; dots: those trained on")
        figure.savefig(self.folder / "gain.png", dpi=150)

    def _log_and_reload(self, strength: float) -> bool:
        """Trains under a schedule; returns if it reloads as it was."""
        self._print(
            f"\nThe hidden layer's strength rises to {strength:.2g}, and the "
            "logger splits the loss:"
        )
        steps = self.arguments.epochs * -(
            -len(self.train[0]) // self.arguments.batch_size
        )
        rising = l2keras.LinearSchedule(0.0, strength, steps=max(1, steps // 2))
        model, history = self._trained(l2keras.L2(rising), l2keras.L2(strength))
        self.console.print(_loss_table(history))
        _write_csv(history, self.folder / "history.csv")
        figure = Figure(layout="constrained")
        ax = l2keras.plot_loss_split(history, figure.subplots())
        ax.set_title("The training loss in its two parts")
        figure.savefig(self.folder / "losses.png", dpi=150)

        model.save(self.folder / "model.keras")
        reloaded = keras.saving.load_model(self.folder / "model.keras")
        before, after = (
            network.evaluate(*self.test, verbose=0, return_dict=True)
            for network in (model, reloaded)
        )
        for when, values in (("before", before), ("after", after)):
            numbers = ", ".join(f"{k} {v:.7g}" for k, v in values.items())
            self._print(f"Evaluated {when} saving and reloading: {numbers}")
        self._print(
            "The reloaded model is the same to the last bit."
            if before == after
            else "The reloaded model differs from the saved one."
        )
        return before == after

    def _remove_units(self) -> None:
        """Trains with a penalty that zeroes units, and removes those."""
        self._print("\nHow many of the 64 units does it need?")
        adam = keras.optimizers.Adam(LEARNING_RATE)
        with warnings.catch_warnings():
            # That few epochs, if so chosen, zero nothing.
            warnings.simplefilter("ignore")
            model, _ = self._trained(
                l2keras.GroupLasso(0.02), None, l2keras.Proximal(adam)
            )
        small, report = l2keras.compact(model)
        self._print(str(report).strip("\n"))
        figure = Figure((8, 2.4), layout="constrained")
        ax = l2keras.plot_sparsity(model, ax=figure.subplots())
        ax.set_title("The units of the model under GroupLasso")
        figure.savefig(self.folder / "units.png", dpi=150)
        x, y = self.test
        before, after = (
            network.predict(x, verbose=0) for network in (model, small)
        )
        accuracy = np.mean(after.argmax(axis=-1) == y.argmax(axis=-1))
        self._print(
            f"Test accuracy {accuracy:.3f}; the outputs of the two models "
            f"differ by {np.abs(after - before).max():.1g} at most."
        )

    def _trained(
        self, *arguments: Any
    ) -> tuple[keras.Model, dict[str, list[float]]]:
        """A model, as `documented_model` builds it, after `fit`."""
        keras.utils.set_random_seed(self.arguments.seed)
        model = documented_model(*arguments)
        history = model.fit(
            *self.train,
            batch_size=self.arguments.batch_size,
            epochs=self.arguments.epochs,
            validation_data=self.test,
            verbose=0,
            callbacks=[l2keras.RegularizationLogger(strengths=True)],
        )
        return model, history.history

    def _print(self, text: str) -> None:
        self.console.print(text, soft_wrap=True)


def build_model(strength: Any) -> keras.Model:
    """The model of the search: one strength of L2 for both kernels."""
    return documented_model(l2keras.L2(strength), l2keras.L2(strength))


def documented_model(
    hidden: l2keras.Regularizer,
    output: l2keras.Regularizer | None,
    optimizer: keras.optimizers.Optimizer | None = None,
) -> keras.Model:
    """Dense(64, relu) and Dense(3, softmax) on 10 inputs, compiled.

    Args:
        hidden: The regularizer of the first kernel.
        output: That of the second.
        optimizer: Defaults to Adam.
    """
    model = keras.Sequential(
        [
            keras.Input((10,)),
            keras.layers.Dense(
                64, activation="relu", kernel_regularizer=hidden, name="hidden"
            ),
            keras.layers.Dense(
                3,
                activation="softmax",
                kernel_regularizer=output,
                name="output",
            ),
        ]
    )
    model.compile(
        optimizer or keras.optimizers.Adam(LEARNING_RATE),
        "categorical_crossentropy",
        metrics=["accuracy"],
    )
    return model


def _patients(seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """The rows to train on and to test, x standardized and y one-hot."""
    x, progression = load_diabetes(return_X_y=True)
    thirds = np.quantile(progression, [1 / 3, 2 / 3])
    y = keras.utils.to_categorical(np.digitize(progression, thirds))
    x_train, x_test, y_train, y_test = train_test_split(
        x, y, test_size=2 / 3, random_state=seed, stratify=y
    )
    # By the training part alone: the other must stay unseen.
    mean, deviation = x_train.mean(axis=0), x_train.std(axis=0)
    return [
        ((x_train - mean) / deviation, y_train),
        ((x_test - mean) / deviation, y_test),
    ]


def _new_table(*columns: str) -> rich.table.Table:
    """A table of numbers, but for its first column."""
    table = rich.table.Table(box=rich.box.SIMPLE_HEAD, padding=(0, 1))
    for index, column in enumerate(columns):
        table.add_column(column, justify="right" if index else "left")
    return table


def _loss_table(history: History) -> rich.table.Table:
    """The history, at most a dozen of its epochs."""
    columns = {
        "Loss": "loss",
        "Data loss": "data_loss",
        "Regulariza-\ntion loss": "regularization_loss",
        "Strength\nhidden": "strength/hidden/kernel",
        "Strength\noutput": "strength/output/kernel",
        "Test data\nloss": "val_data_loss",
    }
    table = _new_table("Epoch", *columns)
    epochs = len(history["loss"])
    for epoch in np.unique(np.linspace(1, epochs, 12).round().astype(int)):
        values = (history[key][epoch - 1] for key in columns.values())
        table.add_row(str(epoch), *(f"{value:.4f}" for value in values))
    return table


def _write_csv(history: History, path: pathlib.Path) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["epoch", *history])
        for epoch, row in enumerate(zip(*history.values(), strict=True), 1):
            writer.writerow([epoch, *row])
