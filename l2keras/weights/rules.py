"""Rules: paths or regular expressions, and what they name.

They match as in Keras's `LayoutMap`: the exact path first, then `re.fullmatch`.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Generic, NamedTuple, TypeVar

from l2keras.weights import kinds
from l2keras.weights.paths import Weight

Value = TypeVar("Value")


class Named(NamedTuple, Generic[Value]):
    """A weight that a rule names, or that the default reaches."""

    weight: Weight
    pattern: str | None  # That of the rule, `None` for the default.
    value: Value


class Rules(Generic[Value]):
    """What a user wants for which weights: a dictionary, and a default.

    It is made of what the user gave, before there need be a model: the types
    are checked then, and each value. `resolve` matches it with a model's
    weights.

    Args:
        rules: Dictionary whose keys are paths or regular expressions, or
            `None` for no rules.
        default: The value for the weights that no rule names, `None` for none.
        check: Function of a value and its name, such as `rules['a/.*']`, that
            returns the value as it is kept, or raises. Called with the
            default too, if there is one.
        argument: The argument that the user gave, if it is not called `rules`.
        values: What the values are, for the message.

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
            who = "Rules" if argument is None else f"Argument `{argument}`"
            received = "" if argument is None else f"{argument}="
            raise TypeError(
                f"{who} must be a dictionary from path or pattern to {values}. "
                f"Received: {received}{rules!r}"
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
        self._expressions: dict[str, re.Pattern[str]] = {}
        # Kept until it is known that they are no paths either.
        self._errors: dict[str, re.error] = {}
        for pattern in self.by_pattern:
            try:
                self._expressions[pattern] = re.compile(pattern)
            except re.error as error:
                self._errors[pattern] = error

    def resolve(
        self,
        weights: Iterable[Weight],
        purpose: str,
        reaches: Callable[[Weight], bool] = kinds.is_kernel,
    ) -> list[Named[Value]]:
        """Returns the weights that the rules name and the default reaches.

        Those that are never trained are not among them.

        Args:
            weights: Weights of a model, in whose order they are returned.
            purpose: What the rules would have a weight do, such as "decay".
            reaches: Tells whether the default is meant for a weight. Defaults
                to `kinds.is_kernel`.

        Raises:
            ValueError: If a key is no regular expression, matches no weight
                or one that another matches as well, or is the path of a weight
                that is never trained.
        """
        trained = []
        for weight in weights:
            if weight.is_trained:
                trained.append(weight)
            elif weight.path in self.by_pattern:
                raise ValueError(
                    f"Weight {weight.path!r} is never trained, so it cannot "
                    f"{purpose}. Leave it out of the rules."
                )
        paths = [weight.path for weight in trained]
        for pattern, error in self._errors.items():
            if pattern not in paths:
                raise ValueError(
                    f"Pattern {pattern!r} is not a regular expression: {error}."
                )
        patterns = [self._pattern(path) for path in paths]
        for pattern in self.by_pattern:
            if pattern not in patterns:
                raise ValueError(
                    f"Pattern {pattern!r} matches no weight. A pattern is a "
                    "whole path or a regular expression for one. Paths: "
                    f"{_listed(paths)}"
                )
        named = []
        for weight, own in zip(trained, patterns, strict=True):
            if own is not None:
                named.append(Named(weight, own, self.by_pattern[own]))
            elif self.default is not None and reaches(weight):
                named.append(Named(weight, None, self.default))
        return named

    def _pattern(self, path: str) -> str | None:
        """Returns the pattern of the rule that names a path."""
        if path in self.by_pattern:
            return path
        patterns = [
            pattern
            for pattern, expression in self._expressions.items()
            if expression.fullmatch(path)
        ]
        if len(patterns) > 1:
            raise ValueError(
                f"Weight {path!r} is matched by more than one pattern: "
                f"{_listed(patterns)}. Make each weight match at most one."
            )
        return patterns[0] if patterns else None


def _listed(names: Iterable[str]) -> str:
    return ", ".join(repr(name) for name in names) or "none"
