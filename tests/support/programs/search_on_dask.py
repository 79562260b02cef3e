"""Searches on a cluster of two processes, one of which is killed meanwhile."""

import contextlib
import os
import pathlib
import signal
import sys

import distributed
import joblib
import numpy as np

from tests.support import searches

OPTIONS = {"strengths": np.geomspace(0.01, 1.0, 4).tolist(), "epochs": 2}


def main(folder):
    """Compares a search on the cluster with one in this process."""
    searcher, killed = os.getpid(), folder / "killed"

    def build_model(strength):
        # In the middle: the worker has done some, and dies at another.
        if os.getpid() != searcher and float(strength) == 1.0:
            with contextlib.suppress(FileExistsError):
                with killed.open("x") as file:
                    file.write(str(os.getpid()))
                os.kill(os.getpid(), signal.SIGKILL)
        return searches.by_fit(strength)

    alone = searches.tune(searches.by_fit, **OPTIONS)
    with (
        distributed.LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            dashboard_address=None,
            local_directory=str(folder),
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        before = list(client.run(os.getpid).values())
        with joblib.parallel_config("dask"):
            result = searches.tune(
                build_model, backup_dir=folder / "backup", **OPTIONS
            )
        assert int(killed.read_text()) in before
        assert np.isfinite(alone.validation_loss).all()
        searches.assert_same(result, alone, rtol=1e-5, atol=1e-6)
        assert list((folder / "backup").iterdir()) == []
        difference = abs(result.validation_loss - alone.validation_loss).max()
        print("The greatest difference:", difference, flush=True)


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
