"""Settings and fixtures of all tests.

The backend is `KERAS_BACKEND`, one per process, and no other is imported here:
Keras imports the one it runs on. (Importing PyTorch first, as Keras does when
it runs on it, is not needed for the tests on TensorFlow that use PyTorch too:
both orders work.)
"""

import gc
import os
import sys

# Figures are drawn without a display, wherever there is one.
os.environ.setdefault("MPLBACKEND", "agg")

# Read when TensorFlow is imported, which Keras does.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

if os.environ.get("KERAS_BACKEND") == "jax":
    # To compile is most of the time, and the programs are tiny: they are left
    # as slow as they come. `XLA_FLAGS= pytest` has them optimized as a user's.
    os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")

import keras
import pytest

if keras.backend.backend() == "torch":
    import torch

    # The models are tiny: on a busy machine, threads that wait for one another
    # made a training step take eight times as long.
    torch.set_num_threads(1)

# Doctest would import these, and so run the programs among them.
collect_ignore_glob = ["support/*", "mock_device/*"]

# Their assertions show values, as those of the tests do.
pytest.register_assert_rewrite("tests.support")


def pytest_collection_finish():
    """Spares the collector of garbage the modules that were imported."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True, scope="module")
def nothing_piles_up():
    """Frees the models of a file, before there is much to free at once."""
    yield
    gc.collect()


@pytest.fixture(autouse=True)
def seed():
    """Draws the same random numbers in each test, in any order of tests."""
    keras.utils.set_random_seed(20)


@pytest.fixture(autouse=True)
def same_precision():
    """Resets Keras's default types after each test."""
    floatx, policy = keras.config.floatx(), keras.config.dtype_policy()
    yield
    keras.config.set_floatx(floatx)
    keras.config.set_dtype_policy(policy)


@pytest.fixture
def compiled():
    """Returns a function that compiles others as the backend does."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        # Keras's trainer compiles with XLA wherever it can.
        return lambda function: tf.function(function, jit_compile=True)
    if backend == "jax":
        import jax

        return jax.jit
    import torch

    # Traced, and then run as it is: no C++ compiler is needed, and no minutes.
    # Without the lambda, it would take a class's `__call__` for a module's.
    return lambda function: torch.compile(
        lambda *args: function(*args), backend="eager"
    )


@pytest.fixture(autouse=True)
def figures_closed():
    """Closes pyplot's figures after each test, which else pile up."""
    yield
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")
