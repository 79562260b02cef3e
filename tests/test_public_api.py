"""The public names of l2keras, and the cost of importing it."""

import ast
import importlib
import inspect
import subprocess
import sys

import keras
import pytest

import l2keras
from tests.support.package_sources import FILES, PACKAGE, imported, parsed

BACKEND = keras.backend.backend()

# Modules that may be slow to import, or missing.
HEAVY = ["tensorflow", "jax", "torch", "sklearn", "matplotlib", "pandas"]


# The public list --------------------------------------------------------------


def defined(name):
    """Returns the public classes and functions that a module defines."""
    module = importlib.import_module(f"l2keras.{name}")
    return {
        key
        for key, value in vars(module).items()
        if not key.startswith("_")
        and (inspect.isclass(value) or inspect.isfunction(value))
        and value.__module__ == module.__name__
    }


def test_the_public_list_names_existing_objects_once():
    assert all(hasattr(l2keras, name) for name in l2keras.__all__)
    assert len(set(l2keras.__all__)) == len(l2keras.__all__)
    assert not any(name.startswith("_") for name in l2keras.__all__)


def test_the_public_list_is_all_that_the_package_imports():
    visible = {
        name
        for name, value in vars(l2keras).items()
        if not name.startswith("_") and not inspect.ismodule(value)
    }
    assert visible == {
        name
        for name in l2keras.__all__
        if not inspect.ismodule(getattr(l2keras, name))
    }


def documented():
    """Returns name and value of everything public, functions of modules too."""
    for name in l2keras.__all__:
        value = getattr(l2keras, name)
        yield name, value
        if inspect.ismodule(value):
            for each in sorted(defined(name)):
                yield f"{name}.{each}", getattr(value, each)


@pytest.mark.parametrize(
    "value", [pytest.param(value, id=name) for name, value in documented()]
)
def test_everything_public_is_documented(value):
    text = value.__doc__
    assert text
    summary, *rest = text.splitlines()
    assert summary.endswith(".")
    assert rest[:1] in ([], [""])
    if not inspect.ismodule(value):
        # The lines that tests run by `--doctest-modules`.
        assert "    Example:\n\n    >>> " in text


def test_arguments_are_documented_by_their_names():
    for name, value in documented():
        if not inspect.isclass(value) or name == "reference":
            continue
        for argument in list(inspect.signature(value).parameters):
            assert f"        {argument}: " in value.__doc__, (name, argument)


def test_the_package_is_marked_as_typed():
    assert (PACKAGE / "py.typed").exists()


# The cost of importing --------------------------------------------------------


def test_importing_loads_no_framework_that_keras_has_not():
    # Keras itself brings in more than the backend where it is installed, so
    # those that it has loaded are not looked at.
    program = f"""
import sys
import keras
before = set(sys.modules)
import l2keras
after = {{name.partition(".")[0] for name in set(sys.modules) - before}}
print(sorted(after & set({HEAVY!r})))
print(sorted({{"tensorflow", "jax", "torch"}} & set(sys.modules) - before))
"""
    result = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        cwd=PACKAGE.parent,
    )
    assert result.stdout.splitlines() == ["[]", "[]"]


@pytest.mark.parametrize(
    "path",
    # Importing the package does not import these: a program, and estimators.
    # The file of a backend in `_keras` is imported where that is at work.
    [
        path
        for path in FILES
        if path.name not in ("demonstration.py", "sklearn.py")
        and not (path.parent.name == "_keras" and path.name.startswith("in_"))
    ],
    ids=lambda path: path.name,
)
def test_frameworks_are_imported_in_functions_only(path):
    # As Keras may have loaded them all, the test above cannot see this.
    tree = parsed(path)
    not_run = {
        node
        for block in ast.walk(tree)
        if isinstance(block, ast.FunctionDef)
        or (
            isinstance(block, ast.If)
            and "TYPE_CHECKING" in ast.dump(block.test)
        )
        for node in ast.walk(block)
    }
    run = {
        name.partition(".")[0]
        for node in ast.walk(tree)
        if node not in not_run
        for name in imported(node)
    }
    assert run & set(HEAVY) == set()
