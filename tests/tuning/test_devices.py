"""The replicas of a stack are dealt to all devices that there are."""

import shutil
import sys

import keras
import pytest
import searches
from helpers import BACKEND, ROOT, outputs
from helpers import devices as host_devices
from searches import start_program

from l2keras.tuning.grid import torch_devices
from l2keras.tuning.grid.devices import deal, devices


def test_many_devices_find_what_one_finds(tmp_path, monkeypatch):
    environment = {"XLA_FLAGS": host_devices(8)}
    if BACKEND == "torch":  # The host is one device there, and no more.
        if not (shutil.which("c++") and shutil.which("ninja")):
            pytest.skip("A mock device takes a C++ compiler and ninja.")
        monkeypatch.setenv("PYTHONPATH", str(ROOT / "tests" / "mock_device"))
        environment["KERAS_TORCH_DEVICE"] = "mock"
    process = start_program(
        f"search_on_devices_{BACKEND}", tmp_path, **environment
    )
    outputs([process])


@pytest.mark.parametrize("number", range(1, 10))
@pytest.mark.parametrize("shape", [(1, 2), (2, 11), (5, 9), (4, 6), (3, 3)])
def test_no_device_has_more_to_do_than_must_be(shape, number):
    folds, candidates = shape
    f, c = deal(shape, number)
    assert folds % f == 0
    assert f * c <= number
    most = folds // f * -(-candidates // c)
    assert most == min(
        folds // i * -(-candidates // j)
        for i in range(1, folds + 1)
        for j in range(1, candidates + 1)
        if folds % i == 0 and i * j <= number
    )


def test_on_pytorch_a_device_must_have_enough_to_do(monkeypatch):
    monkeypatch.setattr(torch_devices, "NUMBERS_FOR_A_WEIGHT", 2**24)
    most = torch_devices.DealtTorchStack.most_devices
    documented = searches.net()(0.1)
    assert most(documented, replicas=160, batch_size=32) == 0
    large = keras.Sequential(
        [keras.Input((1_000,)), keras.layers.Dense(10_000, use_bias=False)]
    )
    # Of 10 million weights, held five times, 10 replicas are 30 x 2^24 numbers.
    assert most(large, replicas=10, batch_size=1) == 29


def test_a_worker_of_dask_cuda_has_its_own_device(monkeypatch):
    assert BACKEND == "torch" or devices()
    monkeypatch.setitem(sys.modules, "dask_cuda", None)
    assert devices() == []
