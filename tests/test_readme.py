"""The README's example runs, and prints what the README says."""

import pathlib
import re
import warnings

import keras
import numpy as np
import pytest

README = pathlib.Path(__file__).parents[1] / "README.md"


def blocks(language):
    return re.findall(
        rf"^```{language}\n(.*?)^```", README.read_text(), re.M | re.S
    )


def test_example_prints_what_it_says(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    example, built, tuned = blocks("python")
    names = {}
    exec(compile(example, str(README), "exec"), names)
    printed = capsys.readouterr().out.splitlines()
    (promised,) = blocks("text")
    promised = promised.splitlines()
    assert len(printed) == len(promised)
    for line, promise in zip(printed[:-1], promised[:-1], strict=True):
        name, *numbers = line.split()
        other_name, *other_numbers = promise.split()
        assert name == other_name
        # Initial weights differ from backend to backend; strengths do not.
        if keras.backend.backend() == "tensorflow" or "strength" in name:
            np.testing.assert_allclose(
                np.float64(numbers), np.float64(other_numbers), atol=3e-3
            )
    assert printed[-1] == promised[-1] == "True"

    exec(compile(built, str(README), "exec"), names)
    assert len(names["backbone"].losses) == 53  # Of 54 kernels.
    assert "No penalty" in capsys.readouterr().out
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The best strength, .* at the edge")
        exec(compile(tuned, str(README), "exec"), names)
    assert names["result"].validation_loss.shape == (32, 5, 20)
    assert names["result"].one_by_one is None


def test_links_lead_somewhere():
    links = re.findall(r"\]\(([^)h#][^)]*)\)", README.read_text())
    assert links
    for link in links:
        assert (README.parent / link).exists(), link


@pytest.mark.parametrize(
    "command",
    [
        'pip install ".[demo]" && python -m l2keras',
        'pip install ".[test]" && pytest',
    ],
)
def test_readme_gives_the_commands_that_ci_runs(command):
    assert f"\n{command}\n" in README.read_text()
