"""Data and folds of a cross-validation, checked and drawn."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import keras
import numpy as np

from l2keras import _validation


class Fold(NamedTuple):
    """The rows to train on in a fold, and those to validate on."""

    train: np.ndarray
    validation: np.ndarray


def check_data(x: Any, y: Any, sample_weight: Any) -> tuple[Any, Any, Any]:
    """The data as trees of arrays, floats in `keras.config.floatx()`.

    Raises:
        TypeError: If there is something else than arrays.
        ValueError: If the arrays differ in length, or hold NaN or infinity.
    """
    for name, tree in (("x", x), ("y", y)):
        if tree is None:
            raise TypeError(
                f"Argument `{name}` must hold arrays of numbers. Received: None"
            )
    data = (
        _to_arrays(x, "x"),
        _to_arrays(y, "y"),
        None
        if sample_weight is None
        else _to_arrays(sample_weight, "sample_weight"),
    )
    lengths = {
        name: [len(leaf) for leaf in keras.tree.flatten(tree)]
        for name, tree in zip(("x", "y", "sample_weight"), data, strict=True)
        if tree is not None
    }
    if len(set().union(*lengths.values())) != 1:
        raise ValueError(
            "The arrays of `x`, `y` and `sample_weight` must have equally many "
            f"rows. Received: {lengths}"
        )
    return data


def num_rows(data: tuple[Any, Any, Any]) -> int:
    """The number of rows of data that were checked."""
    return len(keras.tree.flatten(data[0])[0])


def _to_arrays(tree: Any, name: str) -> Any:
    def array(leaf: Any) -> np.ndarray:
        if hasattr(leaf, "to_numpy"):  # A data frame, or a series.
            leaf = leaf.to_numpy()
        value = np.asarray(
            keras.ops.convert_to_numpy(leaf)
            if keras.ops.is_tensor(leaf)
            else leaf
        )
        if value.ndim == 0 or value.dtype.kind not in "fiub":
            raise TypeError(
                f"Argument `{name}` must hold arrays of numbers. Received: "
                f"an array of shape {value.shape} and type {value.dtype}"
            )
        if value.dtype.kind == "f":
            value = value.astype(keras.config.floatx())
            bad = ~np.isfinite(value.reshape(len(value), -1)).all(axis=1)
            if bad.any():
                raise ValueError(
                    f"Argument `{name}` must hold finite numbers. Received: "
                    f"NaN or infinity in {bad.sum()} rows, the first of them "
                    f"row {bad.argmax()}"
                )
        return value

    if isinstance(tree, list | tuple) and all(
        isinstance(entry, int | float) for entry in tree
    ):
        return array(tree)  # A list of numbers, not of inputs.
    return keras.tree.map_structure(array, tree)


def draw_folds(
    folds: Any, data: tuple[Any, Any, Any], groups: Any, seed: int
) -> list[Fold]:
    """The folds, drawn once: the same for every strength.

    Args:
        folds: A number, a splitter of scikit-learn, or pairs of index arrays.
        data: The data, checked.
        groups: The argument of a splitter by this name; or, with a number of
            folds, a label for each row, and rows of one label are on one side
            of each fold; or `None`.
        seed: The seed of the order in which a number of folds cuts the rows.

    Raises:
        TypeError: If `folds` is none of these, or the groups have no order.
        ValueError: If there is no fold, or there are more than rows or groups,
            a fold has no rows, rows that do not exist, or rows on both sides,
            or groups come with pairs of index arrays.
    """
    rows = num_rows(data)
    if _validation.is_number(folds):
        number = _validation.check_integer(folds, "folds", minimum=2)
        if number > rows:
            raise ValueError(
                "Argument `folds` must be at most the number of rows. "
                f"Received: folds={number}, and {rows} rows"
            )
        if groups is not None:
            return _folds_of_groups(number, _check_groups(groups, rows), seed)
        order = np.random.default_rng(seed).permutation(rows)
        parts = [np.sort(part) for part in np.array_split(order, number)]
        return [Fold(np.setdiff1d(order, part), part) for part in parts]
    if hasattr(folds, "split") and not isinstance(folds, str | bytes):
        pairs = folds.split(_inputs(data[0]), _labels(data[1]), groups)
    elif isinstance(folds, Iterable) and not isinstance(folds, str | bytes):
        if groups is not None:
            raise ValueError(
                "Argument `groups` must come with a number of folds or with a "
                "splitter. Pairs of index arrays say themselves which rows "
                "belong together."
            )
        pairs = folds
    else:
        raise TypeError(
            "Argument `folds` must be a number, a splitter of scikit-learn, or "
            f"pairs of index arrays. Received: folds={folds!r}"
        )
    drawn = [_check_fold(pair, index, rows) for index, pair in enumerate(pairs)]
    if not drawn:
        raise ValueError(
            "Argument `folds` must give at least one pair of rows to train on "
            f"and rows to judge on. Received: folds={folds!r}, which gave none"
        )
    return drawn


def _check_groups(groups: Any, rows: int) -> np.ndarray:
    """The number of each row's group, from zero on."""
    labels = np.asarray(groups)
    if labels.shape != (rows,):
        raise ValueError(
            f"Argument `groups` must have a label for each of the {rows} rows. "
            f"Received: an array of shape {labels.shape}"
        )
    try:
        _, numbers = np.unique(labels, return_inverse=True)
    except TypeError as error:
        raise TypeError(
            "Argument `groups` must have labels that can be sorted, such as "
            f"numbers only or strings only. Received: {error}"
        ) from error
    return numbers


