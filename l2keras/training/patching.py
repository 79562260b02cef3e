"""Methods of a model that are replaced.

Keras calls no hook inside its training step. So methods of a model are
replaced, on the instance alone.
"""

from collections.abc import Callable
from typing import Any

import keras


def replace_method(
    model: keras.Model, name: str, method: Callable[..., Any]
) -> Callable[[], None]:
    """Replaces a method of one model, and returns a function that undoes it.

    A method that was put over this one since then stays, and goes on calling
    it.
    """
    # Not by `setattr`, which Keras and models may override.
    own = vars(model)
    before = {name: own[name]} if name in own else {}
    own[name] = method

    def undo() -> None:
        if own.get(name) is method:
            del own[name]
            own.update(before)

    return undo
