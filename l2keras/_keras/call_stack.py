"""Which model is calling: read off the call stack.

Keras hands a regularizer the weights, an optimizer the variables, and neither
the model. But it does so from within a method of the model that is being
trained or evaluated, so that model is the `self` of a frame on the stack, and
its optimizer has the step. In compiled code that is so while the step is
traced, which is when it matters.

The steps of Keras's trainers are looked for by their public names. On JAX they
are handed the values of the optimizer's variables, which is the only place
where those are to be had: the forward pass is given the model's alone.
"""

import inspect
import sys
from collections.abc import Iterator
from types import CodeType, FrameType
from typing import Any, NamedTuple

import keras

from l2keras._keras import layer_tree

_STEPS = frozenset(["train_step", "test_step", "predict_step"])
_TRAINERS = frozenset(["fit", "evaluate"])
# Modules that write a model to a file trace it, and train nothing.
_EXPORTERS = (
    keras.export.ExportArchive.__module__.rpartition(".")[0],
    "tensorflow.python.saved_model",
)


class Running(NamedTuple):
    """A model that is being trained, evaluated, or asked for its losses.

    Attributes:
        model: The model.
        step: Which of Keras's steps is under way, such as `"train_step"`; empty
            in a custom training loop.
        given: The first argument of that step: on JAX its state, else data.
        is_of_keras: Whether the code of that step is Keras's own, which counts
            the model's optimizer on.
    """

    model: keras.Model
    step: str = ""
    given: Any = None
    is_of_keras: bool = False


def frames() -> Iterator[FrameType]:
    """Yields the calls around the one that asks, the innermost first."""
    # Without its own: a frame that holds itself lives on until collected.
    frame: FrameType | None = sys._getframe(2)
    while frame is not None:
        yield frame
        frame = frame.f_back


def running_model() -> Running | None:
    """The model at work that asks for a penalty, `None` if there is none.

    The layer that asks is the innermost on the stack. In one of Keras's steps
    the model is the owner of the step, if that layer is a part of it; a teacher
    that a student's metric asks is not. Elsewhere it is the outermost model on
    the stack which has that layer, up to the call of a callback.
    """
    asking: Any = None
    # Only a few frames are looked into: to read the locals of each takes
    # PyTorch, which comes by here at every step, as long as an operation.
    for frame in frames():
        code = frame.f_code
        is_step = code.co_name in _STEPS
        if is_step or asking is None:
            owner, given = _two_arguments(frame)
            if asking is None and isinstance(owner, keras.Layer):
                asking = owner
            if (
                is_step
                and isinstance(owner, keras.Model)
                and _is_method(owner, code)
                and layer_tree.contains(owner, asking)
            ):
                own = _is_of(code, getattr(keras.Model, code.co_name))
                return Running(owner, code.co_name, given, own)
    return None if asking is None else _asking_model(asking)


def _two_arguments(frame: FrameType) -> list[Any]:
    """The first two arguments of a call."""
    code = frame.f_code
    names = code.co_varnames[: min(code.co_argcount, 2)]
    if not names and not code.co_flags & inspect.CO_VARARGS:
        return [None, None]
    values = frame.f_locals
    found = [values.get(name) for name in names]
    if len(found) < 2 and code.co_flags & inspect.CO_VARARGS:
        name = code.co_varnames[code.co_argcount + code.co_kwonlyargcount]
        found += values.get(name, ())
    return [*found, None, None][:2]


def _is_method(model: keras.Model, code: CodeType) -> bool:
    """Tells whether code is that of a model's method of the same name.

    And not of another function named `train_step`.
    """
    owners = [vars(model), *map(vars, type(model).__mro__)]
    return any(_is_of(code, owner.get(code.co_name)) for owner in owners)


def _is_of(code: CodeType, function: Any) -> bool:
    """Tells whether code is that of a function, or of one that it wraps."""
    for name in ("func", "__func__", "__wrapped__"):
        if (inner := getattr(function, name, None)) is not None:
            return _is_of(code, inner)
    own = getattr(function, "__code__", None)
    # By its place, since `torch.compile` runs code of its own.
    return own is not None and (
        (own.co_filename, own.co_firstlineno)
        == (code.co_filename, code.co_firstlineno)
    )


def _asking_model(asking: keras.Layer) -> Running | None:
    """The outermost model on the stack, outside of Keras's steps."""
    found: keras.Model | None = None
    for frame in frames():
        if _is_exporting(frame):
            return None
        owner = frame.f_locals.get("self")
        if isinstance(owner, keras.callbacks.Callback):
            break
        if (
            isinstance(owner, keras.Model)
            and owner is not found
            and (found is None or _has_step(owner))
            and layer_tree.contains(owner, asking)
        ):
            found = owner
    return None if found is None else Running(found)


def _has_step(model: keras.Model) -> bool:
    """Tells whether a model counts steps, or was given one by hand."""
    return getattr(model, "optimizer", None) is not None or bool(
        layer_tree.tracked_states(model)
    )


def is_exporting() -> bool:
    """Tells whether a model is being written to a file."""
    return any(map(_is_exporting, frames()))


def _is_exporting(frame: FrameType) -> bool:
    return str(frame.f_globals.get("__name__", "")).startswith(_EXPORTERS)


def trained_by(callback: keras.callbacks.Callback) -> keras.Model | None:
    """The model whose `fit` or `evaluate` has called a callback.

    `callback.model` is the one that was set last, which is another if the same
    callback was handed to the training of a second model meanwhile. `None` in a
    custom training loop.
    """
    for frame in frames():
        if frame.f_code.co_name in _TRAINERS:
            owner = frame.f_locals.get("self")
            called = frame.f_locals.get("callbacks")
            if isinstance(owner, keras.Model) and any(
                other is callback for other in getattr(called, "callbacks", [])
            ):
                return owner
    return None


def models_on_stack() -> list[keras.Model]:
    """The models with methods under way, each once.

    The innermost call comes first. Looked at are the frames of this thread in
    which `self` is a model, closures of its methods included. That holds inside
    compiled functions too, while they are traced, and in the threads of
    TensorFlow's replicas, which each call the model's `train_step`.
    """
    found: dict[int, keras.Model] = {}
    for frame in frames():
        caller = frame.f_locals.get("self")
        # Not `isinstance`, which would wake objects that load lazily.
        if issubclass(type(caller), keras.Model):
            found.setdefault(id(caller), caller)
    return list(found.values())
