"""Decay and proximal steps on several devices are those on one."""

import json

import numpy as np
import pytest

from tests.support import BACKEND, devices, outputs, start_program


@pytest.mark.skipif(BACKEND == "torch", reason="Keras has one device there.")
def test_several_devices_equal_one():
    program = start_program(
        "optimizers_on_several_devices", XLA_FLAGS=devices(4)
    )
    (out,) = outputs([program])
    pairs = json.loads(out.splitlines()[-1])
    plain, cautious, proximal, outside, inside = pairs
    assert plain[0] != cautious[0]
    assert outside[0] != inside[0]
    for kernel in proximal[0][0], outside[0][0], inside[0][0]:
        assert 0 < np.mean(np.array(kernel) == 0) < 1
    for one, several in pairs:
        for ours, theirs in zip(one, several, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=2e-6)


# How the wrapped optimizer is made, and how the model is compiled.
MIRRORED = {
    # On each device, before gradients are added up: so Keras has it, and so two
    # devices do not equal one.
    "clipnorm": ({"clipnorm": 0.05}, {}),
    "global_clipnorm": ({"global_clipnorm": 0.05}, {}),
    "clipvalue": ({"clipvalue": 0.01}, {}),
    # Compiled, Keras itself cannot accumulate on several devices.
    "accumulation": (
        {"gradient_accumulation_steps": 2},
        {"run_eagerly": True},
    ),
}


@pytest.fixture(scope="module")
def mirrored():
    """Trains on two devices in all these settings, with each optimizer."""
    program = start_program("mirrored_weight_decay", json.dumps(MIRRORED))
    (out,) = outputs([program])
    return json.loads(out.splitlines()[-1])


@pytest.mark.skipif(BACKEND != "tensorflow", reason="It is TensorFlow's.")
@pytest.mark.parametrize("name", MIRRORED)
def test_decay_on_mirrored_devices_equals_adamw(mirrored, name):
    found = mirrored[name]

    def apart(one, other):
        pairs = zip(one, other, strict=True)
        return max(np.abs(np.subtract(*pair)).max() for pair in pairs)

    assert apart(found["ours"], found["AdamW"]) <= 1e-6
    if "cautious" in found:
        assert apart(found["cautious"], found["cautious by hand"]) <= 1e-6
        assert apart(found["cautious"], found["ours"]) > 1e-3
    for other in MIRRORED:  # Each setting has an effect.
        if other != name:
            assert apart(found["ours"], mirrored[other]["ours"]) > 1e-3
