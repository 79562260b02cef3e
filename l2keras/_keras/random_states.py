"""The generators that `keras.utils.set_random_seed` seeds."""

import contextlib
import functools
import random
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np

# What Keras keeps the seed under, and the generator that is made of it.
_GENERATOR = "global_seed_generator"
_OF_KERAS = ("global_random_seed", _GENERATOR)


@contextlib.contextmanager
def random_states_kept() -> Iterator[None]:
    """Puts all generators back to where they were, whatever happens inside.

    Those of Python, NumPy and Keras, and of TensorFlow and PyTorch. JAX has
    none. TensorFlow's kernels with a seed of their own begin their sequences
    anew, as they do whenever the global seed is set.

    Of Python's, what is drawn inside does not depend on what other threads draw
    meanwhile: Keras takes from it the seeds of a model's layers, and a worker
    of dask draws from it at any time. Where several threads do this at once,
    the others' generators end where the last has found them.
    """
    of_python = random.getstate()
    of_numpy = np.random.get_state()  # noqa: NPY002 (What Keras seeds.)
    keras_state = _keras_state()
    of_keras = {n: keras_state.get_global_attribute(n) for n in _OF_KERAS}
    of_tensorflow = _tensorflow_states()
    # What is drawn inside is drawn from another: Keras before 3.13 keeps the
    # one that there is when it is seeded.
    keras_state.set_global_attribute(_GENERATOR, None)
    try:
        with _python_random_of_this_thread(), _torch_states_kept():
            yield
    finally:
        random.setstate(of_python)
        np.random.set_state(of_numpy)  # noqa: NPY002
        for name, value in of_keras.items():
            keras_state.set_global_attribute(name, value)
        _set_tensorflow_states(*of_tensorflow)


class _OwnRandom(random.Random):
    """What a thread draws from instead of the generator that all share."""

    def __init__(self) -> None:
        # That of `Random` seeds.
        self.setstate(random.getstate())

    def seed(self, *arguments: Any, **options: Any) -> None:
        super().seed(*arguments, **options)
        # Functions that were imported by name draw from the shared one, and
        # threads that are begun inside: not the same numbers once more.
        _SHARED["seed"](str(self.getstate()))


# The functions of the module `random` that draw from what all threads share.
_SHARED: dict[str, Callable[..., Any]] = {
    name: getattr(random, name)
    for name in random.__all__
    if isinstance(
        getattr(getattr(random, name), "__self__", None), random.Random
    )
}
_put: dict[str, Callable[..., Any]] = {}  # In their places.
_own: dict[int, list[random.Random]] = {}  # By thread, the last is in use.
_OWN_LOCK = threading.Lock()


@contextlib.contextmanager
def _python_random_of_this_thread() -> Iterator[None]:
    """Has the functions of `random` draw from a generator of this thread.

    But where a person has put others in their places.
    """
    thread = threading.get_ident()
    with _OWN_LOCK:
        is_possible = all(
            getattr(random, name) in (shared, _put.get(name))
            for name, shared in _SHARED.items()
        )
        if is_possible:
            _own.setdefault(thread, []).append(_OwnRandom())
            for name, shared in _SHARED.items():
                if name not in _put:
                    _put[name] = _by_thread(shared)
                    setattr(random, name, _put[name])
    if not is_possible:
        yield
        return
    try:
        yield
    finally:
        with _OWN_LOCK:
            _own[thread].pop()
            if not _own[thread]:
                del _own[thread]
            if not _own:
                for name, function in _put.items():
                    if getattr(random, name) is function:
                        setattr(random, name, _SHARED[name])
                _put.clear()


def _by_thread(shared: Callable[..., Any]) -> Callable[..., Any]:
    """Returns a function of `random`, of the generator of who calls it."""

    @functools.wraps(shared)
    def function(*arguments: Any, **options: Any) -> Any:
        own = _own.get(threading.get_ident())
        if not own:
            return shared(*arguments, **options)
        return getattr(own[-1], shared.__name__)(*arguments, **options)

    return function


def _keras_state() -> Any:
    """Returns where Keras keeps what is global. It offers only to seed it."""
    return keras.utils.set_random_seed.__globals__["global_state"]


def _tensorflow_context() -> Any:
    """Returns what holds TensorFlow's seed, or `None` if it is not loaded.

    Keras seeds TensorFlow on every backend, if it is installed.
    """
    if "tensorflow" not in sys.modules:
        return None
    from tensorflow.python.eager import context

    return context.context()


def _tensorflow_states() -> tuple[Any, Any]:
    """Returns TensorFlow's seed, and where the seeds that follow from it are.

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


@contextlib.contextmanager
def _torch_states_kept() -> Iterator[None]:
    if keras.backend.backend() != "torch":
        yield  # Keras seeds it on its backend only.
        return
    import torch

    # Whatever computes, to seed PyTorch seeds all that there is.
    with contextlib.ExitStack() as stack:
        stack.enter_context(torch.random.fork_rng([]))
        for name in "cuda", "xpu":
            module = getattr(torch, name, None)
            if module is not None and module.is_available():
                numbers = range(module.device_count())
                stack.enter_context(
                    torch.random.fork_rng(numbers, device_type=name)
                )
        if torch.backends.mps.is_available():
            state = torch.mps.get_rng_state()
            stack.callback(torch.mps.set_rng_state, state)
        yield
