"""The result of a search: the choice, tables, figures and warnings."""

import base64
import csv
import dataclasses
import re
import sys
import warnings
from xml.etree import ElementTree

import keras
import numpy as np
import pytest

import l2keras
from tests.support.searches import EXPECTED_WARNINGS, X

pytestmark = EXPECTED_WARNINGS


def made_up(strengths=4, folds=3, epochs=5, seed=0, **metrics):
    rng = np.random.default_rng(seed)
    shape = strengths, folds, epochs
    return l2keras.TuningResult(
        np.logspace(-3, 1, strengths),
        rng.uniform(0.4, 0.6, size=shape),
        rng.uniform(size=shape),
        {name: rng.uniform(size=shape) for name in ("accuracy", *metrics)},
        [],
    )


def with_nan(result, strength, fold, epoch):
    """Returns a result whose replica has no number from that epoch on."""
    loss = result.validation_loss.copy()
    loss[strength, fold, epoch:] = np.nan
    return dataclasses.replace(result, validation_loss=loss)


def with_infinity(result, strength, epoch):
    """Returns a result whose replicas of one strength diverge in all folds."""
    loss = result.validation_loss.copy()
    loss[strength, :, epoch] = np.inf
    loss[strength, :, epoch + 1 :] = np.nan
    return dataclasses.replace(result, validation_loss=loss)


RESULTS = {
    "as usual": made_up(),
    "another": made_up(seed=1),
    "one epoch": made_up(epochs=1, seed=2),
    "two folds": made_up(folds=2, seed=3),
    "one strength": made_up(strengths=1, seed=4),
    "a replica lost at its end": with_nan(made_up(seed=5), 2, 1, 3),
    "a strength lost at once": with_nan(made_up(seed=6), 3, 0, 0),
    "a strength that diverges": with_infinity(made_up(seed=9), 3, 0),
    "a strength that diverges later": with_infinity(made_up(seed=10), 1, 2),
    "the first strength lost": with_nan(made_up(seed=7), 0, 2, 0),
}

each_result = pytest.mark.parametrize(
    "result", [pytest.param(each, id=name) for name, each in RESULTS.items()]
)


@each_result
def test_the_choice_is_the_lowest_mean_over_the_folds(result):
    losses = result.validation_loss
    mean = np.mean(losses, axis=1)
    with np.errstate(invalid="ignore"):  # Of infinite losses.
        error = np.std(losses, axis=1, ddof=1) / np.sqrt(losses.shape[1])
    np.testing.assert_allclose(result.mean_loss, mean, rtol=1e-12)
    np.testing.assert_allclose(result.standard_error, error, rtol=1e-12)
    lowest = np.nanmin(mean)
    ((best, epoch),) = np.argwhere(mean == lowest)
    assert result.best_strength == result.strengths[best]
    assert result.best_epoch == epoch + 1
    assert isinstance(result.best_strength, float)
    assert isinstance(result.best_epoch, int)
    within = [
        strength
        for strength, row in zip(result.strengths, mean, strict=True)
        if any(each <= lowest + error[best, epoch] for each in row)
    ]
    assert result.one_standard_error_strength == max(within)


@each_result
def test_the_path_has_the_loss_of_each_strength_at_its_best_epoch(result):
    loss, error = result.path()
    for index, row in enumerate(result.mean_loss):
        if np.isnan(row).all():
            assert np.isnan([loss[index], error[index]]).all()
            continue
        epoch = np.nanargmin(row)
        assert loss[index] == row[epoch]
        np.testing.assert_equal(
            error[index], result.standard_error[index, epoch]
        )


@pytest.mark.parametrize(
    "name", [field.name for field in dataclasses.fields(l2keras.TuningResult)]
)
def test_a_result_is_immutable(name):
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(made_up(), name, None)


def test_the_summary_has_a_line_for_each_strength(capsys):
    result = made_up(seed=8, val_accuracy=True)
    lines = []
    result.summary(print_fn=lines.append)
    rows = [
        re.split(r"\s{2,}", line.strip())
        for line in "\n".join(lines).splitlines()
        if line.strip(" ─")
    ]
    assert rows[0] == [
        "Strength",
        "Epoch",
        "val_data_loss",
        "Error",
        "Choice",
        "val_accuracy",
    ]
    loss, error = result.path()
    expected = []
    for index, strength in enumerate(result.strengths):
        epoch = np.argmin(result.mean_loss[index])
        choice = [
            *(["best"] if strength == result.best_strength else []),
            *(
                ["one SE"]
                if strength == result.one_standard_error_strength
                else []
            ),
        ]
        accuracy = np.mean(result.metrics["val_accuracy"][index, :, epoch])
        expected.append(
            [
                f"{strength:.4g}",
                f"{epoch + 1}",
                f"{loss[index]:.5g}",
                f"{error[index]:.2g}",
                *([", ".join(choice)] if choice else []),
                f"{accuracy:.4g}",
            ]
        )
    assert rows[1:] == expected
    assert capsys.readouterr().out == ""
    result.summary()
    assert capsys.readouterr().out == "\n".join(lines) + "\n"


