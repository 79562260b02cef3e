"""Training on several devices equals training on one.

Devices are set up when a process starts, so each test runs programs of its own.
"""

import json
import socket

import numpy as np
import pytest

from l2keras._keras.backend import backend
from tests.support import (
    BACKEND,
    assert_splits,
    devices,
    outputs,
    run_program,
    runs_several_steps,
    start_program,
)

tensorflow_only = pytest.mark.skipif(
    BACKEND != "tensorflow", reason="`tf.distribute` is TensorFlow's."
)
jax_only = pytest.mark.skipif(
    BACKEND != "jax", reason="`keras.distribution` trains on JAX."
)


def assert_same_training(found, other):
    """Asserts that a training equals another, NumPy's, and its own reload."""
    assert found["step"] == other["step"] == 16
    assert found["scale"] == other["scale"] == 1.5
    for key in ("weights", "simulated"):
        for ours, theirs in zip(found["weights"], other[key], strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-6)
    assert set(found["logs"]) == set(other["logs"])
    assert "strength/output/kernel" in found["logs"]
    for key, values in other["logs"].items():
        np.testing.assert_allclose(
            found["logs"][key], values, rtol=1e-5, atol=1e-6, err_msg=key
        )
    for key in ("data_loss", "regularization_loss"):
        np.testing.assert_allclose(found["logs"][key], other[key], rtol=1e-5)
    assert_splits(found["logs"])
    assert_splits(found["logs"], "val_")
    for key in ("loss", "set"):
        np.testing.assert_allclose(found[key], other[key], rtol=1e-5)
    np.testing.assert_allclose(found["reloaded"], found["loss"], rtol=1e-6)


@tensorflow_only
def test_two_mirrored_devices_equal_one():
    out = run_program("several_devices_tensorflow")
    replicas, one, two, inside, uneven = json.loads(out.splitlines()[-1])
    assert replicas == 2
    assert_same_training(two, one)
    assert_same_training(inside, one)
    assert_splits(uneven)


@tensorflow_only
def test_a_loop_on_two_workers_equals_numpy():
    # `fit` does not work with this strategy in Keras 3, with or without l2keras
    # (https://github.com/keras-team/keras/issues/20585).
    workers = [f"127.0.0.1:{port}" for port in free_ports(2)]
    processes = [
        start_program(
            "two_workers_tensorflow",
            TF_CONFIG=json.dumps(
                {
                    "cluster": {"worker": workers},
                    "task": {"type": "worker", "index": index},
                }
            ),
        )
        for index in range(2)
    ]
    for out in outputs(processes):
        replicas, difference = out.split()[-2:]
        assert replicas == "2"
        assert float(difference) < 1e-6


def free_ports(count):
    """Returns free ports."""
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


@jax_only
def test_four_devices_with_a_share_of_the_data_equal_one():
    out = run_program("several_devices_jax", XLA_FLAGS=devices(4))
    number, one, four = json.loads(out.splitlines()[-1])
    assert number == 4
    assert_same_training(four, one)


@pytest.mark.skipif(
    BACKEND != "torch" or not runs_several_steps(),
    reason="Since Keras 3.16, on PyTorch.",
)
@pytest.mark.skipif(
    backend.device_name() == "MOCK",
    reason="No group of processes knows that device.",
)
def test_training_equals_numpy_in_a_group_of_processes(tmp_path):
    program = "process_group_torch"
    printed = run_program(program, str(tmp_path / "store"))
    assert printed == "DistributedDataParallel\n" * 2
