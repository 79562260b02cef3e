"""A stack on JAX is sharded over all devices that there are."""

import pytest

from tests.support import BACKEND, outputs, start_program
from tests.support import devices as host_devices


@pytest.mark.skipif(BACKEND != "jax", reason="The others use one device.")
def test_a_stack_on_eight_devices_equals_one_device(tmp_path):
    process = start_program(
        "search_on_devices_jax", tmp_path, XLA_FLAGS=host_devices(8)
    )
    outputs([process])
