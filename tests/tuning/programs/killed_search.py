"""Searches, and is killed when the third epoch is to be trained."""

import os
import pathlib
import signal
import sys

import pytest
import searches

from l2keras.tuning import backup_file

backup_file.SECONDS = 0
with pytest.MonkeyPatch.context() as context:
    searches.interrupt(
        context, 3, by=lambda: os.kill(os.getpid(), signal.SIGKILL)
    )
    searches.tune(
        searches.with_dropout,
        epochs=4,
        at_once=1,
        backup_dir=pathlib.Path(sys.argv[1]),
    )
