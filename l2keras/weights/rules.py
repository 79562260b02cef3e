"""Rules: values for weights, by path or regular expression.

They match as in Keras's `LayoutMap`: the exact path first, then `re.fullmatch`.
A key that is the path of a weight is no expression for further ones.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Generic, NamedTuple, TypeVar

from l2keras.weights import kinds, suggestions
from l2keras.weights.paths import Weight

Value = TypeVar("Value")


class Named(NamedTuple, Generic[Value]):
    """A weight that a rule names, or that the default reaches."""

    weight: Weight
    pattern: str | None  # That of the rule, `None` for the default.
    value: Value


class Rules(Generic[Value]):
    """Values for weights: a dictionary by path or pattern, and a default.

    Made of the user's arguments before there need be a model: the types are
    checked then, and each value. `resolve` matches the patterns with a model's
    weights.

    Args:
        rules: Dictionary whose keys are paths or regular expressions, or
            `None` for no rules.
        default: The value for the weights that no rule names, `None` for none.
        check: Function of a value and its name, such as `rules['a/.*']`, that
            returns the value as it is kept, or raises. Called with the
            default too, if there is one.
        argument: The argument that the user gave, if it is not called `rules`.
        values: The noun for the values, for the message.

    Attributes:
        by_pattern: The checked values by path or expression, in the order of
            the user.
        default: The checked default.

    Raises:
        TypeError: If `rules` is no dictionary, or a key no string.
    """

    def __init__(
        self,
        rules: Mapping[str, Any] | None,
        default: Any = None,
        *,
        check: Callable[[Any, str], Value],
        argument: str | None = None,
        values: str = "value",
    ) -> None:
        if rules is None and argument is None:
            rules = {}
        name = "rules" if argument is None else argument
        if not isinstance(rules, Mapping):
            cure = ""
            if argument is None and _is_value(rules, check):
                cure = f". For all kernels, write `default={rules!r}`"
            raise TypeError(
                f"Argument `{name}` must be a dictionary from path or pattern "
                f"to {values}. Received: {name}={rules!r}{cure}"
            )
        for pattern in rules:
            if not isinstance(pattern, str):
                raise TypeError(
                    "A pattern must be a string: a path, or a regular "
                    f"expression. Received: {pattern!r}"
                )
        self.by_pattern: dict[str, Value] = {
            pattern: check(value, f"{name}[{pattern!r}]")
            for pattern, value in rules.items()
        }
        self.default: Value | None = (
            None if default is None else check(default, "default")
        )

    def resolve(
        self,
        weights: Iterable[Weight],
        purpose: str,
        reaches: Callable[[Weight], bool] = kinds.is_kernel,
        needs: Callable[[Weight], bool] | None = None,
        lack: str = "",
    ) -> list[Named[Value]]:
        """The weights that the rules name and the default reaches.

        Those that are never trained are not among them.

        Args:
            weights: All weights of a model, in whose order they are returned.
            purpose: The verb of the rules for the message, such as "decay".
            reaches: Tells whether the default is meant for a weight. Defaults
                to `kinds.is_kernel`.
            needs: Further condition on a weight.
            lack: The predicate, for the message, of a weight that does not
                meet it.

        Raises:
            ValueError: If a key is no regular expression, matches no weight
                or one that another matches as well, or is the path of a weight
                that is never trained, or lacks what it needs.
        """
        weights = list(weights)
        fit, unfit = [], {}
        for weight in weights:
            if not weight.is_trained:
                unfit[weight.path] = "is never trained"
            elif needs is not None and not needs(weight):
                unfit[weight.path] = lack
            else:
                fit.append(weight)
        for path, reason in unfit.items():
            if path in self.by_pattern:
                raise ValueError(
                    f"Weight {path!r} {reason}, so it cannot {purpose}. Leave "
                    "it out of the rules."
                )
        paths = [weight.path for weight in fit]
        expressions = self._expressions_beside(set(paths))
        patterns = [self._pattern(path, expressions) for path in paths]
        matching = set(patterns)
        for pattern in self.by_pattern:
            if pattern not in matching:
                raise ValueError(suggestions.no_match(pattern, paths))
        named = []
        for weight, own in zip(fit, patterns, strict=True):
            if own is not None:
                named.append(Named(weight, own, self.by_pattern[own]))
            elif self.default is not None and reaches(weight):
                named.append(Named(weight, None, self.default))
        return named

    def _expressions_beside(
        self, paths: set[str]
    ) -> dict[str, re.Pattern[str]]:
        """The keys that are no paths, as regular expressions.

        Raises:
            ValueError: If one is neither.
        """
        expressions = {}
        for pattern in self.by_pattern:
            if pattern in paths:
                continue
            try:
                expressions[pattern] = re.compile(pattern)
            except re.error as error:
                raise ValueError(
                    suggestions.no_expression(pattern, error, list(paths))
                ) from None
        return expressions

    def _pattern(
        self, path: str, expressions: Mapping[str, re.Pattern[str]]
    ) -> str | None:
        """The key of the rule that names a path."""
        if path in self.by_pattern:
            return path
        patterns = [
            pattern
            for pattern, expression in expressions.items()
            if expression.fullmatch(path)
        ]
        if len(patterns) > 1:
            listed = ", ".join(repr(pattern) for pattern in patterns)
            raise ValueError(
                f"Weight {path!r} is matched by more than one pattern: "
                f"{listed}. Make each weight match at most one."
            )
        return patterns[0] if patterns else None


def _is_value(given: Any, check: Callable[[Any, str], Any]) -> bool:
    """Tells whether a value for a rule was given in place of the rules."""
    try:
        return check(given, "default") is not None
    except (TypeError, ValueError):
        return False
