"""Folds: a number of them, a splitter's, or pairs of index arrays."""

import numpy as np
import pytest

from l2keras.tuning.folds import check_data, draw_folds
from tests.support.searches import EXPECTED_WARNINGS, LABELS, ROWS, X

model_selection = pytest.importorskip(
    "sklearn.model_selection", reason="scikit-learn is not installed"
)

pytestmark = EXPECTED_WARNINGS


def folds_of(folds, y=LABELS, groups=None, seed=0, x=X):
    """Returns the folds that a search is made on."""
    return draw_folds(folds, check_data(x, y, None), groups, seed)


@pytest.mark.parametrize("number", [2, 3, 7, ROWS])
def test_a_number_of_folds_partitions_the_rows(number):
    folds = folds_of(number)
    assert len(folds) == number
    sizes = [len(fold.validation) for fold in folds]
    assert max(sizes) - min(sizes) <= 1
    held_out = np.concatenate([fold.validation for fold in folds])
    np.testing.assert_array_equal(np.sort(held_out), np.arange(ROWS))
    # At random, and the others are trained on.
    assert not np.array_equal(held_out, np.arange(ROWS))
    for fold in folds:
        np.testing.assert_array_equal(
            np.sort(np.concatenate(fold)), np.arange(ROWS)
        )
    other = folds_of(number, seed=1)
    assert not np.array_equal(
        held_out, np.concatenate([fold.validation for fold in other])
    )


GROUPS = np.arange(ROWS) % 7

SPLITTERS = {
    "KFold": (model_selection.KFold(3), LABELS),
    "KFold, shuffled": (
        model_selection.KFold(3, shuffle=True, random_state=1),
        LABELS,
    ),
    "StratifiedKFold": (model_selection.StratifiedKFold(3), LABELS),
    "StratifiedKFold, labels in a column": (
        model_selection.StratifiedKFold(3),
        LABELS[:, None],
    ),
    "StratifiedKFold, one-hot labels": (
        model_selection.StratifiedKFold(3),
        np.eye(3)[LABELS],
    ),
    "StratifiedKFold, several outputs": (
        model_selection.StratifiedKFold(3),
        {"p": LABELS, "q": X[:, :2]},
    ),
    "GroupKFold": (model_selection.GroupKFold(3), LABELS, GROUPS),
    "StratifiedGroupKFold": (
        model_selection.StratifiedGroupKFold(3),
        LABELS,
        GROUPS,
    ),
    "TimeSeriesSplit": (model_selection.TimeSeriesSplit(3), LABELS),
    "ShuffleSplit": (
        model_selection.ShuffleSplit(3, test_size=0.2, random_state=1),
        LABELS,
    ),
}


@pytest.mark.parametrize(
    ("splitter", "y", "groups"),
    [
        pytest.param(*(*row, None)[:3], id=name)
        for name, row in SPLITTERS.items()
    ],
)
def test_a_splitter_of_scikit_learn_makes_the_folds(splitter, y, groups):
    folds = folds_of(splitter, y, groups)
    expected = list(splitter.split(X, LABELS, groups))
    assert len(folds) == len(expected) == 3
    for fold, (train, validation) in zip(folds, expected, strict=True):
        np.testing.assert_array_equal(fold.train, train)
        np.testing.assert_array_equal(fold.validation, validation)


@pytest.mark.parametrize("kind", [list, tuple, np.array, iter])
def test_pairs_of_indices_are_the_folds(kind):
    pairs = [([4, 2, 0], [1, 3]), ([5, 6, 7], [9, 8])]
    given = [
        [each if kind is iter else kind(each) for each in pair]
        for pair in pairs
    ]
    folds = folds_of(iter(given) if kind is iter else given)
    for fold, (train, validation) in zip(folds, pairs, strict=True):
        np.testing.assert_array_equal(fold.train, train)
        np.testing.assert_array_equal(fold.validation, validation)


# Groups -----------------------------------------------------------------------

SEVERAL = {
    "equal groups": GROUPS,
    "names": np.array(list("abcdefg"))[GROUPS],
    "one large group": np.where(np.arange(ROWS) < 40, 0, np.arange(ROWS)),
    "groups of two": np.arange(ROWS) // 2,
    "as many as folds": np.arange(ROWS) % 3,
    "a group for each row": np.arange(ROWS),
}


@pytest.mark.parametrize(
    "groups", [pytest.param(each, id=name) for name, each in SEVERAL.items()]
)
def test_a_number_of_folds_keeps_groups_together(groups):
    folds = folds_of(3, groups=groups)
    assert len(folds) == 3
    held_out = np.concatenate([fold.validation for fold in folds])
    np.testing.assert_array_equal(np.sort(held_out), np.arange(ROWS))
    for train, validation in folds:
        both = np.concatenate([train, validation])
        np.testing.assert_array_equal(np.sort(both), np.arange(ROWS))
        assert not set(groups[train]) & set(groups[validation])
    # No fold is larger than it must be, by more than a group.
    sizes = [len(fold.validation) for fold in folds]
    _, counts = np.unique(groups, return_counts=True)
    assert max(sizes) <= max(counts.max(), ROWS / 3 + counts.max())
    if counts.max() <= 2:
        assert max(sizes) - min(sizes) <= counts.max()
    for one, other in zip(folds, folds_of(3, groups=list(groups)), strict=True):
        np.testing.assert_array_equal(one.train, other.train)
        np.testing.assert_array_equal(one.validation, other.validation)


def test_the_seed_decides_which_groups_are_held_out_together():
    one, other = (
        folds_of(3, groups=np.arange(ROWS) // 2, seed=seed) for seed in (0, 1)
    )
    assert any(
        not np.array_equal(a.validation, b.validation)
        for a, b in zip(one, other, strict=True)
    )
    # At random, and not one after another.
    assert np.ptp(one[0].validation) > len(one[0].validation)


class ByInput:
    """Splits by the values of the inputs."""

    def split(self, x, y, groups):
        yield np.flatnonzero(x[:, 0] <= 0), np.flatnonzero(x[:, 0] > 0)


@pytest.mark.parametrize("x", [X, {"only": X}], ids=["array", "dictionary"])
def test_a_splitter_sees_the_inputs(x):
    ((train, validation),) = folds_of(ByInput(), x=x)
    assert (X[train, 0] <= 0).all()
    assert (X[validation, 0] > 0).all()


def test_a_single_hold_out_is_a_fold():
    held_out = np.where(np.arange(ROWS) < 20, 0, -1)
    splitter = model_selection.PredefinedSplit(held_out)
    ((train, validation),) = folds_of(splitter)
    np.testing.assert_array_equal(validation, np.arange(20))
    np.testing.assert_array_equal(train, np.arange(20, ROWS))