@pytest.mark.parametrize("metrics", [0, 1, 2, 5])
def test_the_summary_is_at_most_80_columns_wide(metrics):
    names = [f"val_sparse_categorical_accuracy_{n}" for n in range(metrics)]
    result = made_up(**dict.fromkeys(names))
    lines = []
    result.summary(print_fn=lines.append)
    (text,) = lines
    assert max(map(len, text.splitlines())) <= 80
    # Names are broken, and no number is. Columns without room are named.
    loss, _ = result.path()
    assert all(f"{number:.5g}" in text for number in loss)
    below = text.partition("Not shown: ")[2].replace("\n", " ").split(", ")
    assert below == (names[-len(below) :] if metrics == 5 else [""])


@each_result
def test_a_result_shows_its_size_and_choice_in_two_lines(result):
    loss, error = result.path()
    best = np.nanargmin(loss)
    candidates, folds, epochs = result.validation_loss.shape
    size, choice = repr(result).splitlines()
    assert re.fullmatch(
        rf"TuningResult of {candidates} strengths? on {folds} folds? "
        rf"for {epochs} epochs?",
        size,
    )
    assert choice == (
        f"best_strength={result.best_strength}, "
        f"best_epoch={result.best_epoch}: val_data_loss {loss[best]:.4g}, "
        f"standard error {error[best]:.2g}"
    )


@each_result
def test_in_a_notebook_a_result_is_a_table_and_a_figure(result):
    html = ElementTree.fromstring(
        f"<div>{result._repr_html_()}</div>".replace("<br>", "<br/>").replace(
            'strength">', 'strength"/>'
        )
    )
    assert "".join(html.find("p").itertext()) == repr(result).replace("\n", "")
    head, *rows = html.iter("tr")
    assert [cell.text for cell in head] == [
        "Strength",
        "Epoch",
        "val_data_loss",
        "Error",
        "Choice",
    ]
    assert [float(row[0].text) for row in rows] == [
        float(f"{strength:.4g}") for strength in result.strengths
    ]
    pytest.importorskip("matplotlib")
    image = html.find("img")
    assert image.get("alt") == "val_data_loss by strength"
    kind, data = image.get("src").split(",")
    assert kind == "data:image/png;base64"
    assert base64.b64decode(data)[1:4] == b"PNG"


def test_without_matplotlib_a_result_is_a_table(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    html = made_up()._repr_html_()
    assert "<table>" in html
    assert "<img" not in html


def test_the_data_frame_has_the_columns_of_the_file(tmp_path):
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    for result in (made_up(val_accuracy=True), of_two_keys()):
        result.to_csv(tmp_path / "result.csv")
        expected = pandas.read_csv(tmp_path / "result.csv")
        pandas.testing.assert_frame_equal(
            result.to_frame(), expected, check_exact=True
        )


def test_without_pandas_the_cure_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError) as error:
        made_up().to_frame()
    assert str(error.value) == (
        "`to_frame` needs pandas. Install it with `pip install pandas`."
    )


@each_result
def test_the_table_has_a_row_for_each_number(result, tmp_path):
    path = tmp_path / "result.csv"
    result.to_csv(str(path))
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    columns = {
        "train_loss": result.train_loss,
        "validation_loss": result.validation_loss,
        **result.metrics,
    }
    assert list(rows[0]) == ["strength", "fold", "epoch", *columns]
    shape = result.validation_loss.shape
    for name, values in columns.items():
        read = np.array([float(row[name]) for row in rows])
        np.testing.assert_array_equal(read.reshape(shape), values)
    where = [
        (float(row["strength"]), int(row["fold"]), int(row["epoch"]))
        for row in rows
    ]
    assert where == [
        (strength, fold, epoch + 1)
        for strength in result.strengths
        for fold in range(shape[1])
        for epoch in range(shape[2])
    ]


@each_result
def test_the_plot_has_the_path_its_error_and_both_choices(result):
    pytest.importorskip("matplotlib")
    ax = result.plot()
    assert (ax.get_xlabel(), ax.get_ylabel()) == (
        "strength",
        "validation data loss",
    )
    assert [text.get_text() for text in ax.get_legend().get_texts()] == [
        "± one standard error",
        "mean over folds",
        "best",
        "strongest within one standard error",
    ]
    loss, error = result.path()
    line, best, strongest = ax.lines
    np.testing.assert_array_equal(line.get_xdata(), result.strengths)
    np.testing.assert_array_equal(line.get_ydata(), loss)
    assert set(best.get_xdata()) == {result.best_strength}
    assert set(strongest.get_xdata()) == {result.one_standard_error_strength}
    (band,) = ax.collections
    corners = np.concatenate([path.vertices for path in band.get_paths()])
    for index, strength in enumerate(result.strengths):
        if np.isfinite(loss[index]):
            heights = corners[corners[:, 0] == strength, 1]
            np.testing.assert_allclose(
                [heights.min(), heights.max()],
                [loss[index] - error[index], loss[index] + error[index]],
            )
    ax.figure.draw_without_rendering()
    assert l2keras.plot_strength_path(result, ax) is ax


