"""The machine and the versions that a benchmark runs on."""

import os
import platform
import subprocess
from pathlib import Path

import keras

from l2keras._keras.backend import backend


def describe():
    """Prints backend, device, versions and commit: a result's first line."""
    print(
        f"{keras.backend.backend()}, {backend.device_name()}, "
        f"Keras {keras.__version__}, Python {platform.python_version()}, "
        f"{os.cpu_count()} cores, commit {_commit()}"
    )


def _commit():
    """The commit of the sources, with a `+` if they were changed since."""
    root = Path(__file__).parents[1]

    def git(*arguments):
        return subprocess.run(
            ["git", *arguments],
            cwd=root,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()

    try:
        changed = git("status", "--porcelain", "l2keras", "benchmarks/*.py")
        return git("rev-parse", "--short", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
