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

import sys
from types import FrameType
from typing import Any, NamedTuple

import keras

_STEPS = frozenset(["train_step", "test_step", "predict_step"])
_TRAINERS = frozenset(["fit", "evaluate"])
# Whoever writes a model to a file traces it, and trains nothing.
_EXPORTERS = (
    keras.export.ExportArchive.__module__.rpartition(".")[0],
    "tensorflow.python.saved_model",
)


class Running(NamedTuple):
    """A model that is being trained, evaluated, or asked for its losses.

    Attributes:
        model: The model.
        step: Which of Keras's steps is under way, such as `"train_step"`; empty
            in a loop of one's own.
        state: What that step was given first: on JAX, its state.
    """

    model: keras.Model
    step: str = ""
    state: Any = None


def running_model() -> Running | None:
    """Returns the model that is asking for a penalty, `None` if none is.

    In one of Keras's steps that is the model whose step it is, and not one that
    is a layer in it. Elsewhere it is the outermost of the models that are at
    work, up to where a callback was called.
    """
    frame: FrameType | None = sys._getframe(1)
    # Only a few names are looked at: to read the locals of each frame takes
    # PyTorch, which comes by here at every step, as long as an operation.
    while frame is not None:
        code = frame.f_code
        if code.co_name in _STEPS and code.co_argcount >= 2:
            names, values = code.co_varnames, frame.f_locals
            model = values.get(names[0])
            if isinstance(model, keras.Model):
                return Running(model, code.co_name, values.get(names[1]))
        frame = frame.f_back
    return _asking_model()


def _asking_model() -> Running | None:
    """Returns the outermost model at work outside of Keras's steps."""
    found: keras.Model | None = None
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if _is_exporting(frame):
            return None
        owner = frame.f_locals.get("self")
        if isinstance(owner, keras.callbacks.Callback):
            break
        if isinstance(owner, keras.Model) and (
            found is None or getattr(owner, "optimizer", None) is not None
        ):
            found = owner
        frame = frame.f_back
    return None if found is None else Running(found)


def is_exporting() -> bool:
    """Tells whether a model is being written to a file."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if _is_exporting(frame):
            return True
        frame = frame.f_back
    return False


def _is_exporting(frame: FrameType) -> bool:
    return str(frame.f_globals.get("__name__", "")).startswith(_EXPORTERS)


def trained_by(callback: keras.callbacks.Callback) -> keras.Model | None:
    """Returns the model whose `fit` or `evaluate` has called a callback.

    `callback.model` is the one that was set last, which is another if the same
    callback was handed to the training of a second model meanwhile. `None` in a
    loop of one's own.
    """
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_name in _TRAINERS:
            owner = frame.f_locals.get("self")
            called = frame.f_locals.get("callbacks")
            if isinstance(owner, keras.Model) and any(
                each is callback for each in getattr(called, "callbacks", [])
            ):
                return owner
        frame = frame.f_back
    return None


def models_on_stack() -> list[keras.Model]:
    """Returns the models whose methods are running, each once.

    The innermost call comes first. Looked at are the frames of this thread in
    which `self` is a model, closures of its methods included. That holds inside
    compiled functions too, while they are traced, and in the threads of
    TensorFlow's replicas, which each call the model's `train_step`.
    """
    found: dict[int, keras.Model] = {}
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        caller = frame.f_locals.get("self")
        # Not `isinstance`, which would wake objects that load lazily.
        if issubclass(type(caller), keras.Model):
            found.setdefault(id(caller), caller)
        frame = frame.f_back
    return list(found.values())
