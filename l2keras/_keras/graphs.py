"""The graph of a sequential or functional model: the calls of its layers."""

from typing import Any, NamedTuple

import keras


class Node(NamedTuple):
    """One call of a layer, or of another operation."""

    operation: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    inputs: list[keras.KerasTensor]
    outputs: list[keras.KerasTensor]
    fill_in: Any  # Given tensors by `id`, returns its arguments with them.


def function_of(model: Any) -> Any:
    """The functional model that computes a model's outputs, if there is one.

    A sequential model makes one when it is built. A class with a `call` of its
    own does not run its graph.
    """
    if not is_of_keras(type(model), "call"):
        return None
    if isinstance(model, keras.Sequential):
        return model._functional if model.built else None
    return model if isinstance(model, keras.Function) else None


def is_of_keras(cls: type, method: str) -> bool:
    """Tells whether a class has a method as Keras wrote it."""
    owner = next(base for base in cls.__mro__ if method in vars(base))
    return owner.__module__.partition(".")[0] == "keras"


def nodes(function: Any) -> list[Node]:
    """The calls in a functional model, inputs first."""
    by_depth = function._nodes_by_depth
    return [
        Node(
            node.operation,
            node.arguments.args,
            node.arguments.kwargs,
            list(node.input_tensors),
            list(node.outputs),
            node.arguments.fill_in,
        )
        for depth in sorted(by_depth, reverse=True)
        for node in by_depth[depth]
    ]


def is_masked(tensor: keras.KerasTensor) -> bool:
    """Tells whether a mask comes with a tensor of a graph."""
    return getattr(tensor, "_keras_mask", None) is not None


def input_layer(tensor: keras.KerasTensor) -> Any:
    """The `InputLayer` of an input of a functional model."""
    return tensor._keras_history.operation
