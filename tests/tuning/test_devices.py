"""A stack on JAX is sharded over all devices that there are."""

import pytest
from helpers import BACKEND, outputs
from helpers import devices as host_devices
from searches import start_program


@pytest.mark.skipif(BACKEND != "jax", reason="The others use one device.")
def test_eight_devices_find_what_one_finds(tmp_path):
    process = start_program(
        "search_on_devices_jax", tmp_path, XLA_FLAGS=host_devices(8)
    )
    outputs([process])
