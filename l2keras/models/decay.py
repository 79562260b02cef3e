"""What a model's optimizer decays, if it is a `DecoupledWeightDecay`."""

from typing import Any

import keras

from l2keras.models.terms import terms
from l2keras.optimizers import wrapper
from l2keras.optimizers.weight_decay import DecoupledWeightDecay
from l2keras.weights.paths import own_weights
from l2keras.weights.survey import Survey


def decay_strengths(model: keras.Model) -> dict[str, float] | None:
    """Returns the strengths of the model's `DecoupledWeightDecay` by path.

    `None` if its optimizer is another.
    """
    optimizer = _decoupled_weight_decay(model)
    return None if optimizer is None else dict(optimizer.strengths(model))


def strengths_in_use(model: keras.Model) -> list[Any]:
    """Returns the strengths, of penalties and of decay, as they were given."""
    strengths = [term.strength.value for term in terms(Survey(model))]
    optimizer = _decoupled_weight_decay(model)
    if optimizer is not None:
        strengths += optimizer.decayed(model).values()
    return strengths


def decayed_variables(
    model: keras.Model,
) -> list[tuple[keras.Variable, Any]]:
    """Returns what the model's optimizer decays, and the strengths as given."""
    optimizer = _decoupled_weight_decay(model)
    if optimizer is None:
        return []
    by_path = {weight.path: weight.variable for weight in own_weights(model)}
    return [
        (by_path[path], strength)
        for path, strength in optimizer.decayed(model).items()
    ]


def _decoupled_weight_decay(model: keras.Model) -> DecoupledWeightDecay | None:
    """Returns what decays the model's weights by path, if anything does."""
    return wrapper.find(getattr(model, "optimizer", None), DecoupledWeightDecay)
