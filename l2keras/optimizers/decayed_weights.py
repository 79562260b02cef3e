"""Which weights an optimizer decays, and how strongly.

Rules name weights by their paths in a model. A weight is tied to its variable
by the key under which the optimizer knows it.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import keras

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
