"""The demonstration does what it says, and refuses what makes no sense."""

import csv

import keras
import numpy as np
import pytest

from l2keras.__main__ import main


def test_demonstration_trains_saves_and_reloads(tmp_path, capsys):
    assert main(["--epochs", "3", "--output", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    assert keras.backend.backend() in printed
    assert "device: " in printed
    assert "same to the last bit" in printed

    with (tmp_path / "out" / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    for row in rows:
        assert float(row["loss"]) == pytest.approx(
            float(row["data_loss"]) + float(row["regularization_loss"]),
            rel=1e-6,
        )
    strengths = [float(row["strength/hidden/kernel"]) for row in rows]
    assert strengths[0] < strengths[1] < strengths[2] <= 0.01 * (1 + 1e-6)

    picture = (tmp_path / "out" / "losses.png").read_bytes()
    assert picture.startswith(b"\x89PNG")
    model = keras.saving.load_model(tmp_path / "out" / "model.keras")
    assert [layer.units for layer in model.layers] == [64, 3]
    assert model.input_shape == (None, 13)


def test_same_seed_gives_the_same_history(tmp_path):
    for name in ("a", "b"):
        main(["--epochs", "2", "--seed", "5", "--output", str(tmp_path / name)])
    first, second = (
        np.genfromtxt(tmp_path / name / "history.csv", delimiter=",")
        for name in ("a", "b")
    )
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize(
    ("argument", "value", "message"),
    [
        ("--epochs", "0", "argument --epochs: must be at least 1"),
        ("--epochs", "many", "argument --epochs: invalid integer value"),
        (
            "--strength",
            "-1",
            "argument --strength: Argument `strength` must be a finite number "
            ">= 0. Received: strength=-1.0",
        ),
        ("--seed", "-1", "argument --seed: must be at least 0"),
    ],
)
def test_bad_options_are_refused(argument, value, message, capsys):
    with pytest.raises(SystemExit) as stop:
        main([argument, value])
    assert stop.value.code == 2
    assert message in capsys.readouterr().err
