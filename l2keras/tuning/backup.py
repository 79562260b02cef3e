"""Keeps a search in a file, to go on after it was killed."""

import numpy as np

from l2keras.tuning.backup_file import BackupFile, listed, numbered
from l2keras.tuning.chunks import Chunk
from l2keras.tuning.progress import Progress, Way
from l2keras.tuning.settings import Settings
from l2keras.tuning.tasks import Task, Trained


def load(file: BackupFile, settings: Settings) -> Progress:
    """Returns how far the search had come.

    Raises:
        ValueError: If the file is of another search, or cannot be read.
    """
    progress = Progress(settings)
    saved = file.load()
    if saved is None:
        return progress
    curves = progress.curves
    curves.validation_loss[:] = saved["validation_loss"]
    curves.train_loss[:] = saved["train_loss"]
    for name, values in zip(saved["names"], saved["metrics"], strict=True):
        curves.metrics[str(name)] = values
    progress.done[:] = saved["done"]
    progress.way = Way(
        str(saved["trainer"]),
        int(saved["at_once"]),
        str(saved["why_one_by_one"]) or None,
    )
    if int(saved["epochs"]):
        progress.unfinished = Task(
            Chunk(saved["folds"].tolist(), saved["candidates"].tolist()),
            int(saved["epochs"]),
            listed("state", saved),
        )
    return progress


def save(file: BackupFile, progress: Progress, trained: Trained) -> None:
    """Writes the file, when a chunk is done or some time has passed."""
    # One that was broken off before may be in training elsewhere.
    rest = progress.unfinished or Task(trained.chunk, 0, [])
    if not progress.is_done(trained.chunk):
        if trained.state is None or not file.is_due():
            return
        rest = Task(trained.chunk, trained.epoch + 1, trained.state())
    assert progress.way is not None
    curves, way = progress.curves, progress.way
    file.save(
        {
            "validation_loss": curves.validation_loss,
            "train_loss": curves.train_loss,
            "names": np.array(list(curves.metrics), dtype=str),
            "metrics": np.array(list(curves.metrics.values())),
            "done": progress.done,
            "trainer": way.trainer,
            "at_once": way.at_once,
            "why_one_by_one": way.why_one_by_one or "",
            "folds": rest.chunk.folds,
            "candidates": rest.chunk.candidates,
            "epochs": rest.epochs,
            **numbered("state", rest.state),
        }
    )
