"""Which weights an optimizer decays, and how strongly.

Rules and paths belong to a model, but Keras builds an optimizer for a bare list
of variables. So the model that has them is looked for in memory, and a weight
is tied to its variable by the key under which the optimizer knows it.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import keras

from l2keras._keras import layer_tree, memory
from l2keras._types import Strength
from l2keras.weights import kinds
from l2keras.weights.paths import own_weights
from l2keras.weights.rules import match_trained


@dataclasses.dataclass(frozen=True)
class DecayedWeight:
    """A weight that is decayed."""

    path: str
    key: Any  # By which the optimizer knows it.
    strength: Strength


def resolve(
    model: keras.Model,
    rules: Mapping[str, Strength],
    default: Strength | None,
    key_of: Callable[[keras.Variable], Any],
    keys: set[Any] | None = None,
) -> list[DecayedWeight]:
    """Returns the weights of a model that decay, in the order of its layers.

    Args:
        model: The model.
        rules: Dictionary from path or regular expression to strength.
        default: The strength for every kernel that no rule names, or `None`.
        key_of: By what the optimizer knows a variable.
        keys: The keys of what the optimizer was built for: no others decay.
            If it is not built, `None`, and all that are trained may.

    Raises:
        ValueError: If the rules do not fit the model, or one of them fits only
            weights that the optimizer was not built for.
    """
    trained, matched = match_trained(rules, own_weights(model), "decay")
    decayed, needed = [], set()
    for weight in trained:
        pattern = matched.get(weight.path)
        key = key_of(weight.variable)
        is_ours = keys is None or key in keys
        if is_ours or not weight.variable.trainable:
            needed.add(pattern)
        if not is_ours or not weight.variable.trainable:
            continue
        strength: Strength | None = None
        if pattern is not None:
            strength = rules[pattern]
        elif kinds.is_kernel(weight):
            strength = default
        # So that zero costs nothing.
        if callable(strength) or strength not in (None, 0.0):
            decayed.append(DecayedWeight(weight.path, key, strength))
    for pattern in rules:
        if pattern not in needed:
            raise ValueError(
                f"Pattern {pattern!r} matches only weights that this "
                "optimizer was not built for. Leave it out of the rules, "
                f"or build the optimizer for those of {model.name!r} as "
                "well."
            )
    return decayed


def find_model(
    optimizer: keras.optimizers.Optimizer,
    keys: set[Any],
    key_of: Callable[[keras.Variable], Any],
) -> keras.Model:
    """Returns the model that has the variables of these keys.

    That which was compiled with the optimizer, or has it as another attribute;
    else any. The outermost, if models are in models.

    Args:
        optimizer: The optimizer that was built for them.
        keys: The keys of the variables.
        key_of: By what the optimizer knows a variable.

    Raises:
        ValueError: If there is no such model, or two have different paths.
    """
    paths: dict[int, dict[Any, str]] = {}
    models = []
    for model in memory.models_in_memory():
        found = {
            key: weight.path
            for weight in own_weights(model)
            if (key := key_of(weight.variable)) in keys
        }
        if len(found) == len(keys):
            models.append(model)
            paths[id(model)] = found
    models = [each for each in models if _holds(each, optimizer)] or models
    inside = {
        id(layer)
        for model in models
        for place, layer in layer_tree.layers_by_path(model)
        if place
    }
    models = [each for each in models if id(each) not in inside]
    if not models:
        raise ValueError(
            "The optimizer was built for variables that no Keras model in "
            "memory has all of, so it cannot tell the paths of the "
            "weights. Build it for those of one model: "
            "`model.compile(optimizer)` and `fit`, or "
            "`optimizer.build(model.trainable_variables)`."
        )
    first, *others = models
    for other in others:
        for key, path in paths[id(first)].items():
            if paths[id(other)][key] != path:
                raise ValueError(
                    f"Models {first.name!r} and {other.name!r} both have "
                    "the variables that the optimizer was built for, and "
                    f"one is at {path!r} in the first, at "
                    f"{paths[id(other)][key]!r} in the second. Say which "
                    "model it trains: `model.compile(optimizer)`."
                )
    return first


def _holds(model: keras.Model, optimizer: keras.optimizers.Optimizer) -> bool:
    """Tells whether an optimizer is among a model's attributes."""
    return any(
        _leads_to(value, optimizer)
        for value in list(vars(model).values())
        if isinstance(value, keras.optimizers.Optimizer)
    )


def _leads_to(
    optimizer: keras.optimizers.Optimizer, other: keras.optimizers.Optimizer
) -> bool:
    """Tells whether an optimizer is another, or wraps it."""
    wrapped = [
        getattr(optimizer, "inner_optimizer", None),
        *getattr(optimizer, "optimizers", []),  # Of `MultiOptimizer`.
    ]
    return optimizer is other or any(
        _leads_to(each, other) for each in wrapped if each is not None
    )
