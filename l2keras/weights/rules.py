"""Rules: paths or regular expressions, and what they name.

They match as in Keras's `LayoutMap`: the exact path first, then `re.fullmatch`.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from l2keras.weights.paths import Weight


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
