"""Which weights an optimizer decays, and how strongly.

Rules name weights by their paths in a model. A weight is tied to its variable
by the key under which the optimizer knows it.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import keras

from l2keras.strengths.strength import Strength
from l2keras.weights.paths import own_weights
from l2keras.weights.rules import Rules


@dataclasses.dataclass(frozen=True)
class DecayedWeight:
    """A weight that is decayed."""

    path: str
    key: Any  # By which the optimizer knows it.
    strength: Strength


def resolve(
    model: keras.Model,
    rules: Rules[Strength],
    key_of: Callable[[keras.Variable], Any],
    keys: set[Any] | None = None,
) -> list[DecayedWeight]:
    """Returns the weights of a model that decay, in the order of its layers.

    Args:
        model: The model.
        rules: The strengths.
        key_of: By what the optimizer knows a variable.
        keys: The keys of what the optimizer was built for: no others decay.
            If it is not built, `None`, and all that are trained may.

    Raises:
        ValueError: If the rules do not fit the model, or one of them fits only
            weights that the optimizer was not built for.
    """
    decayed, needed = [], set()
    for weight, pattern, strength in rules.resolve(own_weights(model), "decay"):
        key = key_of(weight.variable)
        is_frozen = not weight.variable.trainable
        is_ours = keys is None or key in keys
        if is_ours or is_frozen:
            needed.add(pattern)
        # So that zero costs nothing.
        if is_ours and not is_frozen and not strength.is_zero:
            decayed.append(DecayedWeight(weight.path, key, strength))
    for pattern in rules.by_pattern:
        if pattern not in needed:
            raise ValueError(
                f"Pattern {pattern!r} matches only weights that this "
                "optimizer was not built for. Leave it out of the rules, "
                f"or build the optimizer for those of {model.name!r} as "
                "well."
            )
    return decayed
