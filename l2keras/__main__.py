"""The command line: `python -m l2keras`, options with `--help`."""

import argparse
import difflib
import importlib
import os
import pathlib
import re
import sys
import tempfile
from collections.abc import Callable, Sequence

import keras

import l2keras
from l2keras import _validation


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command that the arguments name; returns the exit status."""
    arguments = _parse(argv)
    if arguments.command == "inspect":
        return _inspect(arguments.file, arguments.modules)
    try:
        # Before the training, which would be lost.
        _make_writable(arguments.output)
    except OSError as error:
        return _refuse(
            "Argument `--output` must be a folder that can be written to. "
            f"Received: {arguments.output} ({error.strerror})",
            2,
        )
    # Here, since it needs packages that inspecting does not.
    from l2keras.demonstration import Demonstration

    return Demonstration(arguments).run()


def _inspect(file: pathlib.Path, modules: Sequence[str]) -> int:
    """Prints the regularization of a saved model."""
    if not file.exists():
        return _refuse(f"There is no file {file}", 2)
    if file.suffix != ".keras" or not file.is_file():
        # An `.h5` file can hold code that some versions of Keras run.
        return _refuse(f"There must be a `.keras` file. Received: {file}", 2)
    for module in modules:
        try:
            importlib.import_module(module)
        except Exception as error:
            return _refuse(f"{module} cannot be imported: {_reason(error)}", 2)
    try:
        model = _load(file)
    except Exception as error:  # A damaged file can lead Keras into any.
        return _refuse(f"{file} cannot be inspected: {_reason(error)}", 1)
    try:
        l2keras.summary(model)
    except ValueError as error:
        return _refuse(f"{file} cannot be inspected: {error}", 1)
    return 0


def _refuse(message: str, status: int) -> int:
    """Prints why nothing was done; returns the exit status."""
    print(message, file=sys.stderr)
    return status


def _load(file: pathlib.Path) -> keras.Model:
    try:
        return keras.saving.load_model(file, safe_mode=True)
    except Exception as error:
        # A loss or a metric that is not known here takes nothing away.
        model = keras.saving.load_model(file, safe_mode=True, compile=False)
        print(f"Loaded without its optimizer: {_reason(error)}")
        return model


def _reason(error: BaseException) -> str:
    """The first error of a chain: Keras wraps errors in errors."""
    while error.__context__ is not None:
        error = error.__context__
    first, *_ = str(error).splitlines() or [""]
    first = first.partition(" Full object config")[0]
    return f"{type(error).__name__}: {first}"


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m l2keras",
        description=(
            "Trains Dense(64, relu) and Dense(3, softmax) on scikit-learn's "
            "diabetes data. Chooses the strength of L2 by cross-validation, "
            "and compares it with no penalty on patients held out. Logs the "
            "two parts of the loss under a strength that rises, saves the "
            "model, reloads it and compares. Then removes the units that "
            "GroupLasso zeroes."
        ),
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument(
        "--version",
        action="version",
        version=f"l2keras {l2keras.__version__}, Keras {keras.__version__} on "
        f"{keras.backend.backend()}",
    )
    parser.add_argument(
        "--epochs", type=_integer(1), default=60, help="passes over the data"
    )
    parser.add_argument(
        "--strength",
        type=_strength,
        help="the strength of the model that is logged and saved, if not the "
        "one that is chosen",
    )
    parser.add_argument(
        "--batch-size", type=_integer(1), default=32, help="patients per step"
    )
    parser.add_argument(
        "--seed",
        type=_integer(0, 2**32 - 1),  # The seeds that NumPy accepts.
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
        help="print the regularization of a saved model",
        description="Prints the regularization of a saved model. No code "
        "that the file may hold is run.",
    )
    inspect.add_argument("file", type=pathlib.Path, help="a `.keras` file")
    inspect.add_argument(
        "--import",
        dest="modules",
        action="append",
        default=[],
        metavar="MODULE",
        help="a module that registers layers or regularizers of your own; may "
        "be given several times",
    )
    argv = sys.argv[1:] if argv is None else argv
    _check_options(parser, argv, parser.format_help() + inspect.format_help())
    return parser.parse_args(argv)


def _check_options(
    parser: argparse.ArgumentParser, argv: Sequence[str], help_texts: str
) -> None:
    """Names an option that is not known, whose value argparse would blame."""
    known = re.findall(r"--[\w-]+", help_texts)
    for argument in argv:
        option = argument.partition("=")[0]
        if not option.startswith("--") or any(
            each.startswith(option) for each in known
        ):
            continue
        close = difflib.get_close_matches(option, known, n=1)
        hint = f" (did you mean {close[0]}?)" if close else ""
        parser.error(f"unrecognized option: {option}{hint}")


def _integer(minimum: int, maximum: int | None = None) -> Callable[[str], int]:
    """A parser of integers in this range."""

    def integer(text: str) -> int:
        value = int(text)
        if value < minimum:
            raise argparse.ArgumentTypeError(
                f"must be at least {minimum}. Received: {value}"
            )
        if maximum is not None and value > maximum:
            raise argparse.ArgumentTypeError(
                f"must be at most {maximum}. Received: {value}"
            )
        return value

    return integer


def _strength(text: str) -> float:
    try:
        return _validation.check_number(float(text), "strength")
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _make_writable(folder: pathlib.Path) -> None:
    """Makes a folder and tries to write to it.

    Raises:
        OSError: If either cannot be done.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder):
        pass


def _program() -> int:
    """Runs `main` as a member of a pipeline."""
    try:
        try:
            return main()
        finally:
            # Not left to the end of Python, where nothing can be caught.
            sys.stdout.flush()
    except BrokenPipeError:
        # The reader has closed the pipe, as `head` does. The rest, which is
        # flushed when Python ends, must go somewhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        return _refuse("Interrupted.", 130)  # As shells have it.


if __name__ == "__main__":
    sys.exit(_program())
