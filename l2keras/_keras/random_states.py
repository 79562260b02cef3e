"""The generators that `keras.utils.set_random_seed` seeds."""

import contextlib
import random
import sys
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from l2keras._keras.backend import backend

# The names of Keras's seed, and of the generator that is made of it.
_GENERATOR = "global_seed_generator"
_OF_KERAS = ("global_random_seed", _GENERATOR)


@contextlib.contextmanager
def random_states_kept() -> Iterator[None]:
    """Puts all generators back to where they were, whatever happens inside.

    Those of Python, NumPy and Keras, and of TensorFlow and PyTorch. JAX has
    none. TensorFlow's kernels with a seed of their own begin their sequences
    anew, as they do whenever the global seed is set.

    They belong to the process: other threads draw from the same generators,
    and their draws meanwhile are forgotten.
    """
    of_python = random.getstate()
    of_numpy = np.random.get_state()  # noqa: NPY002 (Keras seeds it.)
    keras_state = _keras_state()
    of_keras = {n: keras_state.get_global_attribute(n) for n in _OF_KERAS}
    of_tensorflow = _tensorflow_states()
    # Draws inside are from another generator: Keras before 3.13 keeps its own
    # when it is seeded.
    keras_state.set_global_attribute(_GENERATOR, None)
    try:
        with backend.random_states_kept():
            yield
    finally:
        random.setstate(of_python)
        np.random.set_state(of_numpy)  # noqa: NPY002
        for name, value in of_keras.items():
            keras_state.set_global_attribute(name, value)
        _set_tensorflow_states(*of_tensorflow)


def _keras_state() -> Any:
    """Keras's module of global state, of which only seeding is public."""
    return keras.utils.set_random_seed.__globals__["global_state"]


def _tensorflow_context() -> Any:
    """The holder of TensorFlow's seed, `None` if TensorFlow is not loaded.

    Keras seeds TensorFlow on every backend, if it is installed.
    """
    if "tensorflow" not in sys.modules:
        return None
    from tensorflow.python.eager import context

    return context.context()


def _tensorflow_states() -> tuple[Any, Any]:
    """TensorFlow's seed, and the state of the generator of further seeds.

    Its public function sets both, and nothing public reads them.
    """
    context = _tensorflow_context()
    if context is None:
        return None, None
    generator = getattr(context, "_rng", None)  # Made when it is first seeded.
    return context._seed, None if generator is None else generator.getstate()


def _set_tensorflow_states(seed: Any, state: Any) -> None:
    context = _tensorflow_context()
    if context is None:
        return
    context._set_global_seed(seed)
    if state is None:
        context._rng = None
    else:
        context._rng.setstate(state)
