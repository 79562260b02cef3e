"""README's examples print their documented output."""

import pathlib
import re
import tomllib

import keras
import numpy as np
import pytest
from packaging.version import Version

import l2keras

ROOT = pathlib.Path(__file__).parents[1]
README = ROOT / "README.md"


def blocks(language):
    return re.findall(
        rf"^```{language}\n(.*?)^```", README.read_text(), re.M | re.S
    )


def test_the_example_prints_the_documented_output(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    (example,) = blocks("python")
    exec(compile(example, str(README), "exec"), {})
    printed = capsys.readouterr().out.splitlines()
    (promised,) = blocks("text")
    promised = promised.splitlines()
    # From Keras 3.16 on, `fit` on TensorFlow has the rows in another order.
    is_older = Version(keras.__version__).release < (3, 16)
    tolerance = 3e-3 if is_older else 1e-2
    assert len(printed) == len(promised)
    for line, promise in zip(printed[:-1], promised[:-1], strict=True):
        name, *numbers = line.split()
        other_name, *other_numbers = promise.split()
        assert name == other_name
        # Initial weights differ from backend to backend; strengths do not.
        if keras.backend.backend() == "tensorflow" or "strength" in name:
            np.testing.assert_allclose(
                np.float64(numbers), np.float64(other_numbers), atol=tolerance
            )
    assert printed[-1] == promised[-1] == "True"


def test_links_lead_to_existing_files():
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", README.read_text())
    assert links
    for link in links:
        assert (ROOT / link).exists(), link


@pytest.mark.parametrize("folder", ["docs/guides", "notebooks"])
def test_every_guide_and_notebook_has_a_link(folder):
    links = re.findall(rf"\]\(({folder}/[^)#]+)", README.read_text())
    files = [*(ROOT / folder).glob("*.md"), *(ROOT / folder).glob("*.ipynb")]
    assert set(links) == {f"{folder}/{each.name}" for each in files}


def test_links_hold_on_a_package_index():
    # The page there: README as the build changes it.
    build = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"][
        "hatch"
    ]
    shown = README.read_text()
    readme = build["metadata"]["hooks"]["fancy-pypi-readme"]
    for rule in readme["substitutions"]:
        shown = re.sub(rule["pattern"], rule["replacement"], shown)
    home = "https://github.com/l2keras/l2keras/blob/main/"
    assert f"]({home}benchmarks/README.md)" in shown
    files = "https://raw.githubusercontent.com/l2keras/l2keras/main/"
    assert re.findall(r"!\[[^]]*\]\(([^)]*)\)", shown) == [
        f"{files}docs/gain.png"
    ]
    assert re.findall(r"\]\((?!https://|#)", shown) == []


def test_ci_runs_the_commands_that_readme_gives():
    # Those that install and do something; the others install a backend only.
    given = re.findall(r"^pip install .* && .*$", README.read_text(), re.M)
    run = re.findall(r"readme '(.*)'$", (ROOT / ".ci/run").read_text(), re.M)
    assert given == run
    assert given == [
        'pip install ".[demo]" && python -m l2keras',
        'pip install ".[test]" && pytest',
    ]


def test_slow_tests_run_on_one_backend():
    script = (ROOT / ".ci/run").read_text()
    parts = dict(
        re.findall(r"^part_(\w+)\(\) \{\n(.*?)^\}", script, re.M | re.S)
    )
    tested = {
        name: '-m ""' in text
        for name, text in parts.items()
        if re.search(r"^.*\b(tests|pytest)\b( |$|')", text, re.M)
    }
    assert tested == {
        "tensorflow": False,
        "ecosystem": False,
        "jax": False,
        "torch": True,
        "accelerator": False,
        "oldest": False,
        "nightly": True,
    }


def test_the_workflow_runs_every_part():
    script = (ROOT / ".ci/run").read_text()
    workflow = (ROOT / ".github/workflows/ci.yml").read_text()
    (everything,) = re.findall(r"^all=\((.*)\)$", script, re.M)
    (matrix,) = re.findall(r"^ +part: \[(.*)\]$", workflow, re.M)
    assert matrix.split(", ") == everything.split()
    # Each is a function of the script, and nightly is one more.
    parts = re.findall(r"^part_(\w+)\(\)", script, re.M)
    assert sorted(parts) == sorted([*everything.split(), "nightly"])
    assert ".ci/run nightly" in workflow


def test_the_citation_names_the_version_there_is():
    citation = (ROOT / "CITATION.cff").read_text()
    assert f"\nversion: {l2keras.__version__}\n" in citation