def _folds_of_groups(number: int, groups: np.ndarray, seed: int) -> list[Fold]:
    """Folds of whole groups, with about equally many rows.

    The larger groups first, each goes to the fold that has fewest rows; the
    seed decides between groups, and folds, of one size.
    """
    sizes = np.bincount(groups)
    if number > len(sizes):
        raise ValueError(
            "Argument `folds` must be at most the number of groups. "
            f"Received: folds={number}, and {len(sizes)} groups"
        )
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(sizes))
    order = order[np.argsort(-sizes[order], kind="stable")]
    fold_of, filled = np.empty(len(sizes), dtype=int), np.zeros(number, int)
    first = rng.permutation(number)
    for group in order:
        fold = first[filled[first].argmin()]
        fold_of[group] = fold
        filled[fold] += sizes[group]
    held_out = fold_of[groups]
    return [
        Fold(np.flatnonzero(held_out != f), np.flatnonzero(held_out == f))
        for f in range(number)
    ]


def _inputs(x: Any) -> Any:
    """The inputs as a splitter takes them: one array."""
    return x if isinstance(x, np.ndarray) else keras.tree.flatten(x)[0]


def _labels(y: Any) -> Any:
    """One label for each row, as stratifying splitters take it."""
    first = keras.tree.flatten(y)[0]
    if first.ndim == 2 and first.shape[1] > 1:
        ones = (first == 1).sum(axis=1) == 1
        if ones.all() and np.isin(first, (0, 1)).all():
            return first.argmax(axis=1)
    return first[:, 0] if first.ndim == 2 else first


def _check_fold(pair: Any, index: int, rows: int) -> Fold:
    rule = f"Fold {index} must be a pair (rows to train on, rows to judge on)"
    if not isinstance(pair, list | tuple) or len(pair) != 2:
        raise TypeError(f"{rule}. Received: {pair!r}")
    train, validation = map(np.asarray, pair)
    for side in (train, validation):
        if side.ndim != 1 or side.dtype.kind not in "iu" or not len(side):
            raise ValueError(
                f"{rule}, each a list of integers with at least one. Received: "
                f"an array of shape {side.shape} and type {side.dtype}"
            )
        if side.min() < 0 or side.max() >= rows:
            raise ValueError(
                f"{rule} from 0 to {rows - 1}. Received: rows from "
                f"{side.min()} to {side.max()}"
            )
    both = np.intersect1d(train, validation)
    if len(both):
        raise ValueError(
            f"{rule} without a row on both sides. Received: {len(both)} such "
            f"rows, the first of them row {both[0]}"
        )
    return Fold(train, validation)


def order_of(
    fold: Fold, index: int, epoch: int, shuffle: bool, seed: int
) -> np.ndarray:
    """The rows to train on in the order of an epoch.

    A function of its arguments alone, so that a search can be resumed.
    """
    if not shuffle:
        return fold.train
    return np.random.default_rng([seed, index, epoch]).permutation(fold.train)
