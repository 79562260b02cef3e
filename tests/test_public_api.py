"""What `import l2keras` offers, what it costs, and who imports whom."""

import ast
import importlib
import inspect
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

# The folders in the order in which they may import: a module may import those
# of its own folder and of the folders before it. Leaves know no folder.
FOLDERS = [
    "leaves",
    "_keras",
    "weights",
    "strengths",
    "regularizers",
    "optimizers",
    "models",
    "compaction",
    "training",
    "tuning/stack",
    "tuning",
    "face",
]
LEAVES = ["_tables", "_types", "_validation", "plots", "reference"]
FACE = ["__init__", "__main__", "demonstration", "sklearn"]

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
    # Importing the package does not import these: a program, and estimators.
    [
        path
        for path in FILES
        if path.name not in ("demonstration.py", "sklearn.py")
    ],
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


def room(module):
    """Returns the folder of a module, given by its dotted name."""
    first, *rest = module.split(".")[1:] or ["__init__"]
    if first in LEAVES:
        return "leaves"
    # A folder in a folder is a room of its own.
    if rest and f"{first}/{rest[0]}" in FOLDERS:
        return f"{first}/{rest[0]}"
    return "face" if first in FACE else first


def module_of(path):
    """Returns the dotted name of the module in a file of the package."""
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts)


def modules_imported(path):
    """Returns the modules of the package that a file imports, even lazily."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        for name in imported(node):
            assert not name.startswith("."), f"{path}: import by full name"
            if name.partition(".")[0] == "l2keras":
                found.add(name)
    return found


def test_every_module_has_a_room():
    assert {room(module_of(path)) for path in FILES} == set(FOLDERS)


@pytest.mark.parametrize(
    "path", FILES, ids=lambda path: str(path.relative_to(PACKAGE))
)
def test_imports_go_down(path):
    own = FOLDERS.index(room(module_of(path)))
    upward = {
        name
        for name in modules_imported(path)
        if FOLDERS.index(room(name)) > own
    }
    assert upward == set()


def test_everything_but_one_room_keeps_to_the_public_keras():
    pattern = (
        r"\b(model|layer|optimizer|metric|variable|cell|super\(\))\._[a-z]"
    )
    found = [
        f"{module_of(path)}:{number}: {line.strip()}"
        for path in FILES
        if room(module_of(path)) != "_keras"
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
    logger = PACKAGE / "training" / "logger.py"
    assert logger in FILES
    assert any(
        room(name) == "models"
        for path in FILES
        if path.parent == logger.parent
        for name in modules_imported(path)
    )
