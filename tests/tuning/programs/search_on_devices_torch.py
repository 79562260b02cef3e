"""A search on three devices, and on one."""

import keras
import mock_device
import pytest
import searches
import torch
from search_on_devices import compare, note_starts

from l2keras._keras import backends
from l2keras.tuning.grid import devices, torch_devices

devices.NUMBERS_FOR_A_WEIGHT = 1  # A small search is dealt, too.
used = note_starts(torch_devices.DealtTorchStack)
# Older Keras have no `KERAS_TORCH_DEVICE`.
with keras.device("mock"):
    compare(3, used, lambda: torch.mock.device(1), searches.net())
with keras.device("mock:0"):
    assert devices.devices() == []  # It was said which.
print(mock_device.operations())
assert min(mock_device.operations()) > 1000


def build_model(strength):
    assert backends.torch_device().type == "cpu"
    return searches.net()(strength)


# Processes have no device for each of them; on the processor they can compute.
with (
    keras.device("mock"),
    pytest.raises(ValueError, match=r"`n_jobs` must be 1 .* on MOCK"),
):
    searches.tune(searches.net(), n_jobs=2)
with keras.device("cpu"):
    alone = searches.tune(build_model)
    by_two = searches.tune(build_model, n_jobs=2)
    searches.assert_same(by_two, alone, rtol=1e-5, atol=1e-6)
