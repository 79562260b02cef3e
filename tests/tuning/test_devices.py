"""The replicas of a stack are dealt to all devices that there are."""

import pytest
from helpers import BACKEND, devices, outputs
from searches import start_program

from l2keras.tuning.grid.devices import deal


@pytest.mark.skipif(BACKEND == "torch", reason="has a process for each")
def test_many_devices_find_what_one_finds(tmp_path):
    process = start_program(
        f"search_on_devices_{BACKEND}", tmp_path, XLA_FLAGS=devices(8)
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
