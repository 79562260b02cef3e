"""The scale of a model's strengths, set from outside."""

from collections.abc import Mapping
from typing import Any

import keras

from l2keras import _validation
from l2keras._keras import backends, memory
from l2keras.models.compiled import forget_compiled
from l2keras.models.terms import carry_states, placed_regularizers
from l2keras.regularizers.base import Regularizer, terms_of
from l2keras.strengths.strength import Scale, take_holders
from l2keras.weights.rules import Named, Rules
from l2keras.weights.survey import Survey


def set_scale(model: keras.Model, scales: Mapping[str, float]) -> None:
    """Sets the scale of some of a model's regularizers, by their weights.

    What a regularizer returns is its scale times its strength times its
    penalty. The first call for a weight compiles the model's training step
    anew; later ones take effect without. The scale is saved with the model.

    Args:
        model: A built Keras model.
        scales: Dictionary from the path of a weight, or a regular expression
            for some, to a finite number >= 0.

    Raises:
        TypeError: If `model` is not a Keras model, `scales` no dictionary, a
            scale not a number, or a regularizer not one of l2keras.
        ValueError: If a scale is negative or not finite, a pattern matches no
            regularized weight, two match one, or one regularizer would have to
            have two scales.

    Example:

    >>> import keras, l2keras
    >>> dense = keras.layers.Dense(
    ...     1, name="hidden", kernel_initializer="ones",
    ...     kernel_regularizer=l2keras.L2(0.5)
    ... )
    >>> model = keras.Sequential([keras.Input((4,)), dense])
    >>> l2keras.set_scale(model, {"hidden/.*": 0.25})
    >>> float(sum(model.losses))
    0.5
    """
    rules = Rules(
        scales,
        check=_validation.check_number,
        argument="scales",
        values="a number",
    )
    states = connect_scales(model, rules)
    for pattern, scale in rules.by_pattern.items():
        states[pattern].write(scale)


def connect_scales(model: keras.Model, rules: Rules[Any]) -> dict[str, Scale]:
    """Gives the regularizers that each rule names one scale that can change.

    Everything is checked before anything is changed. Functions that were
    compiled without the scales are dropped.

    Returns:
        Dictionary from the pattern of each rule to the scale.
    """
    survey = Survey.of(model)
    named = rules.resolve(
        survey.weights,
        "have a scale",
        needs=lambda weight: weight.variable.regularizer is not None,
        lack="has no regularizer",
    )
    chosen = _check_one_scale_each(survey, named)
    scales: dict[str, Scale] = {}
    for pattern, regularizers in chosen.items():
        states = [each.state_of_scale for each in regularizers]
        state = states[0]
        if state is None or any(each is not state for each in states):
            with backends.variable_scope(model):
                state = Scale(regularizers[0].scale)
            for each in regularizers:
                each.set_scale(state)
        scales[pattern] = state
    if carry_states(survey):
        models = memory.all_models()
        changed: list[Any] = [each.weight.variable for each in named]
        for model in models:
            if model is not survey.layer:
                changed += _layers_with(chosen, Survey(model))
        forget_compiled(changed, models)
    holders = [
        each for scale in scales.values() for each in take_holders(scale)
    ]
    for model in holders:
        carry_states(Survey(model))
    if holders:
        forget_compiled(holders)
    return scales


def _layers_with(
    chosen: dict[str, list[Regularizer]], survey: Survey
) -> list[keras.layers.Layer]:
    """Returns the layers of another model that have a new scale to carry."""
    regularizers = {id(each) for some in chosen.values() for each in some}
    layers = []
    for placed in placed_regularizers(survey):
        parts = [each.regularizer for each in terms_of(placed.regularizer)]
        parts.append(placed.regularizer)
        if not regularizers.isdisjoint(map(id, parts)):
            layers.append(placed.layer)
    return layers if layers and carry_states(survey) else []


def _check_one_scale_each(
    survey: Survey, named: list[Named[Any]]
) -> dict[str, list[Regularizer]]:
    """Returns the regularizers that each rule names.

    Raises:
        TypeError: If one of them is not of l2keras.
        ValueError: If one is shared with a weight of another rule, or of none.
    """
    patterns = {each.weight.path: each.pattern for each in named}
    chosen: dict[str, list[Regularizer]] = {}
    first: dict[int, tuple[str | None, str]] = {}
    for path, variable, _ in survey.regularized:
        pattern, regularizer = patterns.get(path), variable.regularizer
        if pattern is not None and not isinstance(regularizer, Regularizer):
            raise TypeError(
                f"The regularizer of {path!r} must be one of l2keras to have a "
                f"scale. Received: {regularizer!r}"
            )
        before, other = first.setdefault(id(regularizer), (pattern, path))
        if before != pattern:
            raise ValueError(
                f"Weights {other!r} and {path!r} share one regularizer, "
                f"{regularizer!r}, which cannot have two scales. Give "
                "each layer a regularizer of its own, or match both weights "
                "with one pattern."
            )
        if pattern is not None:
            chosen.setdefault(pattern, []).append(regularizer)
    return chosen
