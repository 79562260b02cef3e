"""Attributes of an object that are replaced for a while, and put back.

Keras has no place for what has to happen inside its training step. So methods
of a model are replaced while they are needed, on the instance alone.
"""

import weakref
from typing import Any, ClassVar


class Patches:
    """What was replaced on one object, and what was there before.

    Several may be on the same object, and are undone in any order.

    Args:
        target: The object.
    """

    _all: ClassVar[weakref.WeakSet["Patches"]] = weakref.WeakSet()

    def __init__(self, target: Any) -> None:
        self._target = target
        # What the object itself had; nothing where that was its class's.
        self._before: dict[str, list[Any]] = {}
        self._put: dict[str, Any] = {}
        self._all.add(self)

    def __bool__(self) -> bool:
        return bool(self._before)

    def put(self, name: str, value: Any) -> None:
        """Replaces an attribute until `undo`."""
        own = vars(self._target)
        self._before.setdefault(name, [own[name]] if name in own else [])
        setattr(self._target, name, value)
        self._put[name] = value

    def undo(self) -> None:
        """Puts back all that was replaced."""
        for name, before in self._before.items():
            put = self._put[name]
            if vars(self._target).get(name) is put:
                delattr(self._target, name)
                for value in before:
                    setattr(self._target, name, value)
                continue
            # Replaced once more since: by one that will put this back.
            for other in list(self._all):
                above = other._before.get(name)
                if other._target is self._target and above and above[0] is put:
                    other._before[name] = before
        self._before.clear()
        self._put.clear()
