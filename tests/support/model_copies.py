"""Ways to have a model twice: by files, by its config, and as an object."""

import copy
import pickle

import keras
import numpy as np


def on_data(model):
    """Builds a model that is not."""
    if not model.built:
        model(np.zeros((2, 4)))
    return model


# Ways to have a model twice.


def by_keras_file(model, folder):
    model.save(folder / "model.keras")
    return keras.saving.load_model(folder / "model.keras")


def by_h5_file(model, folder):
    model.save(folder / "model.h5")
    return keras.saving.load_model(folder / "model.h5")


def by_json(model, folder):
    again = on_data(keras.models.model_from_json(model.to_json()))
    again.set_weights(model.get_weights())
    return again


def by_clone(model, folder):
    again = on_data(keras.models.clone_model(model))
    again.set_weights(model.get_weights())
    return again


def by_pickle(model, folder):
    return pickle.loads(pickle.dumps(model))


def by_deepcopy(model, folder):
    return copy.deepcopy(model)
