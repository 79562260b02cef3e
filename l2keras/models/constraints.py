"""Constraints put on a model that is already built."""

import copy
from collections.abc import Mapping
from typing import Any

import keras

from l2keras._keras import memory
from l2keras._keras.backend import backend
from l2keras.models import compiled
from l2keras.models.regularized_layer import save_regularizers
from l2keras.models.saving import serialization_roots
from l2keras.weights.rules import Rules
from l2keras.weights.survey import Survey


def apply_constraints(
    model: keras.Model, rules: Mapping[str, Any]
) -> dict[str, Any]:
    """Puts constraints on weights of a model that is already built.

    From then on each update of the optimizer is followed by them, also in a
    model that has been compiled and fitted before. Setting
    `layer.kernel_constraint` does nothing, since Keras reads it only when the
    layer is built. The constraints are saved and cloned with the model.

    They come after the proximal steps of `l2keras.Proximal`. `NonNeg` after
    `L1` is right, exactly; after a constraint that makes weights larger or
    smaller, zeros stay zeros, but training comes to rest near, and not at,
    where the loss is least within the constraint.

    Args:
        model: A built Keras model. The outermost one: then paths have the names
            of the models inside.
        rules: Dictionary from the path of a weight, or a regular expression for
            some, to a constraint such as `keras.constraints.MaxNorm(2.0)`, or
            to `None` to take off the one that is there. An exact path goes
            before an expression.

    Returns:
        Dictionary from path to the constraint that the weight has now, for each
        weight that a rule named.

    Raises:
        TypeError: If `model` is not a Keras model, `rules` no dictionary, or a
            constraint none, such as a class in place of an instance.
        ValueError: If `model` is not built, there are no rules, a pattern
            matches no weight that is trained, two match one, or a constraint
            cannot be computed for a weight.

    Example:

    >>> import keras, l2keras
    >>> model = keras.Sequential(
    ...     [keras.Input((4,)), keras.layers.Dense(3, name="head")]
    ... )
    >>> limit = keras.constraints.MaxNorm(2.0)
    >>> list(l2keras.apply_constraints(model, {"head/.*": limit}))
    ['head/kernel', 'head/bias']
    """
    survey = Survey.of(model)
    checked = Rules(
        rules, check=_check_constraint, argument="rules", values="a constraint"
    )
    if not checked.by_pattern:
        raise ValueError(
            "There is nothing to apply. Give `rules`, a dictionary from path "
            "or pattern to constraint. Received: rules={}"
        )
    chosen = checked.resolve(survey.weights, "be constrained")
    for weight, _, constraint in chosen:
        if constraint is not None:
            _check_computes(constraint, weight.path, weight.variable)
    holders = compiled.compiled_with(survey)
    for weight, _, constraint in chosen:
        weight.variable.constraint = copy.deepcopy(constraint)
    changed = {id(weight.variable) for weight, _, _ in chosen}
    for root in serialization_roots(model):
        own = Survey(root).trained
        if any(id(weight.variable) in changed for weight in own):
            save_regularizers(root, own)
    holders += memory.models_with([weight.variable for weight, _, _ in chosen])
    compiled.update(survey, holders)
    return {weight.path: weight.variable.constraint for weight, _, _ in chosen}


def _check_constraint(value: Any, name: str) -> Any:
    """Returns a constraint, or `None`, as Keras would take it.

    Raises:
        TypeError: If it is neither.
        ValueError: If it is a name that Keras does not know.
    """
    if isinstance(value, str | dict):
        value = keras.constraints.get(value)
    if value is not None and not isinstance(
        value, keras.constraints.Constraint
    ):
        raise TypeError(
            f"Argument `{name}` must be a constraint, as an instance such as "
            f"`keras.constraints.MaxNorm(2.0)`, or None. Received: "
            f"{name}={value!r}"
        )
    return value


def _check_computes(
    constraint: Any, path: str, variable: keras.Variable
) -> None:
    """Raises a ValueError unless a constraint keeps the weight's shape."""
    shape = tuple(variable.shape)
    try:
        returned = tuple(backend.output_shape(constraint, variable))
    except Exception as error:
        raise ValueError(
            f"Constraint {type(constraint).__name__} cannot be computed for "
            f"weight {path!r} of shape {shape}: {error}"
        ) from error
    if returned != shape:
        raise ValueError(
            "A constraint must return weights of the same shape. Received: "
            f"{type(constraint).__name__}, which returned shape {returned} for "
            f"weight {path!r} of shape {shape}"
        )
