"""Keeps a search in a file, to go on after it was killed."""

import pathlib
import time
from typing import Any

import numpy as np

from l2keras.tuning.trainers import Found, Settings, Trainer

# Written when an epoch ends, after at least so many seconds.
SECONDS = 10.0


class Backup:
    """Keeps a search in a file, to go on after it was killed."""

    def __init__(
        self, trainer: Trainer, found: Found, settings: Settings, chunks: int
    ) -> None:
        self._trainer = trainer
        self._found = found
        self._settings = settings
        self._file: pathlib.Path | None = None
        self._state: list[np.ndarray] | None = None
        self._saved = time.monotonic()
        if settings.backup_dir is not None:
            self._file = settings.backup_dir / "search.npz"
            self._way = f"{type(trainer).__name__} {chunks}"
            self._arguments, self._fingerprint = trainer.fingerprints()

    def load(self) -> tuple[int, int]:
        """Returns how many chunks, and epochs of the next, were done."""
        if self._file is None or not self._file.exists():
            return 0, 0
        with np.load(self._file) as saved:
            is_ours = str(saved["arguments"]) == self._arguments
            if is_ours and str(saved["way"]) != self._way:
                # Left behind by another way, for which this one may be left as
                # it was then.
                return 0, 0
            if str(saved["fingerprint"]) != self._fingerprint:
                raise ValueError(
                    f"{self._file} is of a search with other arguments or "
                    "other data. Remove it, or give another `backup_dir`."
                )
            self._found.validation_loss[:] = saved["validation_loss"]
            self._found.train_loss[:] = saved["train_loss"]
            for name, values in zip(
                saved["names"], saved["metrics"], strict=True
            ):
                self._found.metrics[str(name)] = values
            chunk, epoch, number = (int(each) for each in saved["progress"])
            self._state = [saved[f"state_{index}"] for index in range(number)]
        if epoch == self._settings.epochs:
            self._state = None
            return chunk + 1, 0
        return chunk, epoch

    def restore(self) -> None:
        """Puts the trainer where it was, if it was broken off in a chunk."""
        if self._state is not None:
            self._trainer.restore(self._state)
            self._state = None

    def save(self, chunk: int, epoch: int) -> None:
        """Writes the file, when a chunk is done or some time has passed."""
        is_done = epoch == self._settings.epochs
        late = time.monotonic() - self._saved > SECONDS
        if self._file is None or not (is_done or late):
            return
        self._file.parent.mkdir(parents=True, exist_ok=True)
        # NumPy's files know no bfloat16.
        state = [
            each.astype("float32") if each.dtype.name == "bfloat16" else each
            for each in ([] if is_done else self._trainer.state())
        ]
        part = self._file.with_suffix(".part.npz")
        arrays: dict[str, Any] = {
            "way": self._way,
            "arguments": self._arguments,
            "fingerprint": self._fingerprint,
            "progress": [chunk, epoch, len(state)],
            "validation_loss": self._found.validation_loss,
            "train_loss": self._found.train_loss,
            "names": np.array(list(self._found.metrics), dtype=str),
            "metrics": np.array(list(self._found.metrics.values())),
        }
        for index, each in enumerate(state):
            arrays[f"state_{index}"] = each
        np.savez(part, **arrays)
        part.replace(self._file)  # At once: a kill leaves one or the other.
        self._saved = time.monotonic()

    def finish(self) -> None:
        if self._file is not None:
            self._file.unlink(missing_ok=True)
