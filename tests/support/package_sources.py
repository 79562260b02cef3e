"""The files of the package, and the modules that they import."""

import ast
from pathlib import Path

import l2keras

PACKAGE = Path(l2keras.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))

# The rooms in the order in which they may import: a module may import those of
# its own room and of the rooms before it. A folder is a room, one in a folder
# is another, and the modules beside the folders are leaves, which import no
# room, or the face.
ROOMS = [
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


def parsed(path):
    return ast.parse(path.read_text(encoding="utf-8"))


def relative(path):
    """Returns the path of a file in the package, to name a test by."""
    return str(path.relative_to(PACKAGE))


def imported(node):
    """Returns the dotted names that an import statement imports."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        if node.level:
            return [f"{'.' * node.level}{node.module or ''}"]
        return [f"{node.module}.{alias.name}" for alias in node.names]
    return []
