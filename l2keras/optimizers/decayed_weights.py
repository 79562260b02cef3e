"""The weights that an optimizer decays, with their strengths.

Rules name weights by their paths in a model. A weight is tied to its variable
by the key under which the optimizer knows it.
"""

import dataclasses
from collections.abc import Callable
from concurrent import futures
from typing import Any

import keras
import numpy as np
from keras import ops

from l2keras.strengths.strength import Strength
from l2keras.weights.paths import own_weights
from l2keras.weights.rules import Rules


@dataclasses.dataclass(frozen=True)
class DecayedWeight:
    """A weight that is decayed."""

    path: str
    key: Any  # By which the optimizer looks it up.
    strength: Strength


def resolve(
    model: keras.Model,
    rules: Rules[Strength],
    key_of: Callable[[keras.Variable], Any],
    keys: set[Any] | None = None,
) -> list[DecayedWeight]:
    """The weights of a model that decay, in the order of its layers.

    Args:
        model: The model.
        rules: The strengths.
        key_of: Function from a variable to its key in the optimizer.
        keys: The keys of the variables that the optimizer was built for: no
            others decay. `None` if it is not built: all that are trained may.

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
        # Zero is left out, and costs nothing.
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


def check_optimizer(optimizer: keras.optimizers.Optimizer) -> None:
    """Raises a ValueError unless the weights of an optimizer can be decayed."""
    # `Muon` has an `adam_weight_decay` too.
    for argument in ("weight_decay", "adam_weight_decay"):
        decay = getattr(optimizer, argument, None)
        if decay:
            raise ValueError(
                "The optimizer must not decay weights itself, which would "
                f"then decay twice. Make it with `{argument}=0.0`, and give "
                "`DecoupledWeightDecay` the strength, as in "
                f"`default={decay!r}`. Received: "
                f"{type(optimizer).__name__}({argument}={decay!r})"
            )
    if not keeps_changes(optimizer):
        name = type(optimizer).__name__
        raise ValueError(
            f"`{name}` computes the weights anew at each update from states of "
            "its own, so decay would be undone. Take another optimizer, or "
            f"give the weights an `l2keras.L2` penalty. Received: {name}(...)"
        )


_tried: dict[type, bool] = {}


def keeps_changes(optimizer: keras.optimizers.Optimizer) -> bool:
    """Tells whether updates start from the weight, changes by others included.

    Tried once for each class, in a thread of its own: outside of distribution
    strategies and traces.
    """
    kind = type(optimizer)
    if kind not in _tried:
        with futures.ThreadPoolExecutor(1) as executor:
            _tried[kind] = executor.submit(_copy_keeps, optimizer).result()
    return _tried[kind]


def _copy_keeps(optimizer: keras.optimizers.Optimizer) -> bool:
    """Tells whether a weight stays half if it is halved before short updates.

    Two of them, as the states of some begin with the weight's first value. An
    optimizer that cannot be made from its config, and so not be saved either,
    is trusted.
    """
    config = optimizer.get_config()
    plain = {
        "learning_rate": 1e-3,
        "use_ema": False,
        "gradient_accumulation_steps": None,
    }
    config.update({k: v for k, v in plain.items() if k in config})
    try:
        copy = type(optimizer).from_config(config)
    except TypeError:
        return True
    weight = keras.Variable(np.full((2, 2), 1e4, "float32"))
    copy.build([weight])
    for _ in range(2):
        weight.assign(weight / 2)
        before = ops.convert_to_numpy(weight).copy()
        copy.apply([ops.ones((2, 2))], [weight])
    after = ops.convert_to_numpy(weight)
    return bool(np.allclose(after, before, rtol=0.1))
