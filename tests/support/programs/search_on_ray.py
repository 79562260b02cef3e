"""Searches by two workers of ray, one of which is killed meanwhile."""

import contextlib
import os
import pathlib
import signal
import sys

import joblib
import numpy as np
import pytest
import ray
from ray.util.joblib import register_ray

from tests.support import searches

OPTIONS = {"strengths": np.geomspace(0.01, 1.0, 4).tolist(), "epochs": 2}


def main(folder):
    """Compares a search by the workers with one in this process."""
    searcher, killed = os.getpid(), folder / "killed"

    def build_model(strength):
        # In the middle: the worker has done some, and dies at another.
        if os.getpid() != searcher and float(strength) == 1.0:
            with contextlib.suppress(FileExistsError):
                killed.touch(exist_ok=False)
                os.kill(os.getpid(), signal.SIGKILL)
        return searches.by_fit(strength)

    def search():
        with joblib.parallel_config("ray", n_jobs=-1):
            return searches.tune(
                build_model, backup_dir=folder / "backup", **OPTIONS
            )

    alone = searches.tune(searches.by_fit, **OPTIONS)
    ray.init(num_cpus=2, include_dashboard=False)
    register_ray()
    with pytest.raises(Exception, match="died") as error:
        search()
    assert "replicas that are done are kept" in "".join(error.value.__notes__)
    with np.load(folder / "backup" / "search.npz") as saved:
        done = saved["done"]
    assert done.any()
    assert not done.all()
    result = search()
    assert np.isfinite(alone.validation_loss).all()
    searches.assert_same(result, alone, rtol=1e-5, atol=1e-6)
    assert list((folder / "backup").iterdir()) == []
    difference = abs(result.validation_loss - alone.validation_loss).max()
    print("The greatest difference:", difference, flush=True)


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
