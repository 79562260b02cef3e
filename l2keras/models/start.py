"""The starts of a model's weights, set anew."""

import copy
import os
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
from keras import ops

from l2keras._keras.backend import backend
from l2keras.models.apply import put
from l2keras.models.terms import starts_in
from l2keras.weights.paths import Weight
from l2keras.weights.rules import Rules
from l2keras.weights.survey import Survey


def set_start(
    model: keras.Model,
    start: Any = None,
    importance: Mapping[str, Any] | None = None,
) -> None:
    """Sets the starts to which `FromStart` pulls a model's weights.

    After a model was built whose layers have `FromStart` as an argument; before
    training goes on on other data; or from a model, or a file, to whose weights
    one wants to stay close. It acts at once, on models that are compiled and
    fitted, too.

    Args:
        model: A built Keras model.
        start: `None` for the weights' values now; another model, which has
            weights of the same paths and shapes; the path of a file of weights
            that `model` can load; or a dictionary from the path of a weight, or
            a regular expression for some, to an array, or to `None` for what it
            is now, and then the others stay as they are. Defaults to `None`.
        importance: Dictionary from the path of a weight, or a regular
            expression for some, to an array >= 0 of the weight's shape, or a
            number. The squares of the distances are multiplied by it. Those
            that are not named keep theirs, at first 1. `fisher_importance`
            computes one. Defaults to `None`.

    Raises:
        TypeError: If `model` is not a Keras model, or an argument of another
            type.
        ValueError: If `model` is not built or has no `FromStart`, a pattern
            matches no weight that has one, two match one, or an array is not
            finite, of another shape, or negative where it must not be.

    Example:

    >>> import keras, l2keras
    >>> pull = l2keras.FromStart(l2keras.L2(0.5))
    >>> dense = keras.layers.Dense(3, kernel_regularizer=pull)
    >>> model = keras.Sequential([keras.Input((4,)), dense])
    >>> l2keras.set_start(model)
    >>> float(sum(model.losses))
    0.0
    """
    survey = Survey.of(model)
    pulled = [w for w in survey.trained if starts_in(w.variable.regularizer)]
    if not pulled:
        raise ValueError(
            "No weight has a `FromStart` whose start could be set. Put one on "
            "by `l2keras.apply_regularizers`. Received: model "
            f"{model.name!r}"
        )
    starts = _starts(survey, pulled, start)
    weights = {weight.path: weight for weight in pulled}
    importances: dict[str, Any] = {}
    if importance is not None:
        rules = _rules(importance, "importance")
        for weight, _, given in _resolve(rules, survey):
            importances[weight.path] = _array(
                given, weight, "importance", least=0.0
            )
    _write(survey, weights, starts, importances)


def _write(
    survey: Survey,
    weights: dict[str, Weight],
    starts: dict[str, Any],
    importances: dict[str, Any],
) -> None:
    """Writes starts and importances, by path."""
    holders: dict[int, list[str]] = {}
    for path, weight in weights.items():
        for each in starts_in(weight.variable.regularizer):
            holders.setdefault(id(each), []).append(path)
    changes = []
    with backend.variable_scope(survey.layer):
        for path, weight in weights.items():
            if path not in starts and path not in importances:
                continue
            regularizer = weight.variable.regularizer
            is_new = any(
                len(holders[id(each)]) > 1 for each in starts_in(regularizer)
            )
            if is_new:  # Others of the same layer, or model, have it as well.
                regularizer = copy.deepcopy(regularizer)
            dtype = weight.variable.dtype
            for each in starts_in(regularizer):
                if path in starts:
                    is_new |= each.begin(starts[path], dtype)
                if path in importances:
                    is_new |= each.weigh(importances[path], dtype)
            if is_new:
                changes.append((weight, regularizer))
    if changes:
        put(survey, changes)


def _starts(
    survey: Survey, pulled: list[Weight], start: Any
) -> dict[str, npt.NDArray[Any]]:
    """The starts that a user asks for, by path."""
    if start is None:
        return {weight.path: _values(weight.variable) for weight in pulled}
    if isinstance(start, Mapping):
        rules = _rules(start, "start")
        return {
            weight.path: _values(weight.variable)
            if given is None
            else _array(given, weight, "start")
            for weight, _, given in _resolve(rules, survey)
        }
    if isinstance(start, str | os.PathLike):
        model = survey.layer
        before = model.get_weights()
        try:
            model.load_weights(start)
            return {weight.path: _values(weight.variable) for weight in pulled}
        finally:
            model.set_weights(before)
    if isinstance(start, keras.Model):
        others = {w.path: w.variable for w in Survey.of(start).weights}
        missing = [
            weight.path
            for weight in pulled
            if weight.path not in others
            or others[weight.path].shape != weight.variable.shape
        ]
        if missing:
            raise ValueError(
                f"Model {start.name!r} has no weights of the same paths and "
                f"shapes for {', '.join(map(repr, missing))}."
            )
        return {w.path: _values(others[w.path]) for w in pulled}
    raise TypeError(
        "Argument `start` must be None, a model, the path of a file of "
        "weights, or a dictionary from path or pattern to array. Received: "
        f"start={start!r} (of type {type(start).__name__})"
    )


def _rules(given: Mapping[str, Any], argument: str) -> Rules[Any]:
    def check(value: Any, name: str) -> Any:
        return value

    return Rules(given, check=check, argument=argument, values="an array")


def _resolve(rules: Rules[Any], survey: Survey) -> Any:
    return rules.resolve(
        survey.weights,
        "have a start",
        needs=lambda weight: bool(starts_in(weight.variable.regularizer)),
        lack="has no `FromStart`",
    )


def _array(
    given: Any, weight: Weight, argument: str, least: float | None = None
) -> npt.NDArray[Any]:
    """The value given for a weight, as an array of its shape."""
    name = f"{argument}[{weight.path!r}]"
    shape = tuple(weight.variable.shape)
    try:
        array = np.asarray(ops.convert_to_numpy(given))
        wide = "float64" if array.dtype == "float64" else "float32"
        array = array.astype(wide)
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"Argument `{name}` must be an array. Received: {given!r}"
        ) from error
    if array.shape not in ((), shape):
        raise ValueError(
            f"Argument `{name}` must have the shape of the weight, {shape}. "
            f"Received: an array of shape {array.shape}"
        )
    too_small = least is not None and (array < least).any()
    if too_small or not np.isfinite(array).all():
        kind = "finite" if least is None else f"finite and >= {least:g}"
        raise ValueError(
            f"Argument `{name}` must be {kind}. Received: {given!r}"
        )
    return np.broadcast_to(array, shape)


def _values(variable: keras.Variable) -> npt.NDArray[Any]:
    # Not NumPy's view of a tensor of PyTorch, which changes with it.
    return np.array(ops.convert_to_numpy(variable))
