"""Attributes of an object that are replaced for a while, and put back.

Keras has no place for what has to happen inside its training step. So methods
of a model are replaced while they are needed, on the instance alone.
"""

from typing import Any


class Patches:
    """What was replaced on one object, and what was there before.

    Args:
        target: The object.
    """

    def __init__(self, target: Any) -> None:
        self._target = target
        # What the object itself had; nothing where that was its class's.
        self._before: dict[str, list[Any]] = {}

    def __bool__(self) -> bool:
        return bool(self._before)

    def put(self, name: str, value: Any) -> None:
        """Replaces an attribute until `undo`."""
        own = vars(self._target)
        self._before.setdefault(name, [own[name]] if name in own else [])
        setattr(self._target, name, value)

    def undo(self) -> None:
        """Puts back all that was replaced."""
        for name, before in self._before.items():
            delattr(self._target, name)
            for value in before:
                setattr(self._target, name, value)
        self._before.clear()
