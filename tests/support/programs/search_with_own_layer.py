"""A search by two processes, with a layer that this script defines."""

import keras
import numpy as np

import l2keras


class Scaled(keras.layers.Layer):
    def call(self, inputs):
        return 0.5 * inputs


def build_model(strength):
    model = keras.Sequential(
        [
            keras.Input((3,)),
            Scaled(),
            keras.layers.Dense(1, kernel_regularizer=l2keras.L2(strength)),
        ]
    )
    model.compile("sgd", "mse")
    return model


if __name__ == "__main__":
    x = np.random.default_rng(0).normal(size=(30, 3))
    options = {"folds": 2, "epochs": 1, "verbose": 0}
    one, two = (
        l2keras.tune_strength(
            build_model, x, x[:, 0], [0.01, 0.1], n_jobs=n_jobs, **options
        )
        for n_jobs in (1, 2)
    )
    np.testing.assert_allclose(
        two.validation_loss, one.validation_loss, rtol=1e-5
    )
