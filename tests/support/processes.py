"""Programs that run in processes of their own, on the same backend."""

import os
import subprocess
import sys
from pathlib import Path

from tests.support.backend import BACKEND

PROGRAMS = Path(__file__).parent / "programs"
ROOT = PROGRAMS.parents[2]


def devices(number):
    """Returns the flags of XLA that make so many devices of the processor."""
    count = f"--xla_force_host_platform_device_count={number}"
    return f"{os.environ.get('XLA_FLAGS', '')} {count}"


def run_program(name, *arguments, **environment):
    """Runs a file of `support/programs`; returns its output."""
    return outputs([start_program(name, *arguments, **environment)])[0]


def start_program(name, *arguments, **environment):
    """Starts a file of `support/programs` in a fresh process."""
    return start_python(PROGRAMS / f"{name}.py", *arguments, **environment)


def run_python(path, *arguments):
    """Runs a file in a fresh process; returns its output."""
    return outputs([start_python(path, *arguments)])[0]


def start_python(path, *arguments, **environment):
    """Starts a file in a fresh process, which can import `tests.support`."""
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    return subprocess.Popen(
        [sys.executable, *map(str, [path, *arguments])],
        env={
            **os.environ,
            "KERAS_BACKEND": BACKEND,
            "TF_CPP_MIN_LOG_LEVEL": "3",
            "PYTHONPATH": os.pathsep.join(filter(None, paths)),
            **environment,
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def outputs(processes, timeout=1800, returncode=0):
    """Returns the outputs of processes that end with a return code.

    The limit in seconds catches a process that hangs, on a busy machine too.
    """
    found = []
    try:
        for process in processes:
            out, err = process.communicate(timeout=timeout)
            assert process.returncode == returncode, f"{out}\n{err}"
            found.append(out)
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    return found
