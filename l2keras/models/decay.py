"""The weights that a model's optimizer decays by `DecoupledWeightDecay`.

The decay may be the optimizer itself, or one that it wraps, or one of several
in Keras's `MultiOptimizer`, which then decays the weights that it updates.
"""

from typing import Any

import keras

from l2keras._keras import optimizer_hooks
from l2keras.models.terms import terms
from l2keras.optimizers.weight_decay import DecoupledWeightDecay
from l2keras.weights.paths import own_weights
from l2keras.weights.survey import Survey


def decay_strengths(model: keras.Model) -> dict[str, float]:
    """The strengths of the model's `DecoupledWeightDecay` now, by path."""
    return {
        path: strength
        for decay, variables in _decays(model)
        for path, strength in decay.strengths(model).items()
        if path in variables
    }


def strengths_in_use(model: keras.Model) -> list[Any]:
    """The strengths, of penalties and of decay, as they were given."""
    strengths = [term.strength.value for term in terms(Survey(model))]
    return strengths + [given for _, given in decayed_variables(model)]


def decayed_variables(
    model: keras.Model,
) -> list[tuple[keras.Variable, Any]]:
    """The variables that the optimizer decays, with the strengths as given."""
    return [
        (variables[path], strength)
        for decay, variables in _decays(model)
        for path, strength in decay.decayed(model).items()
        if path in variables
    ]


def _decays(
    model: keras.Model,
) -> list[tuple[DecoupledWeightDecay, dict[str, keras.Variable]]]:
    """The optimizers that decay, each with the weights it updates, by path."""
    optimizer = getattr(model, "optimizer", None)
    return [
        (
            decay,
            {
                path: variable
                for path, variable, _ in own_weights(model)
                if decay in optimizer_hooks.optimizers_of(optimizer, variable)
            },
        )
        for decay in optimizer_hooks.all_optimizers(optimizer)
        if isinstance(decay, DecoupledWeightDecay)
    ]
