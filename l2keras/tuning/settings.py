"""The arguments of a search, checked once."""

import numbers
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np

from l2keras import _validation
from l2keras.tuning import checkpoint
from l2keras.tuning.folds import Fold, check_data, draw_folds, order_of
from l2keras.tuning.monitor import check_mode

# The highest that NumPy takes, and so `keras.utils.set_random_seed`.
_HIGHEST_SEED = 2**32 - 1


class Settings(NamedTuple):
    """The arguments of a search.

    Attributes:
        build_model: As given.
        data: Tuple `(x, y, sample_weight)`, each a tree of arrays or `None`.
        keys: The names of the strengths, `None` if there is one without a name.
        folds: The rows of each fold.
        epochs: Number of epochs.
        batch_size: Number of rows in a batch.
        monitor: The name of the metric by which candidates are compared.
        mode: Which of its values are better, if that was given.
        shuffle: Whether each epoch sees the rows in another order.
        seed: The seed of initial weights and orders of rows.
        at_once: The number of replicas that are trained together, if given.
        n_jobs: The number of processes, as it was given.
        backup_dir: The folder in which the search is saved, if any.
        verbose: 1 for a progress bar, 0 for none.
    """

    build_model: Callable[[Any], keras.Model]
    data: Any
    keys: tuple[str, ...] | None
    folds: list[Fold]
    epochs: int
    batch_size: int
    monitor: str
    mode: str | None
    shuffle: bool
    seed: int
    at_once: int | None
    n_jobs: int | None
    backup_dir: pathlib.Path | None
    verbose: int

    @classmethod
    def of(
        cls,
        *,
        build_model: Any,
        x: Any,
        y: Any,
        sample_weight: Any,
        keys: tuple[str, ...] | None,
        folds: Any,
        groups: Any,
        epochs: Any,
        batch_size: Any,
        monitor: Any,
        mode: Any,
        shuffle: Any,
        seed: Any,
        at_once: Any,
        n_jobs: Any,
        backup_dir: Any,
        verbose: Any,
    ) -> "Settings":
        """The arguments of `tune_strength`, for the names of its strengths.

        Raises:
            TypeError: If one is of the wrong type.
            ValueError: If one is out of its bounds.
        """
        if not callable(build_model):
            raise TypeError(
                "Argument `build_model` must be a function from a strength, or "
                "a dictionary of several, to a compiled model. "
                f"Received: build_model={build_model!r}"
            )
        if not isinstance(shuffle, bool):
            raise TypeError(
                "Argument `shuffle` must be a boolean. "
                f"Received: shuffle={shuffle!r}"
            )
        if verbose not in (0, 1):
            raise ValueError(
                "Argument `verbose` must be 1 for a progress bar or 0 for "
                f"none. Received: verbose={verbose!r}"
            )

        def integer(value: Any, name: str, minimum: int = 1) -> int:
            return _validation.check_integer(value, name, minimum=minimum)

        data = check_data(x, y, sample_weight)
        seed = integer(seed, "seed", minimum=0)
        drawn = draw_folds(folds, data, groups, seed)
        _check_seed(seed, len(drawn))
        if backup_dir is not None:
            backup_dir = pathlib.Path(backup_dir)
            checkpoint.check_folder(backup_dir)
        return cls(
            build_model,
            data,
            keys,
            drawn,
            integer(epochs, "epochs"),
            integer(batch_size, "batch_size"),
            monitor,
            check_mode(mode),
            shuffle,
            seed,
            None if at_once is None else integer(at_once, "at_once"),
            _check_n_jobs(n_jobs),
            backup_dir,
            verbose,
        )

    def strengths(self, values: Any) -> Any:
        """The argument of `build_model`: a strength, or a dictionary of them.

        Args:
            values: The strengths, in the order of the keys.
        """
        if self.keys is None:
            (value,) = values
            return value
        return dict(zip(self.keys, values, strict=True))

    def name_of(self, values: np.ndarray) -> str:
        """The name of a candidate in messages."""
        texts = [f"{value:.4g}" for value in values]
        if self.keys is None:
            return f"strength {texts[0]}"
        pairs = zip(self.keys, texts, strict=True)
        return ", ".join(f"{key} {text}" for key, text in pairs)

    def training_order(self, fold: int, epoch: int) -> np.ndarray:
        """The rows to train on in the order in which an epoch sees them."""
        return order_of(self.folds[fold], fold, epoch, self.shuffle, self.seed)


def select_rows(data: Any, rows: np.ndarray) -> Any:
    """Some rows of `(x, y, sample_weight)`."""
    return tuple(
        None
        if tree is None
        else keras.tree.map_structure(lambda array: array[rows], tree)
        for tree in data
    )


def check_strengths(strengths: Any) -> np.ndarray:
    """Strengths to compare as an array, rising.

    Raises:
        ValueError: If they are empty, negative, not finite, or do not rise.
    """
    message = "Argument `strengths` must be finite numbers >= 0, rising. "
    values = np.asarray(strengths)
    if values.ndim != 1 or values.dtype.kind not in "fiu" or not len(values):
        raise ValueError(f"{message}Received: strengths={strengths!r}")
    values = values.astype("float64")
    # Strengths are float32 where they are used.
    if not (values <= np.finfo("float32").max).all() or (values < 0).any():
        raise ValueError(f"{message}Received: strengths={strengths!r}")
    if (np.diff(values) <= 0).any():
        raise ValueError(
            f"{message}Sort them, and leave out repetitions: "
            f"`np.unique(strengths)`. Received: strengths={strengths!r}"
        )
    return values


def _check_n_jobs(n_jobs: Any) -> int | None:
    """The number of processes, as joblib counts them."""
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
