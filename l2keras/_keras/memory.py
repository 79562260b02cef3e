"""Models found among all objects in memory, for want of another way.

`gc.freeze` hides those that there were before it.
"""

import gc
from collections.abc import Iterable

import keras

from l2keras._keras.layer_tree import layers_by_path, own_variables


def models_with(weights: Iterable[keras.Variable]) -> list[keras.Model]:
    """The models that have any of these weights in them.

    A weight does not know its models, so all objects in memory are looked at,
    once for all weights.
    """
    wanted = {id(weight) for weight in weights}
    return [
        model
        for model in _all_models()
        if any(
            id(variable) in wanted
            for _, layer in layers_by_path(model)
            for variable in own_variables(layer)
        )
    ]


def models_in_memory() -> list[keras.Model]:
    """All models, except the functional model inside each `Sequential`.

    An optimizer does not know the model that it trains.
    """
    models = _all_models()
    hidden = {
        id(getattr(model, "_functional", None))
        for model in models
        if isinstance(model, keras.Sequential)
    }
    return [model for model in models if id(model) not in hidden]


def _all_models() -> list[keras.Model]:
    classes = {keras.Model}
    fresh = [keras.Model]
    while fresh:
        fresh = [sub for cls in fresh for sub in cls.__subclasses__()]
        classes.update(fresh)
    return [
        model
        for model in gc.get_objects()
        # Not `isinstance`, which would wake objects that load lazily.
        if type(model) in classes
        and hasattr(model, "_layers")  # It is not being constructed.
    ]
