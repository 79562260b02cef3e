"""The search leaves the user's random numbers alone."""

import random

import keras
import numpy as np
import pytest

from l2keras._keras.backend import backend
from l2keras._keras.random_states import random_states_kept
from tests.support import BACKEND
from tests.support.searches import (
    EXPECTED_WARNINGS,
    FOLDS,
    LABELS,
    X,
    interrupt,
    net,
    tune,
)

pytestmark = EXPECTED_WARNINGS


def of_tensorflow():
    import tensorflow as tf

    return [float(tf.random.normal(())) for _ in range(2)]


def of_torch():
    import torch

    return torch.rand(2).tolist()


GENERATORS = {
    "Python": lambda: [random.random() for _ in range(2)],
    "NumPy": lambda: np.random.rand(2).tolist(),  # noqa: NPY002
    "Keras": lambda: keras.ops.convert_to_numpy(
        keras.random.normal((2,))
    ).tolist(),
    "a new layer": lambda: keras.ops.convert_to_numpy(
        keras.random.normal((2,), seed=keras.random.SeedGenerator())
    ).tolist(),
    **({"TensorFlow": of_tensorflow} if BACKEND == "tensorflow" else {}),
    **({"PyTorch": of_torch} if BACKEND == "torch" else {}),
}


def seed_all(seed):
    # Keras before 3.13 keeps its own generator when it is seeded.
    keras.utils.clear_session()
    keras.utils.set_random_seed(seed)


@pytest.mark.parametrize("name", list(GENERATORS))
@pytest.mark.parametrize(
    "end",
    [
        "",
        pytest.param("an error", marks=pytest.mark.slow),
        pytest.param("Ctrl-C", marks=pytest.mark.slow),
    ],
)
def test_random_generators_are_restored(name, end):
    draw = GENERATORS[name]
    # All are drawn from in between, so that none is at its beginning.
    seed_all(11)
    before = draw()
    expected = draw()

    seed_all(11)
    assert draw() == before
    errors = {"an error": ValueError, "Ctrl-C": KeyboardInterrupt}

    def inside():
        with random_states_kept():
            keras.utils.set_random_seed(99)
            for draw in GENERATORS.values():
                draw()
            if end:
                raise errors[end]

    if end:
        with pytest.raises(errors[end]):
            inside()
    else:
        inside()
    assert draw() == expected


@pytest.mark.parametrize(
    "name",
    [
        # Python's and NumPy's are the same on all backends.
        pytest.param(
            name,
            marks=[pytest.mark.slow] if name in ("Python", "NumPy") else [],
        )
        for name in GENERATORS
    ],
)
def test_a_search_leaves_random_generators_unchanged(name):
    draw = GENERATORS[name]
    seed_all(11)
    expected = [draw(), draw()]
    seed_all(11)
    drawn = [draw()]
    tune(net(), folds=FOLDS, epochs=1)
    assert [*drawn, draw()] == expected


def test_a_failed_or_interrupted_search_leaves_random_generators_unchanged(
    monkeypatch,
):
    def fails(strength):
        raise RuntimeError("no such layer")

    seed_all(11)
    expected = [random.random() for _ in range(2)]
    seed_all(11)
    drawn = [random.random()]
    with pytest.raises(RuntimeError, match="no such layer"):
        tune(fails)
    assert [*drawn, random.random()] == expected
    seed_all(11)
    drawn = [random.random()]
    interrupt(monkeypatch, 1)
    with pytest.warns(UserWarning, match="was interrupted"):
        tune(net(), X, LABELS)
    assert [*drawn, random.random()] == expected


@pytest.mark.skipif(BACKEND != "tensorflow", reason="The seed of TensorFlow")
def test_an_unset_seed_of_tensorflow_is_unset_afterwards():
    import tensorflow as tf
    from tensorflow.python.eager import context

    tf.random.set_seed(None)
    with random_states_kept():
        keras.utils.set_random_seed(3)
        assert context.global_seed() == 3
    assert context.global_seed() is None


@pytest.mark.skipif(BACKEND != "torch", reason="The generators of PyTorch")
def test_generators_of_gpus_are_restored(monkeypatch):
    import torch

    states = {0: torch.tensor([1]), 1: torch.tensor([2])}

    def index_of(device):
        return device.index if isinstance(device, torch.device) else device

    def set_state(state, device):
        states[index_of(device)] = state

    for name, function in {
        "is_available": lambda: True,
        "device_count": lambda: 2,
        "get_rng_state": lambda device: states[index_of(device)],
        "set_rng_state": set_state,
    }.items():
        monkeypatch.setattr(torch.cuda, name, function)
    with random_states_kept():
        states.update({0: torch.tensor([3]), 1: torch.tensor([4])})
    assert [states[index].item() for index in (0, 1)] == [1, 2]
    # Keras's layers draw from the generator of the device that computes.
    device = torch.device("cuda", 1)
    monkeypatch.setattr(backend, "device", lambda: device)
    _, state = before = backend.random_state()
    assert state.item() == 2
    states[1] = torch.tensor([5])
    backend.set_random_state(before)
    assert [states[index].item() for index in (0, 1)] == [1, 2]
