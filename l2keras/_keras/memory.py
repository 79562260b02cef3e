"""Models found among all objects in memory, where nothing else can tell."""

import gc

import keras

from l2keras._keras.layer_tree import layers_by_path


def models_around(layer: keras.layers.Layer) -> list[keras.Model]:
    """Returns the models that contain a layer, itself if it is one.

    A layer does not know who uses it, so all objects in memory are looked at.
    """
    return [
        each
        for each in _all_models()
        if any(inner is layer for _, inner in layers_by_path(each))
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
