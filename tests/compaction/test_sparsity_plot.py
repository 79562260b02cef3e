"""The figure of groups shows how large they are."""

import keras
import numpy as np
import pytest
from keras import layers
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

import l2keras
from l2keras import plots


def assigned(model, path, value):
    (variable,) = (each for each in model.variables if each.path.endswith(path))
    variable.assign(value)


def drawn(ax):
    """Returns the sizes that are drawn on each line, by color."""
    found = {label.get_text(): {} for label in ax.get_yticklabels()}
    for line in ax.lines:
        x, y = line.get_data()
        if len(x):
            (at,) = set(y)
            found[list(found)[at]][to_hex(line.get_color()).upper()] = sorted(x)
    return found


def small_model():
    model = keras.Sequential(
        [
            keras.Input((8, 8, 2)),
            layers.DepthwiseConv2D(3, name="depth"),
            layers.Conv2D(
                4,
                1,
                kernel_regularizer=l2keras.GroupLasso(0.1, axis=[-2, -1]),
                name="wide",
            ),
            layers.Flatten(),
            layers.Dense(3, bias_regularizer="l2", name="last"),
        ]
    )
    depth = np.zeros((3, 3, 2, 1))
    depth[0, 0, 1] = 3.0
    assigned(model, "depth/kernel", depth)
    wide = np.array([[[[0.0, 1.0, 2.0, 1e-4], [1e-5, 0.0, 3.0, 4.0]]]])
    assigned(model, "wide/kernel", wide)
    assigned(model, "last/kernel", np.ones((144, 3)) * [1.0, 2.0, 0.0])
    return model


@pytest.mark.parametrize("threshold", [0.0, 1e-3])
def test_the_plot_has_the_norms_of_groups(threshold):
    ax = l2keras.plot_sparsity(small_model(), threshold)
    found = drawn(ax)
    nearly = [1e-5, 1e-4]
    wide = {plots.BLUE: [1.0, 2.0, 3.0, 4.0], plots.RED: nearly}
    if not threshold:
        wide = {plots.BLUE: [*nearly, *wide[plots.BLUE]]}
    expected = {
        "depth/kernel: 1 of 2 off": {plots.BLUE: [1.0]},
        f"wide/kernel: {4 if threshold else 2} of 8 off": wide,
        "last/kernel: 1 of 3 off": {plots.BLUE: [1.0, 2.0]},
        "last/bias: 3 of 3 off": {},
    }
    assert list(found) == list(expected)
    for label, sizes in expected.items():
        assert set(found[label]) == set(sizes)
        for color, each in sizes.items():
            np.testing.assert_allclose(found[label][color], each, rtol=1e-6)
    low, high = ax.get_xlim()
    np.testing.assert_allclose([low, high], [1e-6, 10.0])


@pytest.mark.parametrize(
    "layer",
    [
        layers.DepthwiseConv1D(2, depth_multiplier=2),
        layers.SeparableConv1D(5, 2, depth_multiplier=2),
    ],
)
def test_depthwise_filters_are_groups(layer):
    model = keras.Sequential([keras.Input((4, 3)), layer])
    first, *_ = drawn(l2keras.plot_sparsity(model))
    assert first.endswith("kernel: 0 of 6 off")


def test_a_model_without_kernels_has_an_empty_plot():
    model = keras.Sequential([keras.Input((2,)), layers.BatchNormalization()])
    ax = l2keras.plot_sparsity(model)
    assert drawn(ax) == {}
    ax.figure.canvas.draw()


def test_an_all_zero_model_is_drawn_on_given_axes():
    model = keras.Sequential(
        [keras.Input((2,)), layers.Dense(1, kernel_initializer="zeros")]
    )
    given = Figure().subplots()
    ax = l2keras.plot_sparsity(model, ax=given)
    assert ax is given
    assert list(drawn(ax).values()) == [{}]
    ax.figure.canvas.draw()


def test_invalid_models_and_thresholds_are_refused():
    with pytest.raises(TypeError, match="model"):
        l2keras.plot_sparsity("model")
    with pytest.raises(ValueError, match="built"):
        l2keras.plot_sparsity(keras.Sequential([layers.Dense(1)]))
    with pytest.raises(ValueError, match="Argument `threshold` must be"):
        l2keras.plot_sparsity(small_model(), -1.0)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_weights_are_drawn(dtype):
    model = keras.Sequential([keras.Input((2,)), layers.Dense(2, dtype=dtype)])
    model.layers[0].kernel.assign(np.array([[1.0, 0.0], [1.0, 0.0]]))
    (line,) = drawn(l2keras.plot_sparsity(model)).values()
    assert line == {plots.BLUE: [1.0]}


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_groups_that_are_not_finite_are_counted_and_not_drawn(value):
    model = keras.Sequential([keras.Input((2,)), layers.Dense(3)])
    model.layers[0].kernel.assign(np.array([[1, 0, value], [1, 0, 2]]))
    ax = l2keras.plot_sparsity(model)
    ((label, sizes),) = drawn(ax).items()
    assert label.endswith("kernel: 1 of 3 off, 1 not finite")
    assert sizes == {plots.BLUE: [1.0]}
    ax.figure.canvas.draw()
