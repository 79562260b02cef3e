"""Gives PyTorch three devices whose memory is the host's: `mock:0` to `mock:2`.

    PYTHONPATH=$PWD/tests/mock_device KERAS_TORCH_DEVICE=mock pytest

runs the tests on the first. To be compiled it takes a C++ compiler and ninja.
"""

import contextlib
import pathlib
import types

import torch
from torch.utils import cpp_extension

_compiled = cpp_extension.load(
    "l2keras_mock_device",
    [pathlib.Path(__file__).with_name("device.cpp")],
    extra_cflags=["-O0", "-w"],
)

operations = _compiled.operations
"""Returns how many operations each device has done."""


@contextlib.contextmanager
def device(which):
    """Has one of the devices compute for the device `mock`."""
    before = _compiled.current_device()
    _compiled.set_device(torch.device(which).index)
    try:
        yield
    finally:
        _compiled.set_device(before)


def _module():
    """Returns the answers to PyTorch's questions about the devices."""
    module = types.ModuleType("torch.mock")
    module.device = device
    module.device_count = _compiled.device_count
    module.current_device = _compiled.current_device
    module.set_device = _compiled.set_device
    module.is_available = module.is_initialized = lambda: True
    module._is_in_bad_fork = lambda: False
    # Their generators are the host's.
    module.manual_seed = module.manual_seed_all = lambda seed: None
    module.get_rng_state = lambda device=None: torch.get_rng_state()
    module.set_rng_state = lambda state, device=None: torch.set_rng_state(state)
    return module


torch.utils.rename_privateuse1_backend("mock")
torch._register_device_module("mock", _module())
torch.utils.generate_methods_for_privateuse1_backend()
