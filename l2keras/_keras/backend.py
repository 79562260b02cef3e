"""The backend that Keras runs on, chosen once."""

import keras

from l2keras._keras.any_backend import AnyBackend


def _backend() -> AnyBackend:
    # Imported here, so that only the one that Keras runs on is loaded.
    name = keras.backend.backend()
    if name == "tensorflow":
        from l2keras._keras.in_tensorflow import TensorFlow

        return TensorFlow()
    if name == "jax":
        from l2keras._keras.in_jax import JAX

        return JAX()
    if name == "torch":
        from l2keras._keras.in_torch import Torch

        return Torch()
    # On another a schedule would stand still and a split of the loss be wrong,
    # without an error.
    raise ImportError(
        "l2keras knows Keras's backends tensorflow, jax and torch. Received: "
        f"{name}. Set KERAS_BACKEND to one of the three. "
        "For a model that is to run elsewhere, save it after "
        "`l2keras.strip_regularizers(model)`: then it needs Keras alone."
    )


backend = _backend()
