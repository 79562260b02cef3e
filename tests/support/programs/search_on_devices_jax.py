"""A search on eight devices with Ctrl-C in between, and one on one device."""

import pathlib
import sys

import jax
import numpy as np
import pytest

from l2keras.tuning import checkpoint
from tests.support import searches


def devices_in_use():
    return max(len(array.sharding.device_set) for array in jax.live_arrays())


used = []
checkpoint.SECONDS = 0
arguments = {"strengths": np.geomspace(0.001, 1.0, 11), "epochs": 2}
folder = pathlib.Path(sys.argv[1])
with pytest.MonkeyPatch.context() as context:
    searches.interrupt(context, 2, by=lambda: used.append(devices_in_use()))
    with pytest.warns(UserWarning, match="interrupted"):
        searches.tune(searches.with_dropout, backup_dir=folder, **arguments)
sharded = searches.tune(searches.with_dropout, backup_dir=folder, **arguments)
assert used == [8], used
with jax.default_device(jax.devices()[2]):
    alone = searches.tune(searches.with_dropout, **arguments)
assert np.isfinite(alone.validation_loss).all()
searches.assert_same(sharded, alone, rtol=1e-6, atol=1e-6)
print(abs(sharded.validation_loss - alone.validation_loss).max())
