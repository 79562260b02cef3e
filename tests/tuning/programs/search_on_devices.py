"""Searches on eight devices, with Ctrl-C in between, and on one."""

import pathlib
import sys

import jax
import numpy as np
import pytest
import searches

from l2keras.tuning import backup_file
from l2keras.tuning.grid import jax_devices

backup_file.SECONDS = 0
folder = pathlib.Path(sys.argv[1])
# On each device one fold of three candidates, of which one is repeated.
arguments = {"strengths": np.geomspace(0.001, 1.0, 11), "epochs": 2}
used = []
put = jax_devices.Dealing.state


def noted(self, arrays):
    found = put(self, arrays)
    used.append(len(jax.tree.leaves(found)[0].sharding.device_set))
    return found


jax_devices.Dealing.state = noted
with pytest.MonkeyPatch.context() as context:
    searches.interrupt(context, 2)
    searches.tune(searches.with_dropout, backup_dir=folder, **arguments)
assert set(used) == {8}
dealt = searches.tune(searches.with_dropout, backup_dir=folder, **arguments)
assert set(used) == {8}
del used[:]
with jax.default_device(jax.devices()[2]):
    alone = searches.tune(searches.with_dropout, **arguments)
assert not used
assert np.isfinite(alone.validation_loss).all()
searches.assert_same(dealt, alone, rtol=1e-6, atol=1e-6)
print(abs(dealt.validation_loss - alone.validation_loss).max())
