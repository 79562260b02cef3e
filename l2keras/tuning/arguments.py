"""The arguments that all searches have, checked."""

import numbers
import pathlib
from typing import Any

import numpy as np

from l2keras import _validation
from l2keras.tuning.backup_file import check_folder
from l2keras.tuning.folds import check_data, draw_folds
from l2keras.tuning.settings import Settings

# The highest that NumPy takes, and so `keras.utils.set_random_seed`.
_HIGHEST_SEED = 2**32 - 1


def check_arguments(
    build_model: Any,
    x: Any,
    y: Any,
    sample_weight: Any,
    folds: Any,
    groups: Any,
    *,
    candidates: np.ndarray,
    keys: tuple[str, ...] | None,
    epochs: Any,
    batch_size: Any,
    shuffle: Any,
    seed: Any,
    at_once: Any,
    n_jobs: Any,
    backup_dir: Any,
    verbose: Any,
) -> tuple[Any, Settings]:
    """Returns the data as a tuple of trees of arrays, and all else."""
    if not callable(build_model):
        raise TypeError(
            "Argument `build_model` must be a function from a strength, or a "
            "dictionary of several, to a compiled model. "
            f"Received: build_model={build_model!r}"
        )
    if not isinstance(shuffle, bool):
        raise TypeError(
            "Argument `shuffle` must be a boolean. "
            f"Received: shuffle={shuffle!r}"
        )
    if verbose not in (0, 1):
        raise ValueError(
            "Argument `verbose` must be 1 for a progress bar or 0 for none. "
            f"Received: verbose={verbose!r}"
        )
    data = check_data(x, y, sample_weight)
    seed = _validation.check_integer(seed, "seed", minimum=0)
    settings = Settings(
        candidates=candidates,
        keys=keys,
        folds=draw_folds(folds, data, groups, seed),
        epochs=_validation.check_integer(epochs, "epochs", minimum=1),
        batch_size=_validation.check_integer(
            batch_size, "batch_size", minimum=1
        ),
        shuffle=shuffle,
        seed=seed,
        at_once=None
        if at_once is None
        else _validation.check_integer(at_once, "at_once", minimum=1),
        n_jobs=_check_n_jobs(n_jobs),
        backup_dir=None if backup_dir is None else pathlib.Path(backup_dir),
        verbose=verbose,
    )
    _check_seed(seed, len(settings.folds))
    if settings.backup_dir is not None:
        check_folder(settings.backup_dir)
    return data, settings


def check_strengths(strengths: Any, name: str) -> np.ndarray:
    """Returns strengths to compare as an array, rising.

    Raises:
        ValueError: If they are empty, negative, not finite, or do not rise.
    """
    message = f"Argument `{name}` must be finite numbers >= 0, rising. "
    values = np.asarray(strengths)
    if values.ndim != 1 or values.dtype.kind not in "fiu" or not len(values):
        raise ValueError(f"{message}Received: {name}={strengths!r}")
    values = values.astype("float64")
    # Strengths are float32 where they are used.
    if not (values <= np.finfo("float32").max).all() or (values < 0).any():
        raise ValueError(f"{message}Received: {name}={strengths!r}")
    if (np.diff(values) <= 0).any():
        raise ValueError(
            f"{message}Sort them, and leave out repetitions: "
            f"`np.unique({name})`. Received: {name}={strengths!r}"
        )
    return values


def _check_n_jobs(n_jobs: Any) -> int | None:
    """Returns how many processes are to train, as joblib counts them."""
    if n_jobs is None:
        return None
    message = (
        "Argument `n_jobs` must be a number of processes, or -1 for one on "
        f"each core, or `None`. Received: n_jobs={n_jobs!r}"
    )
    if not isinstance(n_jobs, numbers.Integral) or isinstance(n_jobs, bool):
        raise TypeError(message)
    if n_jobs == 0:
        raise ValueError(message)
    return int(n_jobs)


def _check_seed(seed: int, folds: int) -> None:
    """Raises an error unless each fold can have a seed of its own."""
    highest = _HIGHEST_SEED - (folds - 1)
    if seed > highest:
        raise ValueError(
            f"Argument `seed` must be an integer <= {highest}: each of the "
            f"{folds} folds has a seed of its own, `seed + fold`, and the "
            f"highest is {_HIGHEST_SEED}. Received: seed={seed}"
        )
