"""What the programs `search_on_devices_*` share."""

import pathlib
import sys

import numpy as np
import pytest
import searches

from l2keras.tuning import backup_file


def note_starts(stack_class):
    """Returns a list to which each start of a stack adds how many it is on."""
    used = []
    start = stack_class.start

    def noted(self, *arguments):
        start(self, *arguments)
        stacks = [part.stack for part in self._parts]
        on = [{v.value.device for v in stack._variables} for stack in stacks]
        assert all(len(each) == 1 for each in on)
        used.append(len(set.union(*on)))

    stack_class.start = noted
    return used


def compare(number, used, on_one_device, build_model=searches.with_dropout):
    """Compares a search on devices, with Ctrl-C in between, with one on one.

    Args:
        number: How many devices there are.
        used: A list to which each start of a stack adds how many it is on.
        on_one_device: Makes a context in which one device computes.
        build_model: Of the search. On PyTorch, models that draw random numbers
            are trained one after another.
    """
    backup_file.SECONDS = 0
    folder = pathlib.Path(sys.argv[1])
    arguments = {"strengths": np.geomspace(0.001, 1.0, 11), "epochs": 2}
    with pytest.MonkeyPatch.context() as context:
        searches.interrupt(context, 2)
        searches.tune(build_model, backup_dir=folder, **arguments)
    assert set(used) == {number}
    dealt = searches.tune(build_model, backup_dir=folder, **arguments)
    assert set(used) == {number}
    del used[:]
    with on_one_device():
        alone = searches.tune(build_model, **arguments)
    assert not used
    assert np.isfinite(alone.validation_loss).all()
    searches.assert_same(dealt, alone, rtol=1e-6, atol=1e-6)
    print(abs(dealt.validation_loss - alone.validation_loss).max())
