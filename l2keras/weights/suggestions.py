"""Messages for a pattern that matches no weight, with suggestions."""

import difflib
import re
from collections.abc import Iterator

# Of more paths than these, only the nearest are listed.
_LISTED = 5


def no_match(pattern: str, paths: list[str]) -> str:
    """The message for a key that matches no path."""
    meant = _glob_hint(pattern, paths) or next(
        (
            f" Did you mean {other!r}?"
            for other in _others(pattern, paths)
            if _matches(other, paths)
        ),
        "",
    )
    return (
        f"Pattern {pattern!r} matches no weight.{meant} A pattern is a whole "
        f"path or a regular expression for one. {_nearest(pattern, paths)}"
    )


def no_expression(pattern: str, error: re.error, paths: list[str]) -> str:
    """The message for a key that is neither a path nor an expression."""
    return (
        f"Pattern {pattern!r} is not a regular expression: {error}."
        f"{_glob_hint(pattern, paths)}"
    )


def _glob_hint(pattern: str, paths: list[str]) -> str:
    """The hint for a key that matches as a glob does, empty if it does not."""
    meant = re.sub(r"(?<![.\])])\*+", ".*", pattern)
    if meant == pattern or not _matches(meant, paths):
        return ""
    return (
        f" Did you mean {meant!r}? (`*` repeats the character before it; "
        "`.*` is any text.)"
    )


def _others(pattern: str, paths: list[str]) -> Iterator[str]:
    """Yields keys of the same sense, the likeliest first."""
    yield f"{pattern}/.*"  # A layer.
    yield f".*/{pattern}"  # A weight's own name.
    yield f".*/{pattern}/.*"  # A layer in a layer.
    _, _, inside = pattern.partition("/")
    if inside in paths:  # `variable.path` begins with the model's name.
        yield inside
    folders = {path.rpartition("/")[0] for path in paths}
    layers = sorted(f"{folder}/.*" for folder in folders if folder)
    yield from difflib.get_close_matches(
        pattern, [*paths, *layers], n=1, cutoff=0.75
    )


def _matches(pattern: str, paths: list[str]) -> bool:
    try:
        expression = re.compile(pattern)
    except re.error:
        return pattern in paths
    return any(path == pattern or expression.fullmatch(path) for path in paths)


def _nearest(pattern: str, paths: list[str]) -> str:
    nearest = paths
    if len(paths) > _LISTED:
        nearest = difflib.get_close_matches(
            pattern, paths, n=_LISTED, cutoff=0.0
        )
    listed = ", ".join(repr(path) for path in nearest) or "none"
    if len(paths) > _LISTED:
        return f"The nearest of {len(paths)} paths: {listed}"
    return f"Paths: {listed}"
