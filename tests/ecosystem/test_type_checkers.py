"""Type checkers find no error in a right program, and those in a wrong one."""

import json
import os
import re
import subprocess
import sys

import pytest

from tests.support.processes import PROGRAMS, ROOT


def lines_by_mypy(path):
    pytest.importorskip("mypy")
    # Keras has no types that mypy could look up.
    options = ["--ignore-missing-imports", "--follow-imports=silent"]
    command = [sys.executable, "-m", "mypy", *options, path.name]
    return lines_with_errors(command, path, MYPYPATH=str(ROOT))


def lines_by_pyright(path):
    pytest.importorskip("pyright")
    settings = {"extraPaths": [str(ROOT)]}
    (path.parent / "pyrightconfig.json").write_text(json.dumps(settings))
    python = ["--pythonpath", sys.executable]
    command = [sys.executable, "-m", "pyright", *python, path.name]
    return lines_with_errors(command, path)


def lines_with_errors(command, path, **environment):
    result = subprocess.run(
        command,
        cwd=path.parent,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=1800,
    )
    found = re.findall(rf"{path.name}:(\d+):.*\berror\b", result.stdout)
    # A checker that cannot run finds none.
    assert result.returncode == (1 if found else 0), result.stdout
    return sorted(set(map(int, found)))


@pytest.mark.parametrize("check", [lines_by_mypy, lines_by_pyright])
@pytest.mark.parametrize("name", ["typed_right", "typed_wrong"])
def test_wrong_types_in_a_program_are_flagged(check, name, tmp_path):
    path = tmp_path / f"{name}.py"
    path.write_text((PROGRAMS / path.name).read_text())
    expected = [
        number
        for number, line in enumerate(path.read_text().splitlines(), start=1)
        if line.endswith("# wrong")
    ]
    assert bool(expected) == (name == "typed_wrong")
    assert check(path) == expected
