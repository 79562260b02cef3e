"""The rooms of the package: their imports, and the use of private Keras."""

import ast

import pytest

from tests.support.package_sources import (
    FILES,
    PACKAGE,
    ROOMS,
    imported,
    parsed,
    relative,
)

# The modules beside the folders.
LEAVES = ["_tables", "_types", "_validation", "plots", "reference"]
FACE = ["__init__", "__main__", "demonstration", "sklearn"]


def room(parts):
    """Returns the room of a module, by its names within the package."""
    folders = []
    for name in parts:
        if not PACKAGE.joinpath(*folders, name).is_dir():
            break
        folders.append(name)
    if folders:
        return "/".join(folders)
    # A name without a file is one that `__init__` imports.
    is_file = bool(parts) and (PACKAGE / f"{parts[0]}.py").exists()
    name = parts[0] if is_file else "__init__"
    return "leaves" if name in LEAVES else "face" if name in FACE else name


def room_of(path):
    return room(path.relative_to(PACKAGE).with_suffix("").parts)


def rooms_imported(tree):
    """Returns the imports from the package, even lazy ones, by their rooms."""
    found = {}
    for node in ast.walk(tree):
        for name in imported(node):
            assert not name.startswith("."), f"Import {name} by its full name."
            package, *parts = name.split(".")
            if package == "l2keras":
                found[name] = room(parts)
    return found


def upward(path_of_room, tree):
    """Returns the imports of a tree that its room may not have."""
    own = ROOMS.index(path_of_room)
    return {
        name
        for name, other in rooms_imported(tree).items()
        if ROOMS.index(other) > own
    }


def test_every_module_has_a_room():
    assert {room_of(path) for path in FILES} == set(ROOMS)


@pytest.mark.parametrize("path", FILES, ids=relative)
def test_imports_go_down(path):
    assert upward(room_of(path), parsed(path)) == set()


@pytest.mark.parametrize(
    ("importer", "statement"),
    [
        ("models", "from l2keras.training import logger"),
        ("models", "from l2keras.compaction.graph import Graph"),
        ("tuning/stack", "from l2keras.tuning import run"),
        ("_keras", "import l2keras"),
        ("leaves", "def lazily():\n    from l2keras.weights import paths"),
    ],
)
def test_imports_upward_are_found(importer, statement):
    assert len(upward(importer, ast.parse(statement))) == 1


# Private attributes of Keras --------------------------------------------------

# Public, in spite of their names.
NAMED_TUPLE = {"_asdict", "_fields", "_make", "_replace"}


def is_private(name):
    return name.startswith("_") and not name.startswith("__")


def private_definitions(tree):
    """Returns the private names that a module defines for its own objects."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif (
            isinstance(node, ast.Attribute)
            and isinstance(node.ctx, ast.Store)
            and ast.unparse(node.value) == "self"
        ):
            names.add(node.attr)
    return {name for name in names if is_private(name)}


def private_uses(tree):
    """Returns line, object and name of each private attribute in a module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            owner, name = ast.unparse(node.value), node.attr
        elif (
            isinstance(node, ast.Call)
            and ast.unparse(node.func)
            in ("getattr", "setattr", "hasattr", "delattr")
            and isinstance(node.args[1], ast.Constant)
        ):
            owner, name = ast.unparse(node.args[0]), node.args[1].value
        else:
            continue
        if is_private(name) and name not in NAMED_TUPLE:
            yield node.lineno, owner, name


OUTSIDE = [path for path in FILES if room_of(path) != "_keras"]
OWN = set().union(*(private_definitions(parsed(path)) for path in OUTSIDE))


def private_attributes_of_others(tree):
    return [
        (line, f"{owner}.{name}")
        for line, owner, name in private_uses(tree)
        # A parent class may be one of Keras.
        if name not in OWN or owner == "super()"
    ]


@pytest.mark.parametrize("path", OUTSIDE, ids=relative)
def test_only_one_room_uses_private_attributes_of_keras(path):
    assert private_attributes_of_others(parsed(path)) == []


@pytest.mark.parametrize(
    "code",
    [
        "for each in model.layers:\n    each._layers",
        "model._losses_override = []",
        "super()._check_super_called()",
        "getattr(optimizer, '_iterations', None)",
        "hasattr(variable, '_regularizer')",
    ],
)
def test_private_attributes_of_keras_are_found(code):
    assert len(private_attributes_of_others(ast.parse(code))) == 1


@pytest.mark.parametrize("path", FILES, ids=relative)
def test_nothing_imports_from_keras_src(path):
    assert "keras.src" not in path.read_text(encoding="utf-8")


# Leftovers --------------------------------------------------------------------


def is_string(statement):
    return isinstance(statement, ast.Expr) and isinstance(
        getattr(statement.value, "value", None), str
    )


@pytest.mark.parametrize("path", FILES, ids=relative)
def test_every_string_of_a_module_documents_something(path):
    # Not so the docstring of a function that went.
    before, *_ = statements = parsed(path).body
    assert is_string(before)
    for statement in statements[1:]:
        documents = isinstance(before, (ast.Assign, ast.AnnAssign))
        assert documents or not is_string(statement), statement.lineno
        before = statement
