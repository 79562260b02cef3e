"""What objects hold, told apart by digests that are the same in every run.

Walked is all that can be reached: attributes, items, closures, and of code that
is not installed the bytecode and the globals that it reads. What is installed
is known by its name and version. Names that Keras counts up, addresses of
memory and the order of a set have no part in a digest.
"""

import collections
import hashlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import keras
import numpy as np

from l2keras._keras import backends, bookkeeping
from l2keras.strengths.tuned import TunedStrength
from l2keras.tuning import code_walk

# What is digested by its value, wherever it is.
_VALUES = (bool, int, float, complex, str, bytes, type(None), type(...))


class Digest(NamedTuple):
    """What one object holds, and by which way it was reached."""

    path: str
    value: int


def digests(
    roots: Mapping[str, Any], stand_ins: Mapping[Any, str]
) -> list[Digest]:
    """Returns the digests of all objects that can be reached, nearest first.

    Args:
        roots: Objects by the names that their paths begin with.
        stand_ins: What is digested in place of some strings and integers: of
            names that are counted up, and of ids.
    """
    walk = _Walk(stand_ins)
    for name, each in roots.items():
        walk.reference(each, name)
    return list(walk)


class _Walk:
    """Goes through objects in the order in which they were met.

    An object refers to others by their place in this order, which cycles and
    shared objects need, and what is as deep as a network of hundred layers.
    """

    def __init__(self, stand_ins: Mapping[Any, str]) -> None:
        self._stand_ins = stand_ins
        self._places: dict[int, int] = {}
        self._queue: collections.deque[tuple[Any, str]] = collections.deque()
        self._met: list[Any] = []  # Kept, so that no id comes twice.

    def __iter__(self) -> Iterator[Digest]:
        while self._queue:
            value, path = self._queue.popleft()
            kind, parts = _described(value, self._text)
            held = [
                self.reference(each, f"{path}{step}") for step, each in parts
            ]
            text = repr((kind, held)).encode(errors="surrogatepass")
            digest = hashlib.sha256(text).digest()
            yield Digest(path, int.from_bytes(digest[:8], "little"))

    def reference(self, value: Any, path: str) -> str:
        """Returns what stands for an object where another one holds it."""
        if isinstance(value, np.generic):
            value = value.item()
        if type(value) in _VALUES:
            return self._text(value)
        place = self._places.setdefault(id(value), len(self._met))
        if place == len(self._met):
            self._met.append(value)
            self._queue.append((value, path))
        return f"#{place}"

    def _text(self, value: Any) -> str:
        """Returns what stands for a value, the same in every run."""
        return self._stand_ins.get(value) or repr(value)


Parts = list[tuple[str, Any]]


def _described(value: Any, text: Callable[[Any], str]) -> tuple[Any, Parts]:
    """Returns what an object is, and the objects that it holds.

    The first is digested as it is printed. The others come each with what is
    to be written behind the path of the object to reach it, which is not.
    """
    if isinstance(value, keras.Variable):
        return _variable(value)
    if isinstance(value, TunedStrength):
        return ("tuned strength", value.cell.key, value.factor), []
    if keras.ops.is_tensor(value) and not isinstance(value, keras.KerasTensor):
        if backends.is_symbolic(value):
            return ("tensor", tuple(value.shape), str(value.dtype)), []
        return _array(keras.ops.convert_to_numpy(value))
    if isinstance(value, np.ndarray):
        return _array(value)
    if isinstance(value, Mapping):
        return "mapping", _items(value, text)
    if isinstance(value, list | tuple):
        return "list", [(f"[{i}]", each) for i, each in enumerate(value)]
    if isinstance(value, set | frozenset):
        return "set", _elements(value, text)
    if code_walk.is_code(value):
        return code_walk.described(value)
    attributes = bookkeeping.attributes(value)
    if attributes is None:
        return _object(value)
    return _instance(value, attributes)


def _variable(value: keras.Variable) -> tuple[Any, Parts]:
    array = keras.ops.convert_to_numpy(value)
    kind, _ = _array(array)
    return (
        ("variable", kind, str(value.dtype), value.trainable),
        [
            (".regularizer", value.regularizer),
            (".constraint", value.constraint),
        ],
    )


def _array(value: np.ndarray) -> tuple[Any, Parts]:
    if value.dtype == object:
        return ("array", value.shape), [(".tolist()", value.tolist())]
    digest = hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()
    return ("array", value.shape, str(value.dtype), digest), []


def _items(value: Mapping[Any, Any], text: Callable[[Any], str]) -> Parts:
    keys = list(value)
    if all(type(key) in _VALUES for key in keys):
        keys.sort(key=text)  # The dictionary may have been made from a set.
    return [
        pair
        for key in keys
        for pair in (("'s key", key), (f"[{key!r}]", value[key]))
    ]


def _elements(value: Any, text: Callable[[Any], str]) -> Parts:
    """Returns the elements of a set; of those without an order the classes."""
    values = [each for each in value if type(each) in _VALUES]
    classes = [type(each) for each in value if type(each) not in _VALUES]
    return [
        *(("'s element", each) for each in sorted(values, key=text)),
        *(
            ("'s element's class", each)
            for each in sorted(classes, key=lambda cls: cls.__qualname__)
        ),
    ]


def _instance(value: Any, attributes: Mapping[str, Any]) -> tuple[Any, Parts]:
    names = sorted(attributes)
    return (
        ("instance", names),
        [
            ("'s class", type(value)),
            *((f".{name}", attributes[name]) for name in names),
        ],
    )


def _object(value: Any) -> tuple[Any, Parts]:
    """Describes an object of which nothing is known but how it is copied."""
    if callable(value) and hasattr(value, "__wrapped__"):
        # Compiled by TensorFlow or JAX, say, and otherwise as it was written.
        return "wrapped", [("", value.__wrapped__)]
    attributes = _attributes(value)
    if attributes and not _is_copied_in_its_own_way(type(value)):
        return _instance(value, attributes)
    parts: Parts = [("'s class", type(value))]
    try:
        reduced = value.__reduce_ex__(4)
    # Whatever the class raises: locks, files and the like hold no values.
    except Exception:
        return "object", parts
    if isinstance(reduced, str):
        return ("global", reduced), parts
    # How it is made, the arguments for that, its state, and its items if any.
    steps = (
        "'s maker",
        "'s arguments",
        "",
        "'s items",
        "'s pairs",
        "'s setter",
    )
    parts += [
        (step, list(each) if isinstance(each, Iterator) else each)
        for step, each in zip(steps, reduced, strict=False)
    ]
    return "object", parts


def _is_copied_in_its_own_way(cls: type) -> bool:
    return any(
        getattr(cls, name) is not getattr(object, name)
        for name in ("__reduce__", "__reduce_ex__", "__getstate__")
    )


def _attributes(value: Any) -> dict[str, Any]:
    """Returns the attributes that an object itself has, slots too."""
    found = dict(getattr(value, "__dict__", {}))
    for cls in type(value).__mro__:
        slots = vars(cls).get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if name not in ("__dict__", "__weakref__") and hasattr(value, name):
                found[name] = getattr(value, name)
    return found
