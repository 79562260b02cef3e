"""A search on PyTorch uses as many threads as help, and leaves no trace."""

import keras
import numpy as np
import pytest
from helpers import BACKEND

if BACKEND != "torch":
    pytest.skip("Others have threads of their own.", allow_module_level=True)

import torch

import l2keras
from l2keras.tuning.grid import torch_stack
from l2keras.tuning.grid.torch_threads import MeasuredThreads

pytestmark = pytest.mark.filterwarnings("ignore:The best strength")


@pytest.fixture(autouse=True)
def on_the_processor():
    """Has the threads' device compute, and no other."""
    with keras.device("cpu"):
        yield


def simulate(threads, seconds_of_step, steps):
    """Returns the number of threads of each step, and the sum of seconds."""
    numbers, total = [], 0.0
    for _ in range(steps):
        seconds = seconds_of_step(threads.number)
        numbers.append(threads.number)
        total += seconds
        threads.note(seconds)
    return numbers, total


def quiet(number):
    """Seconds of a step on a quiet machine with 8 cores."""
    return 0.002 + 0.008 / min(number, 8)


def busy(number):
    """Seconds of a step where others keep the cores busy."""
    return 0.012 if number == 1 else 0.3


def too_small(number):
    """Seconds of a step that is not worth a second thread."""
    return 0.001 * (1 + 0.2 * (number - 1))


@pytest.mark.parametrize("most", [1, 2, 3, 8, 64])
def test_on_a_quiet_machine_there_are_as_many_as_help(most):
    numbers, total = simulate(MeasuredThreads(most), quiet, 1_000)
    best = {1: 1, 2: 2, 3: 2, 8: 8, 64: 8}[most]
    assert numbers[0] == 1
    assert numbers[100] == best  # Soon, and then with few trials of others.
    assert np.mean(np.array(numbers[100:]) == best) > 0.85
    assert total < 1.1 * 1_000 * quiet(best)


@pytest.mark.parametrize("seconds_of_step", [busy, too_small])
@pytest.mark.parametrize("steps", [160, 5_000])
def test_where_more_are_slower_they_cost_little(seconds_of_step, steps):
    numbers, total = simulate(MeasuredThreads(8), seconds_of_step, steps)
    assert np.mean(np.array(numbers) == 1) > 0.8
    # A trial of 0.3 s is short beside a search, and rare.
    assert total < 1.1 * steps * seconds_of_step(1) + 0.3


def test_it_is_noticed_who_comes_and_who_goes():
    threads = MeasuredThreads(2)
    numbers, _ = simulate(threads, quiet, 20)
    assert numbers[-1] == 2
    numbers, total = simulate(threads, busy, 200)
    assert numbers[:3] == [2, 1, 1]
    assert total < 1.1 * 200 * busy(1) + 2 * busy(2)
    numbers, _ = simulate(threads, quiet, 5_000)
    assert numbers[-1] == 2


def test_steps_that_are_interrupted_by_chance_do_not_decide():
    rng = np.random.default_rng(0)

    def seconds_of_step(number):
        return quiet(number) + 0.01 * (rng.uniform() < 0.1)

    numbers, _ = simulate(MeasuredThreads(2), seconds_of_step, 2_000)
    assert np.mean(np.array(numbers) == 2) > 0.8


# In a search ------------------------------------------------------------------

RNG = np.random.default_rng(3)
X = RNG.normal(size=(40, 3)).astype("float32")
Y = X @ np.ones(3, "float32")


def tune(build_model=None, **arguments):
    return l2keras.tune_strength(
        build_model or linear,
        X,
        Y,
        [0.01, 0.1],
        folds=2,
        epochs=3,
        batch_size=5,
        verbose=0,
        **arguments,
    )


def linear(strength):
    model = keras.Sequential(
        [
            keras.Input((3,)),
            keras.layers.Dense(1, kernel_regularizer=l2keras.L2(strength)),
        ]
    )
    model.compile("adam", "mse")
    return model


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def threads_of_steps(monkeypatch):
    """Lists with how many threads each step was done."""
    numbers = []
    one_batch = torch_stack.TorchStack._one_batch

    def noted(*arguments):
        numbers.append(torch.get_num_threads())
        return one_batch(*arguments)

    monkeypatch.setattr(torch_stack.TorchStack, "_one_batch", noted)
    return numbers


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("at_once", [None, 1])
def test_the_number_of_threads_is_measured_and_put_back(
    threads_of_steps, monkeypatch, at_once
):
    monkeypatch.setattr(MeasuredThreads, "note", lambda self, seconds: None)
    seen = []

    def build_model(strength):
        seen.append(torch.get_num_threads())
        return linear(strength)

    tune(build_model, at_once=at_once)
    assert set(threads_of_steps) == {1}
    assert seen == [2, 2]
    assert torch.get_num_threads() == 2


@pytest.mark.usefixtures("two_threads")
def test_only_steps_that_are_alike_are_measured(monkeypatch):
    noted = []
    monkeypatch.setattr(
        MeasuredThreads, "note", lambda self, seconds: noted.append(seconds)
    )
    tune()
    # Of 3 epochs of 4 steps all but two: one is recorded, and one compared.
    assert len(noted) == 10


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_the_number_of_threads_is_put_back_after_errors(monkeypatch, error):
    calls = []

    def raising(self, inputs, *arguments):
        calls.append(torch.get_num_threads())
        if error is KeyboardInterrupt or len(calls) == 1:
            raise error("in the middle")
        return call(self, inputs, *arguments)

    call = torch_stack.TorchStack._call
    monkeypatch.setattr(torch_stack.TorchStack, "_call", raising)
    if error is KeyboardInterrupt:
        with pytest.raises(KeyboardInterrupt):
            tune()
    else:
        with pytest.warns(UserWarning, match="RuntimeError: in the middle"):
            tune()
    assert calls[0] == 1
    assert torch.get_num_threads() == 2


def test_losses_are_the_same_with_any_number_of_threads(monkeypatch):
    def choose(number):
        monkeypatch.setattr(MeasuredThreads, "number", number, raising=False)
        monkeypatch.setattr(
            MeasuredThreads, "__init__", lambda self, most: None
        )
        monkeypatch.setattr(MeasuredThreads, "note", lambda *arguments: None)
        return tune()

    one, two = choose(1), choose(2)
    np.testing.assert_array_equal(one.validation_loss, two.validation_loss)
