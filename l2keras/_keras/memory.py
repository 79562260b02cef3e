"""Models found among all objects in memory, where nothing else can tell.

`gc.freeze` hides those that there were before it.
"""

import gc
from collections.abc import Iterable

import keras

from l2keras._keras.layer_tree import layers_by_path, own_variables


def models_with(weights: Iterable[keras.Variable]) -> list[keras.Model]:
    """Returns the models that have any of these weights in them.

    A weight does not know who uses it, so all objects in memory are looked at,
    once for all weights.
    """
    wanted = {id(weight) for weight in weights}
    return [
        model
        for model in _all_models()
        if any(
            id(each) in wanted
            for _, layer in layers_by_path(model)
            for each in own_variables(layer)
        )
    ]


def models_in_memory() -> list[keras.Model]:
    """Returns all models, but for those that a `Sequential` is made of.

    An optimizer does not know the model that it trains.
    """
    models = _all_models()
    hidden = {
        id(getattr(each, "_functional", None))
        for each in models
        if isinstance(each, keras.Sequential)
    }
    return [each for each in models if id(each) not in hidden]


def _all_models() -> list[keras.Model]:
    classes = {keras.Model}
    fresh = [keras.Model]
    while fresh:
        fresh = [sub for cls in fresh for sub in cls.__subclasses__()]
        classes.update(fresh)
    return [
        each
        for each in gc.get_objects()
        # Not `isinstance`, which would wake objects that load lazily.
        if type(each) in classes
        and hasattr(each, "_layers")  # It is not being constructed.
    ]
