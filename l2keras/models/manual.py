"""Manual settings: the step of a model's schedules, and scales."""

from collections.abc import Mapping
from typing import Any

import keras

from l2keras import _validation
from l2keras._keras import layer_tree
from l2keras._keras.backend import backend
from l2keras.models.compiled import compiled_with, forget_compiled
from l2keras.models.terms import scheduled_terms, track_states
from l2keras.regularizers.base import Regularizer
from l2keras.strengths import step as steps
from l2keras.strengths.strength import Scale
from l2keras.weights.rules import Named, Rules
from l2keras.weights.survey import Survey


def set_step(model: keras.Model, step: int) -> None:
    """Puts every schedule of a model at a step of the optimizer.

    For training with another optimizer than the model is compiled with, and for
    all custom training loops on JAX: call it before each step. Elsewhere there
    is nothing to do: schedules read `model.optimizer.iterations` by themselves.
    Models with constant strengths are left as they are.

    The step holds until `model.optimizer` counts on, if the model has one. It
    is saved with the model's regularizers.

    On JAX the step is one of `model.non_trainable_variables` from the first
    call: in a custom loop, read their values after the call, and pass them to
    the compiled step.

    Args:
        model: A built Keras model. The outermost one, of which `losses` or
            `train_step` is called.
        step: Integer >= 0 and < 2**31, or `optimizer.iterations`.

    Raises:
        TypeError: If `model` is not a Keras model, or `step` not a number.
        ValueError: If `model` is not built, or `step` is out of range.

    Example:

    >>> import keras, l2keras
    >>> ramp = l2keras.LinearSchedule(0.0, 1.0, steps=10)
    >>> dense = keras.layers.Dense(
    ...     1, kernel_initializer="ones", kernel_regularizer=l2keras.L2(ramp)
    ... )
    >>> model = keras.Sequential([keras.Input((4,)), dense])
    >>> l2keras.set_step(model, 5)
    >>> float(sum(model.losses))
    2.0
    """
    step = _validation.check_step(step, "step")
    survey = Survey.of(model)
    terms = scheduled_terms(survey)
    if not terms:
        return
    by_hand = steps.set_by_hand(model)
    if by_hand is None:
        with backend.variable_scope(model):
            by_hand = steps.StepSetByHand()
        # In those inside too: their `losses` may be read alone.
        trackers = [
            layer
            for _, layer in survey.layers
            if layer is model
            or (
                isinstance(layer, keras.Model)
                and getattr(layer, "optimizer", None) is None
            )
        ]
        for layer in trackers:
            layer_tree.track(layer, by_hand)
        forget_compiled(compiled_with(survey))
    clock = steps.clock_of(model)
    assert clock is not None  # Since a step was set.
    by_hand.write((step, clock.counted() or 0))
    for term in terms:
        term.strength.remember(clock)


def set_scale(model: keras.Model, scales: Mapping[str, float]) -> None:
    """Sets the scale of some of a model's regularizers, by their weights.

    A regularizer returns scale times strength times penalty. The first call for
    a weight compiles the training step anew, of the model and of all models
    that were trained with the regularizer; later calls do not. The scale is
    saved with the model.

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
    chosen = _check_one_scale(survey, named)
    scales: dict[str, Scale] = {}
    for pattern, regularizers in chosen.items():
        states = [regularizer.state_of_scale for regularizer in regularizers]
        state = states[0]
        if state is None or any(other is not state for other in states):
            with backend.variable_scope(model):
                state = Scale(regularizers[0].scale)
            for regularizer in regularizers:
                regularizer.set_scale(state)
        scales[pattern] = state
    # Models that share a regularizer track its scale too.
    holders = compiled_with(survey)
    if any([track_states(Survey(model)) for model in holders]):
        forget_compiled(holders)
    return scales


def _check_one_scale(
    survey: Survey, named: list[Named[Any]]
) -> dict[str, list[Regularizer]]:
    """The regularizers that each rule names.

    Raises:
        TypeError: If one of them is not of l2keras.
        ValueError: If one is shared with a weight of another rule, or of none.
    """
    patterns = {weight.path: pattern for weight, pattern, _ in named}
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
