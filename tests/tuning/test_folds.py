"""Folds: a number of them, a splitter's, or pairs of index arrays."""

import numpy as np
import pytest
from searches import (
    EXPECTED_WARNINGS,
    LABELS,
    ROWS,
    X,
    net,
    tune,
)

from l2keras.tuning.learning_curves import LearningCurves
from l2keras.tuning.search import Outcome

model_selection = pytest.importorskip(
    "sklearn.model_selection", reason="scikit-learn is not installed"
)

pytestmark = EXPECTED_WARNINGS


@pytest.fixture
def untrained(monkeypatch):
    """Leaves the training out, which is not asked for."""

    def search(build_model, data, settings):
        shape = len(settings.strengths), len(settings.folds), settings.epochs
        zeros = np.zeros(shape)
        return Outcome(LearningCurves(zeros, zeros, {}), None, False)

    monkeypatch.setattr("l2keras.tuning.tune.search", search)


@pytest.mark.parametrize("number", [2, 3, 7, ROWS])
def test_a_number_of_folds_deals_the_rows_out(untrained, number):
    folds = tune(net(), folds=number).folds
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
    other = tune(net(), folds=number, seed=1).folds
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
def test_a_splitter_of_scikit_learn_makes_the_folds(
    untrained, splitter, y, groups
):
    folds = tune(net(), y=y, folds=splitter, groups=groups).folds
    expected = list(splitter.split(X, LABELS, groups))
    assert len(folds) == len(expected) == 3
    for fold, (train, validation) in zip(folds, expected, strict=True):
        np.testing.assert_array_equal(fold.train, train)
        np.testing.assert_array_equal(fold.validation, validation)


@pytest.mark.parametrize("kind", [list, tuple, np.array, iter])
def test_pairs_of_indices_are_taken_as_they_are(untrained, kind):
    pairs = [([4, 2, 0], [1, 3]), ([5, 6, 7], [9, 8])]
    given = [
        [each if kind is iter else kind(each) for each in pair]
        for pair in pairs
    ]
    folds = tune(net(), folds=iter(given) if kind is iter else given).folds
    for fold, (train, validation) in zip(folds, pairs, strict=True):
        np.testing.assert_array_equal(fold.train, train)
        np.testing.assert_array_equal(fold.validation, validation)
