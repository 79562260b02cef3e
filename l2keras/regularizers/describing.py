"""Regularizers in words: how to write one, and whether two are alike."""

from typing import Any

import keras

from l2keras.regularizers.base import Regularizer, Sum, terms_of
from l2keras.regularizers.elementwise import L1, L2

_OF_KERAS = (
    keras.regularizers.L1,
    keras.regularizers.L1L2,
    keras.regularizers.L2,
)


def same(one: Any, other: Any) -> bool:
    """Tells whether two regularizers are saved alike."""
    if one is other:
        return True
    try:
        configs = [keras.saving.serialize_keras_object(e) for e in (one, other)]
    except Exception:  # From the `get_config` of a class of the user's.
        return False
    return configs[0] == configs[1]


def describe(regularizer: Any) -> str:
    """The call that makes a regularizer, also one of Keras's."""
    if type(regularizer) is Sum and regularizer.scale == 1.0:
        return " + ".join(map(describe, regularizer.regularizers))
    if regularizer is None or isinstance(regularizer, Regularizer):
        return repr(regularizer)
    if isinstance(regularizer, keras.Regularizer):
        name = type(regularizer).__name__
        if type(regularizer).__module__.startswith("keras."):
            name = f"Keras {name}"
        try:
            config = regularizer.get_config()
        except Exception:  # This is for messages, of which it may be one.
            return f"{name}(...)"
        arguments = (f"{key}={_short(each)}" for key, each in config.items())
        return f"{name}({', '.join(arguments)})"
    return getattr(regularizer, "__name__", repr(regularizer))


def cannot_compute(
    regularizer: Any, path: str, shape: Any, error: Exception
) -> ValueError:
    """The error for a regularizer that fails on a weight."""
    return ValueError(
        f"Regularizer {describe(regularizer)} cannot be computed for weight "
        f"{path!r} of shape {tuple(shape)}: {error}"
    )


def constant_parts(regularizer: Any) -> tuple[float, float] | None:
    """The `l1` and `l2` of a regularizer that has nothing else.

    `None` for one that has a schedule, or another penalty.
    """
    if regularizer is None:
        return None
    l1 = l2 = 0.0
    for term in terms_of(regularizer):
        strength = term.strength
        if strength.is_scheduled or term.start is not None:
            return None
        if type(term.regularizer) in _OF_KERAS:
            config = term.regularizer.get_config()
            l1 += strength.number() * config.get("l1", 0.0)
            l2 += strength.number() * config.get("l2", 0.0)
        elif type(term.regularizer) is L1:
            l1 += strength.number()
        elif type(term.regularizer) is L2:
            l2 += strength.number()
        else:
            return None
    return l1, l2


def _short(value: Any) -> str:
    # Keras keeps strengths in float32, of which Python prints all the digits.
    return f"{value:.6g}" if isinstance(value, float) else repr(value)
