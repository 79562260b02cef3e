"""The backend under test, and its abilities."""

import tempfile

import keras
import pytest

from l2keras._keras.backend import backend

BACKEND = keras.backend.backend()


# On JAX most of the time goes into compiling, and many tests compile the same.
COMPILED = tempfile.TemporaryDirectory(prefix="l2keras-tests-")


if BACKEND == "jax":
    import jax

    jax.config.update("jax_compilation_cache_dir", COMPILED.name)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def number(tensor):
    """Returns a scalar tensor's number; PyTorch warns at `float(tensor)`."""
    return keras.ops.convert_to_numpy(tensor).item()


def takes_functions():
    """Tells whether a function may be a regularizer: newer Keras has it so."""
    try:
        keras.Variable(0.0).regularizer = keras.ops.sum
    except ValueError:
        return False
    return True


def runs_several_steps():
    """Tells whether Keras runs several steps at once on this backend."""
    version = tuple(map(int, keras.__version__.split(".")[:2]))
    return BACKEND != "torch" or version >= (3, 16)


torch_compile_only = pytest.mark.skipif(
    BACKEND != "torch" or backend.device_name() == "MOCK",
    reason="This is `torch.compile`, which does not know the mock device.",
)
