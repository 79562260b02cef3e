"""Searches, and is killed when some epochs are trained."""

import os
import pathlib
import signal
import sys

import pytest

from l2keras.tuning import checkpoint
from tests.support import searches

checkpoint.SECONDS = 0
with pytest.MonkeyPatch.context() as context:
    searches.interrupt(
        context, 4, by=lambda: os.kill(os.getpid(), signal.SIGKILL)
    )
    searches.tune(
        searches.with_dropout,
        epochs=3,
        at_once=2,
        backup_dir=pathlib.Path(sys.argv[1]),
    )
