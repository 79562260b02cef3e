"""What `import l2keras` offers, what it costs, and who imports whom."""

import ast
import importlib
import inspect
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import keras
import pytest

import l2keras

BACKEND = keras.backend.backend()
PACKAGE = Path(l2keras.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
MODULES = sorted(each.name for each in pkgutil.iter_modules([str(PACKAGE)]))
PUBLIC = [name for name in MODULES if not name.startswith("_")]

# Whom a module may import: those of a lower rank. The modules of one rank do
# not know each other. One that does not exist yet is simply not found.
RANKS = {
    name: rank
    for rank, names in enumerate(
        [
            ["_types"],
            ["_validation", "_backend", "_tables", "reference", "plots"],
            ["_tuned_strength"],
            ["_strength"],
            ["schedules", "_clock"],
            ["regularizers"],
            ["_keras_private"],
            ["_paths", "_metrics", "_cross_validation"],
            ["_kinds", "_control"],
            ["_regularized_layer", "_decayed_weights"],
            ["_training", "_replica", "_stackable"],
            ["_stack"],
            ["_stack_jax", "_stack_tensorflow", "_stack_torch"],
            ["callbacks", "apply", "audit", "conversions", "weight_decay"],
            ["_trainers"],
            ["_backup"],
            ["_search"],
            ["tuning"],
            ["__init__"],
            ["_demonstration"],
            ["__main__"],
        ]
    )
    for name in names
}

# What may be slow to import, or not be there.
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


@pytest.mark.parametrize("name", PUBLIC)
def test_all_that_a_public_module_defines_is_in_the_public_list(name):
    if name in l2keras.__all__:  # Offered as a module, as `reference` is.
        return
    assert defined(name) - set(l2keras.__all__) == set()


def test_the_public_list_names_what_there_is_once():
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


def test_the_public_list_is_sorted():
    # As ruff's RUF022: constants, classes, and the rest.
    def key(name):
        return (not name.isupper(), not name[0].isupper(), name)

    assert l2keras.__all__ == sorted(l2keras.__all__, key=key)


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


def test_there_is_a_version():
    assert re.fullmatch(r"\d+\.\d+\.\d+", l2keras.__version__)


def test_the_package_says_that_it_is_typed():
    assert (PACKAGE / "py.typed").exists()


# What importing costs ---------------------------------------------------------


def test_importing_brings_in_only_what_keras_does():
    # Keras itself brings in more than the backend where it is installed, so
    # what it has loaded is not looked at.
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
    # The demonstration is a program: importing the package does not import it.
    [path for path in FILES if path.name != "_demonstration.py"],
    ids=lambda path: path.name,
)
def test_frameworks_are_imported_in_functions_only(path):
    # As Keras may have loaded them all, the test above cannot see this.
    tree = ast.parse(path.read_text(encoding="utf-8"))
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


# The house --------------------------------------------------------------------


def imported(node):
    """Returns the dotted names that an import statement imports."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        if node.level:
            return [f"{'.' * node.level}{node.module or ''}"]
        return [f"{node.module}.{alias.name}" for alias in node.names]
    return []


def modules_imported(path):
    """Returns the modules of the package that a file imports, even lazily."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        for name in imported(node):
            assert not name.startswith("."), f"{path}: import by full name"
            first, *rest = name.split(".")
            if first == "l2keras":
                found.add(rest[0] if rest and rest[0] in RANKS else "__init__")
    return found


def test_every_module_has_a_rank():
    assert {path.stem for path in FILES} <= set(RANKS)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_imports_go_down(path):
    upward = {
        other
        for other in modules_imported(path)
        if RANKS[other] >= RANKS[path.stem]
    }
    assert upward == set()


def test_everything_but_one_file_keeps_to_the_public_keras():
    pattern = (
        r"\b(model|layer|optimizer|metric|variable|cell|super\(\))\._[a-z]"
    )
    found = [
        f"{path.name}:{number}: {line.strip()}"
        for path in FILES
        if path.name != "_keras_private.py"
        for number, line in enumerate(
            path.read_text(encoding="utf-8").splitlines(), start=1
        )
        if re.search(pattern, line)
    ]
    assert found == []


def test_nothing_imports_from_keras_src():
    for path in FILES:
        assert "keras.src" not in path.read_text(encoding="utf-8"), path


def test_no_module_is_asserted_away():
    # The tests above would pass on an empty folder.
    assert {"__init__", "regularizers", "_keras_private"} <= {
        path.stem for path in FILES
    }
    assert modules_imported(PACKAGE / "callbacks.py") >= {"_training"}
