"""The figure shows the numbers that it is given."""

import re

import keras
import matplotlib.pyplot as plt
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


def test_the_areas_of_the_split_add_up_to_the_loss():
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


def a_result():
    loss = np.array([[[0.2], [0.4]], [[0.3], [0.5]]])
    return l2keras.TuningResult(np.array([0.1, 1.0]), loss, loss, {}, [])


def a_result_with_sizes(folds=2):
    loss = np.array([[[0.2], [0.4]], [[0.21], [0.4]], [[0.5], [0.6]]])
    return l2keras.TuningResult(
        np.array([0.1, 1.0, 10.0]),
        loss[:, :folds],
        loss[:, :folds],
        {},
        [],
        parameters=np.array([[90, 80], [40, 60], [9, 9]])[:, :folds],
    )


def test_the_figure_of_sizes_shows_means_spreads_and_the_choice():
    ax = l2keras.plot_size(a_result_with_sizes(), within=0.05)
    means, choice = ax.lines[0], ax.lines[-1]
    np.testing.assert_allclose(means.get_xdata(), [85, 50, 9])
    np.testing.assert_allclose(means.get_ydata(), [0.3, 0.305, 0.55])
    sizes, losses = (
        np.array(bars.get_segments()) for bars in ax.containers[0].lines[2]
    )
    deviation = np.array([10, 20, 0]) / np.sqrt(2)
    np.testing.assert_allclose(
        np.ptp(sizes[:, :, 0], axis=1), 2 * deviation, atol=1e-12
    )
    deviation = np.array([0.2, 0.19, 0.1]) / np.sqrt(2)
    np.testing.assert_allclose(np.ptp(losses[:, :, 1], axis=1), 2 * deviation)
    assert (*choice.get_xdata(), *choice.get_ydata()) == (50, 0.305)
    assert choice.get_label() == "smallest: strength 1"


def test_one_fold_has_sizes_without_a_spread():
    ax = l2keras.plot_size(a_result_with_sizes(folds=1))
    np.testing.assert_allclose(ax.lines[0].get_xdata(), [90, 40, 9])
    assert not ax.collections


def test_a_result_without_sizes_is_not_drawn_by_size():
    figures = plt.get_fignums()
    with pytest.raises(ValueError, match="sizes of the models are not known"):
        l2keras.plot_size(a_result())
    assert plt.get_fignums() == figures


def a_model():
    return keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])


@pytest.mark.parametrize(
    "draw",
    [
        lambda ax: l2keras.plot_loss_split(HISTORY, ax=ax),
        lambda ax: a_result().plot(ax),
        lambda ax: l2keras.plot_size(a_result_with_sizes(), ax),
        lambda ax: l2keras.plot_sparsity(a_model(), ax=ax),
    ],
    ids=["plot_loss_split", "plot_strength_path", "plot_size", "plot_sparsity"],
)
def test_without_axes_the_plot_is_the_current_figure_of_pyplot(draw, tmp_path):
    plt.figure()  # Somebody else's, which is left as it is.
    drawn = draw(None)
    assert plt.gca() is drawn
    plt.savefig(tmp_path / "plot.png")
    pixels = plt.imread(tmp_path / "plot.png")
    assert np.ptp(pixels[..., :3]) > 0.5  # It is not blank.
    assert len(plt.get_fignums()) == 2
    draw(Figure().subplots())  # No figure of pyplot's.
    assert len(plt.get_fignums()) == 2


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


def losses(epochs, **validation):
    """Returns a history of so many epochs."""
    return {
        "data_loss": np.linspace(2.0, 1.0, epochs).tolist(),
        "regularization_loss": np.linspace(0.1, 0.5, epochs).tolist(),
        **validation,
    }


