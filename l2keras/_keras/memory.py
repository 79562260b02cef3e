"""Models found among all objects in memory, where nothing else can tell."""

import gc
from collections.abc import Iterable

import keras

from l2keras._keras.layer_tree import layers_by_path, own_variables


def models_with(
    parts: Iterable[keras.layers.Layer | keras.Variable],
    among: list[keras.Model] | None = None,
) -> list[keras.Model]:
    """Returns the models that have any of these layers or weights in them.

    A layer or a weight does not know who uses it, so all objects in memory are
    looked at, once for all parts. A model has itself in it.

    Args:
        parts: The layers and weights.
        among: What `all_models` returned, if it was asked already.
    """
    wanted = {id(part) for part in parts}
    return [
        model
        for model in (all_models() if among is None else among)
        if any(
            id(layer) in wanted
            or any(id(each) in wanted for each in own_variables(layer))
            for _, layer in layers_by_path(model)
        )
    ]


def models_in_memory() -> list[keras.Model]:
    """Returns all models, but for those that a `Sequential` is made of.

    An optimizer does not know the model that it trains.
    """
    models = all_models()
    hidden = {
        id(getattr(each, "_functional", None))
        for each in models
        if isinstance(each, keras.Sequential)
    }
    return [each for each in models if id(each) not in hidden]


def all_models() -> list[keras.Model]:
    """Returns all models that there are."""
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
