"""Several strengths chosen together, by rounds of candidates.

First one strength for all keys. Then, from the best candidate so far, each key
alone is moved by some factors; and then the keys that gain by it are moved
together, those that gain most first. First by large factors, and then by small
ones, for as long as it gains.

Measured against the gradient of the held-out loss along the strengths, random
search and a cross-entropy method: see benchmarks/README.md.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from l2keras import _validation

# The default range of a strength.
LOWEST, HIGHEST = 1e-7, 10.0
# The range around a strength that is given: so many times lower and higher.
_AROUND = 1e3

_SINGLES = 9
_FACTORS = (1e-2, 1e-1, 1e1, 1e2), (0.3, 3.0)
_MOST_ROUNDS = 3

# From candidates, of shape (candidates, keys), to their lowest mean losses.
Losses = Callable[[np.ndarray], np.ndarray]


def check_ranges(strengths: Mapping[Any, Any]) -> np.ndarray:
    """The lowest and the highest strength of each key, of shape (keys, 2).

    Raises:
        TypeError: If a key is no string.
        ValueError: If there is no key, or a range is not one.
    """
    if not strengths:
        raise ValueError(
            "Argument `strengths` must name at least one strength, as in "
            "`{'inputs': None, 'noise': (1e-4, 1.0)}`. Received: strengths={}"
        )
    return np.array([_check_range(*item) for item in strengths.items()])


def _check_range(key: Any, value: Any) -> tuple[float, float]:
    if not isinstance(key, str):
        raise TypeError(
            "Argument `strengths` must have strings for names. "
            f"Received: the name {key!r}"
        )
    if value is None:
        return LOWEST, HIGHEST
    name = f"strengths[{key!r}]"
    bounds = (
        [_validation.check_number(bound, name) for bound in value]
        if isinstance(value, tuple | list | np.ndarray) and len(value) == 2
        else None
    )
    if bounds is None:
        start = _validation.check_number(value, name, " or a pair of numbers")
        bounds = [start / _AROUND, start * _AROUND]
    low, high = bounds
    if not 0 < low < high:
        raise ValueError(
            f"Argument `{name}` must be `None`, a number > 0 to search around, "
            "or a pair of numbers > 0, the lower one first. "
            f"Received: {name}={value!r}"
        )
    return low, high


def first_round(ranges: np.ndarray) -> np.ndarray:
    """The first candidates: one strength for all keys.

    If the keys have their own ranges, they go through these together.
    """
    low, high = np.log(ranges).T
    steps = np.linspace(0, 1, _SINGLES)[:, None]
    return _rounded(np.exp(low + steps * (high - low))).clip(*ranges.T)


def search(losses: Losses, ranges: np.ndarray) -> None:
    """Has candidates trained until no round gains any more.

    Args:
        losses: Function from candidates to their losses.
        ranges: The lowest and the highest strength of each key.
    """
    candidates = first_round(ranges)
    found = losses(candidates)
    best, lowest = candidates[found.argmin()], found.min()
    for factors in _FACTORS:
        for _ in range(_MOST_ROUNDS):
            before = lowest
            moved = _moved(best, factors, ranges)
            found = losses(moved.reshape(-1, len(ranges))).reshape(
                moved.shape[:2]
            )
            gains = lowest - found.min(axis=1)
            order = [key for key in (-gains).argsort() if gains[key] > 0]
            if not order:
                break
            # The move of each key alone, and of the first n that gain.
            choice = moved[np.arange(len(ranges)), found.argmin(axis=1)]
            together = []
            for number in range(1, len(order) + 1):
                values = best.copy()
                for key in order[:number]:
                    values[key] = choice[key, key]
                together.append(values)
            candidates = np.array(together)
            found = losses(candidates)
            best, lowest = candidates[found.argmin()], found.min()
            if not lowest < before:
                break


def _moved(
    best: np.ndarray, factors: tuple[float, ...], ranges: np.ndarray
) -> np.ndarray:
    """The best candidate with one key moved: (keys, factors, keys)."""
    keys = np.arange(len(ranges))
    moved = np.tile(best, (len(keys), len(factors), 1))
    moved[keys, :, keys] *= factors
    return _rounded(moved).clip(*ranges.T)


def _rounded(strengths: np.ndarray) -> np.ndarray:
    """Strengths with six digits, so that one reached in two ways is one."""
    return np.vectorize(lambda value: float(f"{value:.6g}"))(strengths)
