"""The replicas of a stack are dealt to all devices that there are."""

import shutil
import sys
import types
from typing import NamedTuple

import keras
import pytest
import searches
from helpers import BACKEND, ROOT, outputs
from helpers import devices as host_devices
from searches import start_program

from l2keras._keras import backends
from l2keras.tuning import chunks
from l2keras.tuning.grid import devices as grid_devices
from l2keras.tuning.grid.devices import deal, devices, devices_for
from l2keras.tuning.grid.size import numbers_of


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


@pytest.mark.skipif(BACKEND != "torch", reason="Others wait for no Python.")
def test_on_pytorch_a_device_must_have_enough_to_do(monkeypatch):
    monkeypatch.setattr(grid_devices, "NUMBERS_FOR_A_WEIGHT", 2**24)
    monkeypatch.setattr(backends, "torch_devices", lambda: list(range(100)))
    small = searches.net()(0.1)
    assert devices_for(small, replicas=160, batch_size=32) == []
    # As the guide has it.
    large = keras.Sequential(
        [keras.Input((784,)), keras.layers.Dense(256), keras.layers.Dense(10)]
    )
    assert round(large.count_params(), -5) == 200_000
    assert devices_for(large, replicas=110, batch_size=32) == []
    assert devices_for(large, replicas=125, batch_size=32) == [0, 1]
    assert len(devices_for(large, replicas=1_250, batch_size=32)) > 20


def test_a_worker_of_dask_cuda_has_its_own_device(monkeypatch):
    def get_worker():
        if not is_worker:
            raise ValueError("No worker found")

    distributed = types.SimpleNamespace(get_worker=get_worker)
    monkeypatch.setitem(sys.modules, "dask_cuda", types.ModuleType("dask_cuda"))
    monkeypatch.setitem(sys.modules, "distributed", distributed)
    monkeypatch.setattr(backends, "torch_devices", lambda: ["some"])
    is_worker = False
    assert devices()
    is_worker = True
    assert devices() == []


class Device(NamedTuple):
    """One of several GPUs, for what asks about their memory."""

    free: int


@pytest.mark.parametrize("number", [0, 1, 3])
def test_each_device_has_memory_of_its_own(monkeypatch, number):
    several = [Device(free) for free in (8_000_000, 6_000_000, 7_000_000)]
    several = several[:number]

    def free_memory(device=None):
        return 8_000_000 if device is None else device.free

    monkeypatch.setattr(backends, "shares_memory", lambda: False)
    monkeypatch.setattr(backends, "free_memory", free_memory)
    monkeypatch.setattr(chunks, "devices", lambda: several)
    settings = types.SimpleNamespace(at_once=None, batch_size=32)
    model = searches.net()(0.1)

    def at_once(most):
        monkeypatch.setattr(chunks, "devices_for", lambda *_: several[:most])
        return chunks.replicas_at_once(model, settings)

    # A quarter of it, and four bytes for a number.
    one = 8_000_000 // 16 // numbers_of(model, batch_size=32)
    assert one > 10
    least = 6_000_000 // 16 // numbers_of(model, batch_size=32)
    assert at_once(number) == (3 * least if number == 3 else one)
    # Nor is there more room where not all would take part.
    assert at_once(number - 1 if number else 0) == one
