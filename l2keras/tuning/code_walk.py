"""What functions, classes and modules hold, told from what is installed.

What is installed is known by its name and version. Other code is the user's,
and may be another in the next run: it is known by its bytecode, and by the
values of the globals that it reads.
"""

import contextlib
import dis
import functools
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_DESCRIPTORS = (property, staticmethod, classmethod, functools.cached_property)
_BUILT_IN = (
    types.BuiltinFunctionType,
    types.MethodDescriptorType,
    types.WrapperDescriptorType,
    types.MethodWrapperType,
    types.ClassMethodDescriptorType,
    types.GetSetDescriptorType,
    types.MemberDescriptorType,
)
_KINDS = (
    type,
    types.ModuleType,
    types.CodeType,
    types.FunctionType,
    types.MethodType,
    *_BUILT_IN,
    *_DESCRIPTORS,
)

# What Python writes into a class beside what its body says.
_NOT_OF_THE_BODY = {
    "__abstractmethods__",
    "__annotate__",
    "__annotate_func__",
    "__annotations__",
    "__annotations_cache__",
    "__dict__",
    "__doc__",
    "__firstlineno__",
    "__module__",
    "__static_attributes__",
    "__weakref__",
    "_abc_impl",
}

Parts = list[tuple[str, Any]]


def is_code(value: Any) -> bool:
    """Tells whether this module can describe an object."""
    return isinstance(value, _KINDS)


def described(value: Any) -> tuple[Any, Parts]:
    """Returns what code is, and the objects that it holds."""
    if isinstance(value, types.ModuleType):
        # Of the user's, what is read is described where it is read.
        return ("module", value.__name__, _version(value.__name__)), []
    if isinstance(value, type):
        return _class(value)
    if isinstance(value, types.FunctionType):
        return _function(value)
    if isinstance(value, types.CodeType):
        return _bytecode(value)
    if isinstance(value, types.MethodType):
        return "method", [("", value.__func__), (".__self__", value.__self__)]
    if isinstance(value, property):
        return "property", [(".fget", value.fget), (".fset", value.fset)]
    if isinstance(value, functools.cached_property):
        return "property", [(".func", value.func)]
    if isinstance(value, staticmethod | classmethod):
        return type(value).__name__, [("", value.__func__)]
    bound_to = getattr(value, "__self__", None)
    return (
        ("built in", getattr(value, "__qualname__", value.__name__)),
        [] if is_code(bound_to) else [(".__self__", bound_to)],
    )


def is_installed(module: str) -> bool:
    """Tells whether a module is Python's or of an installed package."""
    top = module.partition(".")[0]
    if top in sys.stdlib_module_names or top == "l2keras":
        return True
    loaded = sys.modules.get(top)
    places = [getattr(loaded, "__file__", None) or ""]
    places += list(getattr(loaded, "__path__", ()))
    return any(
        {"site-packages", "dist-packages"} & set(Path(each).parts)
        for each in places
    )


def _version(module: str) -> str | None:
    """Returns the version of an installed package, `None` for others."""
    if not is_installed(module):
        return None
    top = sys.modules.get(module.partition(".")[0])
    return str(getattr(top, "__version__", ""))


def _class(value: type) -> tuple[Any, Parts]:
    name = f"{value.__module__}.{value.__qualname__}"
    version = _version(value.__module__)
    if version is not None:
        return ("class", name, version), []
    body = {
        key: each
        for key, each in vars(value).items()
        if key not in _NOT_OF_THE_BODY
    }
    return (
        ("class", value.__qualname__, sorted(body)),
        [
            *(("'s base", each) for each in value.__bases__),
            *((f".{key}", body[key]) for key in sorted(body)),
        ],
    )


def _function(value: types.FunctionType) -> tuple[Any, Parts]:
    parts: Parts = [
        ("'s defaults", value.__defaults__),
        ("'s defaults", value.__kwdefaults__),
    ]
    for name, cell in zip(
        value.__code__.co_freevars, value.__closure__ or (), strict=True
    ):
        with contextlib.suppress(ValueError):  # It is not set yet.
            parts.append((f"'s {name}", cell.cell_contents))
    # Not `__module__`, which decorators copy from what they wrap.
    module = str(value.__globals__.get("__name__"))
    version = _version(module)
    if version is not None:
        return ("function", module, value.__qualname__, version), parts
    read = _globals_read(value)
    return (
        ("function", sorted(read)),
        [
            ("'s code", value.__code__),
            ("'s attributes", vars(value)),
            *parts,
            *((f"'s {name}", read[name]) for name in sorted(read)),
        ],
    )


def _bytecode(value: types.CodeType) -> tuple[Any, Parts]:
    return (
        (
            "code",
            value.co_code.hex(),
            value.co_exceptiontable.hex(),
            value.co_flags,
            value.co_argcount,
            value.co_posonlyargcount,
            value.co_kwonlyargcount,
            value.co_names,
            value.co_freevars,
            value.co_cellvars,
        ),
        [("'s constants", value.co_consts)],
    )


def _globals_read(function: types.FunctionType) -> dict[str, Any]:
    """Returns the globals that a function reads, and no other code sets.

    Of the user's modules among them, the attributes that it may read.
    """
    codes = list(_nested(function.__code__))
    names = {name for code in codes for name in code.co_names}
    read, written = set(), set()
    found: dict[str, Any] = {}
    package = function.__globals__.get("__package__")
    for code in codes:
        for instruction in dis.get_instructions(code):
            name = instruction.argval
            if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
                read.add(name)
            elif instruction.opname == "STORE_GLOBAL":
                written.add(name)
            elif instruction.opname == "IMPORT_NAME":
                for each in (name, f"{package}.{name}"):
                    if each in sys.modules:
                        found[each] = sys.modules[each]
    for name in read - written:
        if name in function.__globals__:
            found[name] = function.__globals__[name]
    modules = [
        (name, each)
        for name, each in found.items()
        if isinstance(each, types.ModuleType)
    ]
    seen: set[int] = set()
    while modules:
        path, module = modules.pop()
        if id(module) in seen or is_installed(module.__name__):
            continue
        seen.add(id(module))
        for name in names & set(vars(module)):
            each = vars(module)[name]
            found[f"{path}.{name}"] = each
            if isinstance(each, types.ModuleType):
                modules.append((f"{path}.{name}", each))
    return found


def _nested(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for each in code.co_consts:
        if isinstance(each, types.CodeType):
            yield from _nested(each)
