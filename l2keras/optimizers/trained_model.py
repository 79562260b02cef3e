"""The model that an optimizer trains.

Paths and rules belong to a model, but Keras builds an optimizer for a bare list
of variables. Mostly a method of the model builds it, so the model is on the
call stack. In a custom training loop it is not, and all models in memory are
looked at.
"""

from typing import Any

import keras

from l2keras._keras import call_stack, layer_tree, memory, optimizer_hooks
from l2keras.weights.paths import own_weights


def find(
    optimizer: keras.optimizers.Optimizer, variables: list[keras.Variable]
) -> keras.Model:
    """The model that an optimizer trains.

    Of the models that have all the variables: one with a method under way and
    the optimizer among its attributes; else one in memory with the optimizer;
    else any. The outermost, if models are in models.

    Args:
        optimizer: The optimizer.
        variables: The variables that it is built for.

    Raises:
        ValueError: If there is no such model, or two have different paths.
    """
    keys = {
        optimizer_hooks.variable_key(optimizer, variable)
        for variable in variables
    }
    calling = _with_paths(
        [
            model
            for model in call_stack.models_on_stack()
            if _has(model, optimizer)
        ],
        optimizer,
        keys,
    )
    if calling:
        return _outermost(calling)
    found = _with_paths(memory.models_in_memory(), optimizer, keys)
    if not found:
        raise ValueError(
            "The optimizer was built for variables that no Keras model in "
            "memory has all of, so it cannot tell the paths of the "
            "weights. Build it for those of one model: "
            "`model.compile(optimizer)` and `fit`, or "
            "`optimizer.build(model.trainable_variables)`."
        )
    owners = [pair for pair in found if _has(pair[0], optimizer)]
    return _outermost(owners or found)


def _with_paths(
    models: list[keras.Model],
    optimizer: keras.optimizers.Optimizer,
    keys: set[Any],
) -> list[tuple[keras.Model, dict[Any, str]]]:
    """The models that have all variables, with the variables' paths."""
    found = []
    for model in models:
        paths = {
            key: weight.path
            for weight in own_weights(model)
            if (key := optimizer_hooks.variable_key(optimizer, weight.variable))
            in keys
        }
        if len(paths) == len(keys):
            found.append((model, paths))
    return found


def _outermost(
    found: list[tuple[keras.Model, dict[Any, str]]],
) -> keras.Model:
    """The model that no other contains.

    Raises:
        ValueError: If there are several and they have different paths.
    """
    inside = {
        id(layer)
        for model, _ in found
        for place, layer in layer_tree.layers_by_path(model)
        if place
    }
    (first, paths), *others = (
        pair for pair in found if id(pair[0]) not in inside
    )
    for other, other_paths in others:
        for key, path in paths.items():
            if other_paths[key] != path:
                raise ValueError(
                    f"Models {first.name!r} and {other.name!r} both have "
                    "the variables that the optimizer was built for, and "
                    f"one is at {path!r} in the first, at "
                    f"{other_paths[key]!r} in the second. Say which "
                    "model it trains: `model.compile(optimizer)`."
                )
    return first


def _has(model: keras.Model, optimizer: keras.optimizers.Optimizer) -> bool:
    """Tells whether an optimizer is among a model's attributes, or in one."""
    return any(
        optimizer in optimizer_hooks.all_optimizers(value)
        for value in list(vars(model).values())
        if isinstance(value, keras.optimizers.Optimizer)
    )
