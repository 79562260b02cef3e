"""The command line: `python -m l2keras`, options with `--help`."""

import argparse
import pathlib
import sys
from collections.abc import Callable, Sequence

import keras

import l2keras
from l2keras import _validation


def main(argv: Sequence[str] | None = None) -> int:
    """Does what the arguments ask for; returns the exit status."""
    arguments = _parse(argv)
    if arguments.command == "inspect":
        return _inspect(arguments.file)
    # Here, since it needs packages that inspecting does not.
    from l2keras.demonstration import demonstrate

    return demonstrate(arguments)


def _inspect(file: pathlib.Path) -> int:
    """Prints the regularization of a saved model."""
    if file.suffix != ".keras" or not file.is_file():
        # An `.h5` file can hold code that some versions of Keras run.
        print(f"There must be a `.keras` file. Received: {file}")
        return 2
    try:
        model = _load(file)
        l2keras.summary(model)
    except (TypeError, ValueError, KeyError) as error:
        print(f"{file} cannot be inspected: {_reason(error)}")
        return 1
    return 0


def _load(file: pathlib.Path) -> keras.Model:
    try:
        return keras.saving.load_model(file, safe_mode=True)
    except (TypeError, ValueError) as error:
        # A loss or a metric that is not known here takes nothing away.
        model = keras.saving.load_model(file, safe_mode=True, compile=False)
        print(f"Loaded without its optimizer: {_reason(error)}")
        return model


def _reason(error: BaseException) -> str:
    """Returns what an error began with: Keras wraps errors in errors."""
    while error.__context__ is not None:
        error = error.__context__
    first = str(error).splitlines()[0].partition(" Full object config")[0]
    return f"{type(error).__name__}: {first}"


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m l2keras",
        description=(
            "Trains Dense(64, relu) and Dense(3, softmax) on scikit-learn's "
            "wine data: 178 wines of three kinds. The first layer's penalty "
            "rises from zero over the first half of the training, the "
            "second's is constant. Saves the model, reloads it and compares. "
            "Then chooses a strength by cross-validation."
        ),
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument(
        "--epochs", type=_at_least(1), default=20, help="passes over the data"
    )
    parser.add_argument(
        "--strength",
        type=_strength,
        default=0.01,
        help="what the first layer's strength rises to; a tenth of it is the "
        "second layer's",
    )
    parser.add_argument(
        "--batch-size", type=_at_least(1), default=16, help="wines per step"
    )
    parser.add_argument(
        "--seed",
        type=_at_least(0),
        default=0,
        help="of the weights, the split of the data and its order",
    )
    parser.add_argument(
        "--output",
        type=pathlib.Path,
        default=pathlib.Path("l2keras-demo"),
        help="folder for the model, the history and the figures",
    )
    commands = parser.add_subparsers(dest="command", title="another command")
    inspect = commands.add_parser(
        "inspect",
        help="print what regularization a saved model has",
        description="Prints what regularization a saved model has. No code "
        "that the file may hold is run.",
    )
    inspect.add_argument("file", type=pathlib.Path, help="a `.keras` file")
    return parser.parse_args(argv)


def _at_least(minimum: int) -> Callable[[str], int]:
    def integer(text: str) -> int:
        value = int(text)
        if value < minimum:
            raise argparse.ArgumentTypeError(f"must be at least {minimum}")
        return value

    return integer


def _strength(text: str) -> float:
    try:
        return _validation.check_number(float(text), "strength")
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


if __name__ == "__main__":
    sys.exit(main())
