"""Tables of a model's penalties: they fit, and cut no path."""

import html.parser
import re
import sys

import keras
import numpy as np
import pytest

import l2keras
from tests.support.audited_models import dense, sequential, summary


def rows(model, width=80):
    text = summary(model, width)
    assert max(map(len, text.splitlines())) <= width
    _, _, header, _, *lines = text.splitlines()
    end = lines.index("")
    return header.split(), lines[:end]


def many(names, **arguments):
    layers = [keras.layers.Dense(4, name=name, **arguments) for name in names]
    return sequential(*layers)


def test_columns_without_an_entry_are_left_out():
    header, _ = rows(sequential(dense("a", l2keras.L2(0.25))))
    assert "Decay" not in header
    model = sequential(dense("a", l2keras.L2(0.25)))
    model.compile(keras.optimizers.AdamW(), "mse")
    header, _ = rows(model, 100)
    assert "Decay" in header


def test_layers_that_differ_in_numbers_alone_share_a_row():
    names = [f"block{i}_conv{j}" for i in range(8) for j in range(3)]
    model = many(["first", *names], kernel_regularizer=l2keras.L2(0.25))
    _, lines = rows(model)
    first, blocks = (re.split(r"\s{2,}", line.strip()) for line in lines)
    assert first[:2] == ["first/kernel", "(4, 4)"]
    assert blocks[:2] == [r"block\d+_conv\d+/kernel", "24 weights"]
    squares = sum(
        np.square(keras.ops.convert_to_numpy(layer.kernel)).sum()
        for layer in model.layers[1:]
    )
    assert float(blocks[4]) == pytest.approx(0.25 * squares, rel=1e-3)
    # The path is a rule for these weights and no others.
    applied = l2keras.apply_regularizers(model, {blocks[0]: None})
    assert list(applied) == [f"{name}/kernel" for name in names]


def test_layers_with_other_regularizers_have_other_rows():
    model = many([f"dense{i}" for i in range(24)])
    l2keras.apply_regularizers(
        model,
        {"dense1/kernel": l2keras.L1(0.5)},
        default=l2keras.L2(0.25),
    )
    _, lines = rows(model)
    assert [line.split()[0] for line in lines] == [
        r"dense\d+/kernel",
        "dense1/kernel",
    ]


def test_twenty_rows_are_shown_one_by_one():
    model = many([f"dense{i}" for i in range(20)])
    _, lines = rows(model)
    assert [line.split()[0] for line in lines] == [
        f"dense{i}/kernel" for i in range(20)
    ]


@pytest.mark.parametrize("width", [60, 80, 100])
def test_paths_are_broken_after_slashes_alone(width):
    name = "a_layer_with_a_rather_long_name"
    inner = sequential(
        keras.layers.Dense(
            3, name=name, kernel_regularizer=l2keras.GroupLasso(0.25)
        ),
        name="a_model_inside_another_one",
    )
    _, lines = rows(sequential(inner), width)
    parts = {part for line in lines for part in line.split()[0].split("/")}
    assert {"a_model_inside_another_one", name} <= parts


def test_a_sum_is_shown_as_one():
    both = l2keras.L2(0.5) + keras.regularizers.L1(0.25)
    _, (line,) = rows(sequential(dense("a", both)), 100)
    assert "L2(l2=0.5) + Keras L1(l1=0.25)" in line
    assert repr(l2keras.L2(0.5) + l2keras.L1(0.25)) == (
        "L2(l2=0.5) + L1(l1=0.25)"
    )


# Results that show themselves -------------------------------------------------


class Cells(html.parser.HTMLParser):
    def __init__(self):
        super().__init__()
        self.rows = []

    def handle_starttag(self, tag, attrs):
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_data(self, data):
        if self.rows and self.rows[-1]:
            self.rows[-1][-1] += data


def cells(shown):
    parser = Cells()
    parser.feed(shown._repr_html_())
    return parser.rows


def test_penalties_show_themselves():
    model = sequential(
        keras.layers.Dense(
            1,
            name="a",
            kernel_initializer="ones",
            kernel_regularizer=l2keras.L2(0.5),
        )
    )
    penalties = l2keras.penalties(model)
    assert repr(penalties).splitlines()[3].split() == (
        ["a/kernel", "(4,", "1)", "L2(l2=0.5)", "0.5", "2", "100.0%"]
    )
    assert cells(penalties)[:2] == [
        [
            "Weight",
            "Shape",
            "Regularizer",
            "Strength",
            "Penalty",
            "Share",
            "Decay",
        ],
        ["a/kernel", "(4, 1)", "L2(l2=0.5)", "0.5", "2", "100.0%", ""],
    ]


def test_penalties_make_a_data_frame():
    pandas = pytest.importorskip("pandas")
    penalties = l2keras.penalties(sequential(dense("a", l2keras.L2(0.5))))
    frame = penalties.to_frame()
    assert isinstance(frame, pandas.DataFrame)
    assert frame["path"].tolist() == ["a/kernel", "a/bias"]
    assert frame["penalty"].tolist() == [row.penalty for row in penalties]


def test_without_pandas_the_cure_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    penalties = l2keras.penalties(sequential(dense("a")))
    with pytest.raises(ImportError, match="pip install pandas"):
        penalties.to_frame()


def test_a_report_of_compact_shows_itself():
    model = sequential(
        keras.layers.Dense(8, kernel_initializer="zeros", name="hidden"),
        keras.layers.Dense(3, name="output"),
    )
    _, report = l2keras.compact(model)
    assert repr(report) == str(report)
    assert "Parameters: 67 -> 11 (6.09x)" in repr(report).splitlines()
    assert cells(report)[:2] == [
        ["Layer", "Width", "Compacted"],
        ["hidden", "8", "1"],
    ]
    assert "Parameters: 67 -&gt; 11" in report._repr_html_()
    pandas = pytest.importorskip("pandas")
    pandas.testing.assert_frame_equal(
        report.to_frame(),
        pandas.DataFrame(
            {
                "layer": ["hidden", "output"],
                "width": [8, 3],
                "compacted": [1, 3],
            }
        ),
    )
