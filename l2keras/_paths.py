"""Weights by path, and the rules that name them.

A path is the names of the layers on the way from the model, whose own name is
left out since it changes from one model to the next, to the weight's own name:
`hidden/kernel`, or `backbone/block_1/kernel` for a model inside the model. It
mostly is `variable.path`, but that has the model's name in front, may lack the
name of a model inside, and changes when a model is reloaded.

Rules match as in Keras's `LayoutMap`: the exact path first, then
`re.fullmatch`.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import keras

from l2keras import _keras_private


class Weight(NamedTuple):
    """A weight with its place in a model."""

    path: str
    variable: keras.Variable
    layer: keras.layers.Layer  # The one that made it.

    @property
    def is_trained(self) -> bool:
        """Whether it is for training, be it frozen now, and not statistics."""
        return _keras_private.is_trained(self.layer, self.variable)


def check_model(model: Any) -> None:
    """Raises a TypeError unless `model` is a Keras model."""
    if not isinstance(model, keras.Model):
        raise TypeError(
            "Argument `model` must be a Keras model. "
            f"Received: model={model!r} (of type {type(model).__name__})"
        )


def weights(model: keras.Model) -> list[Weight]:
    """Returns the model's weights, each once, in the order of its layers.

    Raises:
        TypeError: If `model` is not a Keras model.
        ValueError: If it is not built.
    """
    check_model(model)
    if not model.built:
        raise ValueError(
            f"Model {model.name!r} is not built, so it has no weights yet. "
            "Call `model.build(input_shape)` first, or call it on data."
        )
    return own_weights(model)


def own_weights(layer: keras.layers.Layer) -> list[Weight]:
    """Returns the weights that there are, by their paths from any layer."""
    found: dict[int, Weight] = {}
    places: dict[int, str] = {}
    taken: set[str] = set()
    for place, each in _keras_private.layers_by_path(layer):
        for variable in _keras_private.own_variables(each):
            # A wrapper may hold a weight of the layer that it wraps, which
            # comes later: the inner layer is the one that made it.
            if not place.startswith(places.get(id(variable), place)):
                continue
            places[id(variable)] = place
            # Layers made outside a model may bear one name twice.
            path, number = f"{place}{variable.name}", 1
            while path in taken:
                number += 1
                path = f"{place}{variable.name}_{number}"
            taken.add(path)
            found[id(variable)] = Weight(path, variable, each)
    return list(found.values())


def match_trained(
    rules: Mapping[str, Any], weights: list[Weight], purpose: str
) -> tuple[list[Weight], dict[str, str]]:
    """Returns the weights that are ever trained, and what `match` does of them.

    Args:
        rules: Dictionary whose keys are paths or regular expressions.
        weights: The weights of a model.
        purpose: What the rules would have a weight do, such as "decay".

    Raises:
        TypeError: As `match`.
        ValueError: As `match`, and if a path is of a weight that is not among
            them.
    """
    trained = [weight for weight in weights if weight.is_trained]
    paths = [weight.path for weight in trained]
    if isinstance(rules, Mapping):
        for weight in weights:
            if weight.path in rules and weight.path not in paths:
                raise ValueError(
                    f"Weight {weight.path!r} is never trained, so it cannot "
                    f"{purpose}. Leave it out of the rules."
                )
    return trained, match(rules, paths)


def match(rules: Mapping[str, Any], paths: Iterable[str]) -> dict[str, str]:
    """Returns for each path that a rule names the pattern of that rule.

    Args:
        rules: Dictionary whose keys are paths or regular expressions.
        paths: The paths there are.

    Raises:
        TypeError: If `rules` is no dictionary or a key no string.
        ValueError: If a key is no regular expression, matches no path, or
            matches a path that another matches as well.
    """
    paths = list(paths)
    if not isinstance(rules, Mapping):
        raise TypeError(
            "Rules must be a dictionary from path or pattern to value. "
            f"Received: {rules!r}"
        )
    expressions = {}
    for pattern in rules:
        if not isinstance(pattern, str):
            raise TypeError(
                "A pattern must be a string: a path, or a regular expression. "
                f"Received: {pattern!r}"
            )
        try:
            expressions[pattern] = re.compile(pattern)
        except re.error as error:
            if pattern not in paths:
                raise ValueError(
                    f"Pattern {pattern!r} is not a regular expression: {error}."
                ) from None
    matched = {}
    for path in paths:
        if path in rules:
            matched[path] = path
            continue
        patterns = [
            pattern
            for pattern, expression in expressions.items()
            if expression.fullmatch(path)
        ]
        if len(patterns) > 1:
            raise ValueError(
                f"Weight {path!r} is matched by more than one pattern: "
                f"{_listed(patterns)}. Make each weight match at most one."
            )
        if patterns:
            matched[path] = patterns[0]
    for pattern in rules:
        if pattern not in matched.values():
            raise ValueError(
                f"Pattern {pattern!r} matches no weight. A pattern is a whole "
                f"path or a regular expression for one. Paths: {_listed(paths)}"
            )
    return matched


def _listed(names: Iterable[str]) -> str:
    return ", ".join(repr(name) for name in names) or "none"
