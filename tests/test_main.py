"""The demonstration and `inspect` on the command line."""

import contextlib
import csv
import io
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

import l2keras
from l2keras.__main__ import main

ROOT = Path(l2keras.__file__).parents[1]


def demonstrate(folder):
    """Returns the output of the demonstration."""
    printed = io.StringIO()
    arguments = ["--epochs", "3", "--seed", "5", "--output", str(folder)]
    with contextlib.redirect_stdout(printed):
        assert main(arguments) == 0
    return printed.getvalue()


@pytest.fixture(scope="module")
def demonstrated(tmp_path_factory):
    """Returns the output of the demonstration, and the folder it writes."""
    folder = tmp_path_factory.mktemp("demonstrated") / "out"
    return demonstrate(folder), folder


def test_demonstration_trains_saves_and_reloads(demonstrated):
    printed, folder = demonstrated
    assert keras.backend.backend() in printed
    assert "device: " in printed
    assert "same to the last bit" in printed

    with (folder / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    for row in rows:
        assert float(row["loss"]) == pytest.approx(
            float(row["data_loss"]) + float(row["regularization_loss"]),
            rel=1e-6,
        )
    strengths = [float(row["strength/hidden/kernel"]) for row in rows]
    # As each epoch ends: it rises over the first half of the training.
    assert 0 < strengths[0] < strengths[1] <= strengths[2]
    chosen = float(re.search(r"Best: strength (\S+) after", printed)[1])
    assert strengths[2] == pytest.approx(chosen, rel=0.05)

    for picture in ("gain", "losses", "strengths", "units"):
        content = (folder / f"{picture}.png").read_bytes()
        assert content.startswith(b"\x89PNG")
    model = keras.saving.load_model(folder / "model.keras")
    assert [layer.units for layer in model.layers] == [64, 3]
    assert model.input_shape == (None, 10)

    assert re.search(r"\n hidden +64 +\d+\n", printed)
    change = re.search(r"two models differ by (\S+) at most", printed)[1]
    assert float(change) < 1e-5


def test_demonstration_compares_the_chosen_strength_with_no_penalty(
    demonstrated,
):
    printed, _ = demonstrated
    rows = re.findall(
        r"^ +(no penalty|L2\(\S+\)).* (\d+) +(\S+) +(\S+) *$",
        printed,
        re.MULTILINE,
    )
    assert [name for name, *_ in rows[:2]] == ["no penalty"] * 2
    assert len(rows) == 4
    for _, epochs, loss, accuracy in rows:
        assert 1 <= int(epochs) <= 3
        assert 0 < float(loss) < 2
        assert 0 <= float(accuracy) <= 1
    lines = [line for line in printed.splitlines() if "/" not in line]
    assert max(len(line) for line in lines) <= 80


@pytest.mark.slow
def test_same_seed_gives_the_same_history(demonstrated, tmp_path):
    demonstrate(tmp_path)
    first, second = (
        np.genfromtxt(folder / "history.csv", delimiter=",")
        for folder in (demonstrated[1], tmp_path)
    )
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize(
    ("argument", "value", "message"),
    [
        ("--epochs", "0", "argument --epochs: must be at least 1. Received: 0"),
        ("--epochs", "many", "argument --epochs: invalid integer value"),
        (
            "--strength",
            "-1",
            "argument --strength: Argument `strength` must be a finite number "
            ">= 0. Received: strength=-1.0",
        ),
        ("--seed", "-1", "argument --seed: must be at least 0. Received: -1"),
        (
            "--seed",
            "4294967296",
            "argument --seed: must be at most 4294967295. Received: 4294967296",
        ),
    ],
)
def test_bad_options_are_refused(argument, value, message, capsys):
    with pytest.raises(SystemExit) as stop:
        main([argument, value])
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "hint"),
    [("--epocs", " (did you mean --epochs?)"), ("--zzz", "")],
)
def test_an_unknown_option_is_named(option, hint, capsys):
    with pytest.raises(SystemExit) as stop:
        main([option, "3"])
    assert stop.value.code == 2
    assert f"unrecognized option: {option}{hint}\n" in capsys.readouterr().err


def test_the_version_is_printed(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--version"])
    assert stop.value.code == 0
    assert capsys.readouterr().out.startswith(f"l2keras {l2keras.__version__}")


@pytest.mark.slow
def test_an_interrupt_leaves_no_traceback(tmp_path):
    # A shell that starts tests in the background has them ignore the signal.
    program = (
        "import runpy, signal\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "runpy.run_module('l2keras', run_name='__main__', alter_sys=True)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, "--epochs", "10000"],
        cwd=tmp_path,
        env={
            **os.environ,
            "KERAS_BACKEND": keras.backend.backend(),
            "PYTHONPATH": str(ROOT),
            "PYTHONUNBUFFERED": "1",
        },
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    process.stdout.readline()  # It has begun.
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=600)
    assert err.endswith("Interrupted.\n")
    assert "Traceback" not in err
    assert process.returncode == 130


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        ("file", "File exists"),
        ("file/folder", "Not a directory"),
        pytest.param(
            "/proc",  # No file can be made there, not even by root.
            "No such file or directory",
            marks=pytest.mark.skipif(
                sys.platform != "linux", reason="There is no /proc."
            ),
        ),
    ],
)
def test_a_folder_that_cannot_be_written_is_refused_before_training(
    output, reason, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("kept")
    assert main(["--output", output]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == (
        "Argument `--output` must be a folder that can be written to. "
        f"Received: {output} ({reason})\n"
    )
    assert Path("file").read_text() == "kept"


@pytest.fixture
def saved(tmp_path):
    """Returns the path of a saved model."""
    path = tmp_path / "model.keras"
    regularizer = l2keras.L2(0.1)
    keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(3, kernel_regularizer=regularizer),
        ]
    ).save(path)
    return path


def test_a_damaged_file_cannot_be_inspected(saved, capsys):
    content = bytearray(saved.read_bytes())
    # One letter of the configuration, which is not compressed.
    content[content.index(b"Sequential")] ^= 1
    saved.write_bytes(content)
    assert main(["inspect", str(saved)]) == 1
    assert capsys.readouterr().err == (
        f"{saved} cannot be inspected: BadZipFile: Bad CRC-32 for file "
        "'config.json'\n"
    )


@pytest.mark.slow
def test_a_closed_pipe_leaves_no_traceback(saved):
    reader, writer = os.pipe()
    os.close(reader)  # As `head` does when it has seen enough.
    process = subprocess.Popen(
        [sys.executable, "-m", "l2keras", "inspect", saved],
        cwd=ROOT,
        env={**os.environ, "KERAS_BACKEND": keras.backend.backend()},
        text=True,
        stdout=writer,
        stderr=subprocess.PIPE,
    )
    os.close(writer)
    _, err = process.communicate(timeout=600)
    assert "BrokenPipeError" not in err
    assert "Traceback" not in err
    assert process.returncode == 1
