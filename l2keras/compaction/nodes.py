"""Calls in a graph, before the channels through them are followed."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from l2keras._keras import graphs, layer_tree
from l2keras.compaction import rules
from l2keras.compaction.channels import Array
from l2keras.compaction.rules import NotCompactable, Rule


def variables_of(layer: Any) -> dict[str, Any]:
    """The weights of a layer by name; an operation has none."""
    found: dict[str, Any] = {}
    for variable in getattr(layer, "weights", ()):
        name, number = variable.name, 1
        while name in found:  # As in `Bidirectional`.
            number += 1
            name = f"{variable.name}_{number}"
        found[name] = variable
    return found


def arrays_of(layer: Any) -> dict[str, Array]:
    """The weights of a layer by name, as arrays."""
    arrays = {}
    for name, variable in variables_of(layer).items():
        array = ops.convert_to_numpy(variable)
        if array.dtype.kind == "V":  # NumPy itself has no bfloat16.
            array = array.astype("float32")
        arrays[name] = array
    return arrays


def has_masks(function: Any) -> bool:
    """Tells whether a mask is made in a functional model, or in one in it."""
    for node in graphs.nodes(function):
        if any(graphs.is_masked(tensor) for tensor in node.outputs):
            return True
        inside = graphs.function_of(node.operation)
        if inside is not None and has_masks(inside):
            return True
    return False


def ranks_of_first(function: Any) -> set[int]:
    """The ranks of tensors with the channels before the places."""
    found: set[int] = set()
    for node in graphs.nodes(function):
        inside = graphs.function_of(node.operation)
        if inside is not None:
            found |= ranks_of_first(inside)
        # `Flatten` has it from Keras's settings, for any tensor.
        elif rules.comes_first(node.operation) and not isinstance(
            node.operation, keras.layers.Flatten
        ):
            found |= {len(tensor.shape) for tensor in node.inputs}
    return found


def opaque_models(function: Any) -> set[int]:
    """The models inside that cannot be followed, by `id`.

    A model that cannot be followed in one call stays the same in all others.
    """
    found: set[int] = set()
    for node in graphs.nodes(function):
        inside = graphs.function_of(node.operation)
        if inside is not None:
            if not _fits(node, inside):
                found.add(id(node.operation))
            found |= opaque_models(inside)
    return found


def check_nothing_is_shared_inside(function: Any, opaque: set[int]) -> None:
    """Raises a ValueError if layers that are made anew share a layer in them.

    Made from their configs, each would have one of its own.
    """
    operations: dict[int, Any] = {}

    def collect(function: Any) -> None:
        for node in graphs.nodes(function):
            operation = node.operation
            if id(operation) in operations:
                continue
            operations[id(operation)] = operation
            inside = graphs.function_of(operation)
            if inside is not None and id(operation) not in opaque:
                collect(inside)

    collect(function)
    owners: dict[int, Any] = {}
    for operation in operations.values():
        inside = graphs.function_of(operation)
        if not isinstance(operation, keras.layers.Layer) or (
            inside is not None and id(operation) not in opaque
        ):
            continue
        for _, layer in layer_tree.layers_by_path(operation)[1:]:
            other = operations.get(id(layer), owners.get(id(layer)))
            owners[id(layer)] = operation
            if other is not None and layer.weights:
                raise ValueError(
                    f"Layer {layer.name!r} must not be in layer "
                    f"{operation.name!r} and be called elsewhere too, by "
                    "itself or in another layer: the smaller model could not "
                    "share its weights between them. Give each its own layer."
                )


def positional(node: graphs.Node) -> list[keras.KerasTensor]:
    """The tensors among the positional arguments of a call."""
    arguments = [id(argument) for argument in keras.tree.flatten(node.args)]
    return [tensor for tensor in node.inputs if id(tensor) in arguments]


def dtype_of(node: graphs.Node) -> str:
    """The type that a layer, or an operation, computes in."""
    dtype = getattr(node.operation, "compute_dtype", None)
    return dtype or (node.inputs[0].dtype if node.inputs else "float32")


def computed_by(node: graphs.Node) -> Callable[..., Any]:
    """The function of a node in evaluation, of its positional tensors."""
    places = [id(tensor) for tensor in positional(node)]
    if isinstance(node.operation, keras.layers.TimeDistributed):
        return node.operation.layer.call

    def compute(*tensors: Any) -> Any:
        args, _ = node.fill_in(dict(zip(places, tensors, strict=True)))
        return node.operation.call(*args)

    return compute


def check_finite(weights: dict[str, Array]) -> None:
    """Raises `NotCompactable` if a weight is infinite or NaN."""
    for name, array in weights.items():
        if not np.all(np.isfinite(array)):
            raise NotCompactable(f"its {name} is not finite everywhere")


def check_arguments(node: graphs.Node, rule: Rule | None = None) -> None:
    """Raises `NotCompactable` if a layer is called with more than its inputs.

    An operation that is no layer may be called with numbers, and a layer with
    the arguments of its rule.
    """
    rule = rule or Rule()
    others = {
        name
        for name, value in node.kwargs.items()
        # These are the defaults, as in evaluation.
        if value is not None
        and value is not False
        and name != "mask"
        and not (name == "training" and rule.ignores_training)
    }
    arguments = keras.tree.flatten(node.args)
    if not isinstance(node.operation, keras.layers.Layer):
        are_known = all(map(_is_number_or_tensor, arguments))
    elif rule.arguments:
        are_known = len(arguments) <= 3 and all(
            isinstance(argument, keras.KerasTensor) for argument in arguments
        )
    else:
        are_known = len(node.args) == 1
    if others - rule.arguments or not are_known:
        raise NotCompactable("it is called with more than its inputs")


def _is_number_or_tensor(argument: Any) -> bool:
    return isinstance(argument, keras.KerasTensor) or np.ndim(argument) == 0


def _fits(node: graphs.Node, inside: Any) -> bool:
    """Tells whether a model inside can be followed in a call.

    It may change tensors before it runs, and run otherwise in training.
    """
    try:
        check_arguments(node)
    except NotCompactable:
        return False
    given = keras.tree.flatten(node.args[0])
    return (
        isinstance(node.args[0], dict) == isinstance(inside.input, dict)
        and len(given) == len(inside.inputs)
        and all(
            len(tensor.shape) == len(own.shape)
            and ("float" in tensor.dtype) == ("float" in own.dtype)
            and all(
                size in (own_size, None) or own_size is None
                for size, own_size in zip(
                    tensor.shape[1:], own.shape[1:], strict=True
                )
            )
            for tensor, own in zip(given, inside.inputs, strict=True)
        )
    )
