"""The figure shows the numbers that it is given."""

import re

import numpy as np
import pytest
from matplotlib.figure import Figure

import l2keras

HISTORY = {
    "data_loss": [2.0, 1.0, 0.5],
    "regularization_loss": [0.5, 0.25, 0.75],
    "val_data_loss": [2.5, 1.5, 1.0],
}


def top_edge(area):
    """Returns the largest height at each epoch of a filled area."""
    corners = area.get_paths()[0].vertices
    return [corners[corners[:, 0] == x, 1].max() for x in (1, 2, 3)]


def test_areas_add_up_to_the_loss():
    ax = l2keras.plot_loss_split(HISTORY)
    data, regularization = ax.collections
    np.testing.assert_allclose(top_edge(data), HISTORY["data_loss"])
    np.testing.assert_allclose(top_edge(regularization), [2.5, 1.25, 1.25])
    (line,) = ax.lines
    np.testing.assert_allclose(line.get_ydata(), HISTORY["val_data_loss"])
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels == [
        "data loss",
        "regularization loss",
        "validation data loss",
    ]


def test_draws_on_given_axes_and_without_validation():
    given = Figure().subplots()
    logs = {key: HISTORY[key] for key in ("data_loss", "regularization_loss")}
    assert l2keras.plot_loss_split(logs, given) is given
    assert not given.lines


def test_history_without_split_is_refused():
    with pytest.raises(
        ValueError,
        match=re.escape(
            "Argument `history` must have `data_loss` and "
            "`regularization_loss`. Train with "
            "`callbacks=[l2keras.RegularizationLogger()]`. "
            "Received: history with keys ['loss']"
        ),
    ):
        l2keras.plot_loss_split({"loss": [1.0]})