def linear(strength):
    model = keras.Sequential(
        [
            keras.Input((6,)),
            keras.layers.Dense(1, kernel_regularizer=l2keras.L2(strength)),
        ]
    )
    model.compile(keras.optimizers.SGD(0.1), "mse")
    return model


NOISE = np.random.default_rng(0).normal(size=len(X))


@pytest.mark.parametrize(
    ("strengths", "y", "expected"),
    [
        ([0.1, 1.0], X.sum(axis=1), "lower the lowest"),
        ([0.1, 1.0], NOISE, "raise the highest"),
        ([0.0, 1.0], NOISE, "raise the highest"),
        ([0.0, 1.0], X.sum(axis=1), None),  # None is weaker than zero.
        ([0.1], NOISE, None),  # Which is no grid.
    ],
)
def test_a_best_strength_at_the_edge_warns(strengths, y, expected):
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        result = l2keras.tune_strength(
            linear, X, y, strengths, folds=2, epochs=30, verbose=0
        )
    warned = [warning for warning in warned if warning.category is UserWarning]
    assert [str(warning.message) for warning in warned] == (
        []
        if expected is None
        else [
            f"The best strength, {result.best_strength:.4g}, is at the edge of "
            f"the grid, so a better one may lie outside: {expected} strength."
        ]
    )
    assert all(warning.filename == __file__ for warning in warned)


def test_one_fold_has_no_standard_error(capsys):
    result = made_up(folds=1)
    assert np.isnan(result.standard_error).all()
    result.summary()
    assert "one SE" not in capsys.readouterr().out
    with pytest.raises(ValueError, match="needs at least two folds"):
        result.one_standard_error_strength  # noqa: B018
    pytest.importorskip("matplotlib")
    result.plot().figure.draw_without_rendering()


def of_two_keys(**metrics):
    rng = np.random.default_rng(0)
    loss = rng.uniform(size=(3, 2, 4))
    return l2keras.TuningResult(
        np.array([[0.1, 0.1], [1.0, 1.0], [1.0, 0.1]]),
        loss,
        loss,
        metrics,
        [],
        keys=("a", "b"),
    )


def test_a_result_of_several_strengths_has_them_by_name(capsys, tmp_path):
    result = of_two_keys()
    index = np.argmin(result.mean_loss.min(axis=1))
    assert result.best_strength == dict(
        zip("ab", result.strengths[index], strict=True)
    )
    result.summary()
    head = capsys.readouterr().out.splitlines()[1]
    assert head.split()[:3] == ["a", "b", "Epoch"]
    result.to_csv(tmp_path / "result.csv")
    with (tmp_path / "result.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 24
    assert (rows[-1]["a"], rows[-1]["b"]) == ("1.0", "0.1")
    with pytest.raises(ValueError, match="for one strength"):
        result.one_standard_error_strength  # noqa: B018


def test_the_plot_of_several_strengths_has_points_for_each():
    pytest.importorskip("matplotlib")
    result = of_two_keys()
    ax = result.plot()
    assert [text.get_text() for text in ax.get_legend().get_texts()] == [
        "a",
        "b",
    ]
    for points, strengths in zip(
        ax.collections, result.strengths.T, strict=True
    ):
        np.testing.assert_array_equal(points.get_offsets()[:, 0], strengths)
        np.testing.assert_allclose(points.get_offsets()[:, 1], result.path()[0])
    ax.figure.draw_without_rendering()


def test_a_metric_for_each_class_has_a_column_for_each(tmp_path, capsys):
    f1 = np.arange(3 * 2 * 4 * 2.0).reshape(3, 2, 4, 2)
    result = of_two_keys(val_f1=f1)
    result.to_csv(tmp_path / "result.csv")
    with (tmp_path / "result.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for index in (0, 1):
        read = [float(row[f"val_f1_{index}"]) for row in rows]
        np.testing.assert_array_equal(read, f1[..., index].ravel())
    result.summary()
    assert "val_f1" not in capsys.readouterr().out


def test_a_result_without_finished_replicas_has_no_best_strength():
    loss = np.full((2, 3, 4), np.nan)
    result = l2keras.TuningResult(np.array([0.1, 1.0]), loss, loss, {}, [])
    for name in ("best_strength", "best_epoch", "one_standard_error_strength"):
        with pytest.raises(ValueError, match="There is no strength to choose"):
            getattr(result, name)
    assert repr(result).splitlines() == [
        "TuningResult of 2 strengths on 3 folds for 4 epochs",
        "no strength was trained in all folds",
    ]
    result.summary()
    assert "<table>" in result._repr_html_()