def drawn_epochs(ax):
    (line,) = ax.lines
    return line.get_xdata().tolist()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("validation_freq", "initial_epoch", "expected"),
    [
        (1, 0, [*range(1, 11)]),
        (4, 0, [4, 8]),
        (4, 2, [4, 8]),
        ([1, 9], 0, [1, 9]),
    ],
    ids=str,
)
def test_validation_is_drawn_where_keras_validated(
    validation_freq, initial_epoch, expected
):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    x, y = np.ones((4, 2)), np.ones((4, 1))
    history = model.fit(
        x,
        y,
        epochs=10,
        initial_epoch=initial_epoch,
        validation_data=(x, y),
        validation_freq=validation_freq,
        callbacks=[l2keras.RegularizationLogger()],
        verbose=0,
    )
    ax = l2keras.plot_loss_split(history, validation_freq=validation_freq)
    assert drawn_epochs(ax) == expected
    assert ax.get_xlim() == (initial_epoch + 1, 10)


@pytest.mark.parametrize(
    ("freq", "number"), [(1, 10), (3, 3), ([4, 8, 10], 3)], ids=str
)
def test_another_validation_freq_than_that_of_fit_is_refused(freq, number):
    history = losses(10, val_data_loss=[1.5, 1.0])  # Every 4 epochs.
    with pytest.raises(
        ValueError,
        match=re.escape(
            "Argument `validation_freq` must be that of `fit`: "
            f"{freq} leads to {number} validation losses in the epochs 1 to "
            "10. Received: history with 2 of them"
        ),
    ):
        l2keras.plot_loss_split(history, validation_freq=freq)


@pytest.mark.parametrize(
    ("freq", "error", "received"),
    [
        (0, ValueError, "validation_freq=0"),
        ("2", TypeError, "validation_freq='2'"),
        ([2, 0], ValueError, "validation_freq[1]=0"),
    ],
)
def test_an_invalid_validation_freq_is_refused(freq, error, received):
    with pytest.raises(error, match=re.escape(f"Received: {received}")):
        l2keras.plot_loss_split(HISTORY, validation_freq=freq)


def test_without_validation_losses_no_line_is_drawn():
    assert not l2keras.plot_loss_split(losses(3, val_data_loss=[])).lines


def test_points_are_drawn_where_not_every_epoch_was_validated():
    every = l2keras.plot_loss_split(HISTORY)
    some = l2keras.plot_loss_split(
        losses(10, val_data_loss=[1.5, 1.0]), validation_freq=4
    )
    markers = [ax.lines[0].get_marker() for ax in (every, some)]
    assert markers == ["None", "o"]


def test_a_history_of_one_epoch_is_visible():
    ax = l2keras.plot_loss_split(losses(1, val_data_loss=[1.5]))
    data, _ = ax.collections
    assert np.ptp(data.get_paths()[0].vertices, axis=0).tolist() == [1.0, 2.0]
    assert drawn_epochs(ax) == ax.get_xticks().tolist() == [1]


def test_the_history_of_several_fits_is_drawn_in_sequence():
    history = keras.callbacks.History()
    history.history = losses(4)
    history.epoch = [0, 1]  # Those of the last fit: all that Keras keeps.
    assert l2keras.plot_loss_split(history).get_xlim() == (1, 4)


def test_a_history_without_epochs_is_refused():
    with pytest.raises(ValueError, match="must have at least one epoch"):
        l2keras.plot_loss_split(losses(0))


# The strengths ----------------------------------------------------------------


@pytest.mark.parametrize("strengths", [[0.01, 0.1, 1.0], [0.0, 0.1, 1.0]])
def test_a_choice_at_the_edge_is_visible(strengths):
    loss = np.array([[[0.2], [0.4]], [[0.3], [0.5]], [[0.8], [0.9]]])
    result = l2keras.TuningResult(np.array(strengths), loss, loss, {}, [])
    assert result.best_strength == strengths[0]
    ax = l2keras.plot_strength_path(result)
    left, right = ax.get_xlim()
    assert left < strengths[0]
    assert strengths[-1] < right
    # Logarithmic: nearly as far from the first to the second as to the third.
    first, second, third = ax.transData.transform(
        [(strength, 0.5) for strength in strengths]
    )[:, 0]
    assert second - first == pytest.approx(third - second, rel=0.2)
