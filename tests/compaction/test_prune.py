"""Units that are removed by name, and down to a number of parameters.

A unit is removed as if all layers that read it had zeros for it: that is done
by hand to the old model, and its outputs are compared.
"""

import keras
import numpy as np
import pytest
from keras import layers

import l2keras


def _dense_network():
    return keras.Sequential(
        [
            keras.Input((5,), name="x"),
            layers.Dense(6, activation="sigmoid", name="first"),
            layers.Dense(4, activation="relu", name="second"),
            layers.Dense(3, name="output"),
        ]
    )


def _residual_network():
    image = keras.Input((5, 5, 2), name="image")
    x = layers.Conv2D(4, 3, padding="same", name="conv")(image)
    x = layers.BatchNormalization(name="norm")(x)
    x = layers.Activation("relu")(x)
    other = layers.Conv2D(4, 1, name="other")(image)
    x = layers.Add()([x, other])
    y = layers.Conv2D(5, 3, padding="same", activation="relu", name="after")(x)
    y = layers.GlobalAveragePooling2D()(y)
    return keras.Model(image, layers.Dense(2, name="output")(y))


def _randomized(model, seed=0):
    rng = np.random.default_rng(seed)
    for weight in model.weights:
        value = rng.uniform(0.1, 1.0, weight.shape)
        if "variance" not in weight.path:
            value *= rng.choice([-1.0, 1.0], weight.shape)
        weight.assign(value)
    return model


def _inputs(model, seed=1):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(7, *model.input_shape[1:])).astype("float32")


def _outputs(model, x):
    return keras.ops.convert_to_numpy(model(x))


def _parameters(model):
    return sum(int(np.prod(weight.shape)) for weight in model.weights)


def _with_zeros_for(model, reader, units):
    """A copy whose layer `reader` has zeros for some units."""
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    layer = copy.get_layer(reader)
    kernel, bias = layer.get_weights()
    kernel[..., units, :] = 0.0
    layer.set_weights([kernel, bias])
    return copy


def test_units_that_are_removed_are_read_as_zeros():
    model = _randomized(_dense_network())
    x = _inputs(model)
    small, report = l2keras.compact(model, remove={"first": [1, 4]}, x=x)
    truth = _outputs(_with_zeros_for(model, "second", [1, 4]), x)
    np.testing.assert_allclose(_outputs(small, x), truth, rtol=1e-5, atol=1e-6)
    before = _outputs(model, x)
    lost = np.abs(truth - before).max() / np.abs(before).max()
    assert report.change == pytest.approx(lost, rel=1e-4)
    assert report.widths["first"] == (6, 4)
    assert report.removed == {"first": [1, 4]}
    assert report.parameters == (_parameters(model), _parameters(small))


def test_channels_that_are_added_to_removed_ones_are_removed_as_well():
    model = _randomized(_residual_network())
    x = _inputs(model)
    small, report = l2keras.compact(model, remove={"conv": [2]}, x=x)
    truth = _outputs(_with_zeros_for(model, "after", [2]), x)
    np.testing.assert_allclose(_outputs(small, x), truth, rtol=1e-5, atol=1e-6)
    assert report.removed == {"conv": [2], "other": [2]}
    # Neither a constant of the normalization is left, nor its channel.
    assert small.get_layer("norm").gamma.shape == (3,)
    assert small.get_layer("after").kernel.shape == (3, 3, 3, 5)
    assert report.parameters == (_parameters(model), _parameters(small))


def test_a_layer_of_which_all_units_are_removed_keeps_one_that_is_unread():
    model = _randomized(_dense_network())
    x = _inputs(model)
    small, report = l2keras.compact(model, remove={"second": range(4)})
    truth = _outputs(_with_zeros_for(model, "output", range(4)), x)
    np.testing.assert_allclose(_outputs(small, x), truth, rtol=1e-5, atol=1e-6)
    assert report.widths["second"] == (4, 1)
    assert report.unread_inputs == {"x": [0, 1, 2, 3, 4]}


def test_inputs_that_only_removed_units_read_may_go():
    model = _randomized(_dense_network())
    kernel, bias = model.get_layer("first").get_weights()
    kernel[2, :5] = 0.0
    model.get_layer("first").set_weights([kernel, bias])
    x = _inputs(model)
    small, report = l2keras.compact(
        model, drop_inputs=True, remove={"first": [5]}, x={"x": x}
    )
    assert report.inputs == {"x": [0, 1, 3, 4]}
    truth = _outputs(_with_zeros_for(model, "second", [5]), x)
    returned = _outputs(small, x[:, report.inputs["x"]])
    np.testing.assert_allclose(returned, truth, rtol=1e-5, atol=1e-6)


def test_the_change_is_measured_on_random_inputs_where_no_data_is_given():
    model = _randomized(_dense_network())
    _, report = l2keras.compact(model, remove={"first": [1]})
    assert report.change > 0
    assert "Outputs changed by" in repr(report)
    assert l2keras.compact(model, remove={})[1].change is None


@pytest.mark.parametrize(
    ("remove", "error", "message"),
    [
        (["first"], TypeError, "must be a dictionary from paths"),
        ({"first": 3}, TypeError, "must have a list of indices"),
        ({"first": [1.5]}, ValueError, "must be an integer >= 0"),
        ({"first": [6]}, ValueError, "indices below 6 for 'first'"),
        ({"third": [1]}, ValueError, "first, second, output. Received: 'th"),
        ({"output": [0]}, ValueError, "since they are outputs of the model"),
    ],
    ids=["list", "number", "fraction", "too large", "no layer", "outputs"],
)
def test_removals_that_cannot_be_done_raise(remove, error, message):
    with pytest.raises(error, match=message):
        l2keras.compact(_dense_network(), remove=remove)


def test_units_that_layers_mix_cannot_be_removed():
    x = keras.Input((6, 5))
    h = layers.Dense(4, name="hidden")(x)
    h = layers.LayerNormalization(name="norm")(h)
    model = keras.Model(x, layers.Dense(2, name="output")(h))
    with pytest.raises(ValueError, match="since norm reads them all"):
        l2keras.compact(model, remove={"hidden": [1]})


def test_data_for_other_inputs_raises():
    model = _dense_network()
    x = np.zeros((2, 5))
    with pytest.raises(ValueError, match=r"for each input .*: 1"):
        l2keras.compact(model, remove={"first": [0]}, x=[x, x])


@pytest.mark.parametrize("make", [_dense_network, _residual_network])
@pytest.mark.parametrize("share", [0.4, 0.75])
def test_as_few_are_pruned_as_the_number_of_parameters_takes(make, share):
    model = _randomized(make())
    x = _inputs(model)
    small, report = l2keras.prune(model, share, x)
    budget = share * _parameters(model)
    assert report.parameters == (_parameters(model), _parameters(small))
    assert _parameters(small) <= budget
    again, _ = l2keras.compact(model, remove=report.removed)
    np.testing.assert_allclose(_outputs(again, x), _outputs(small, x))
    before = _outputs(model, x)
    lost = np.abs(_outputs(small, x) - before).max() / np.abs(before).max()
    assert report.change == pytest.approx(lost, rel=1e-4)
    # Any group that was pruned, back again, would be too much: the last one
    # that was pruned is among them.
    too_large = []
    for path, units in report.removed.items():
        for unit in units:
            fewer = {
                other: [u for u in some if u != unit or make == _dense_network]
                for other, some in report.removed.items()
            }
            fewer[path] = [u for u in units if u != unit]
            more, _ = l2keras.compact(model, remove=fewer)
            too_large.append(_parameters(more) > budget)
    assert any(too_large)


def test_the_smallest_norms_go_first_whatever_the_scale_of_their_layers():
    model = _randomized(_dense_network())
    for name, scale, unit in (("first", 1e-3, 2), ("second", 1e3, 3)):
        kernel, bias = model.get_layer(name).get_weights()
        kernel *= scale
        kernel[:, unit] *= 0.01
        model.get_layer(name).set_weights([kernel, bias])
    before = _parameters(model)
    # Without one unit of each of the two layers.
    _, report = l2keras.prune(model, before - (6 + 4) - (5 + 1 + 3) + 1)
    assert report.removed == {"first": [2], "second": [3]}


def test_no_layer_loses_all_of_its_units():
    model = _randomized(_dense_network())
    smallest = 5 + 1 + 2 + 3 * 2
    small, report = l2keras.prune(model, smallest)
    assert _parameters(small) == smallest
    assert report.widths == {
        "first": (6, 1),
        "second": (4, 1),
        "output": (3, 3),
    }
    assert np.ptp(_outputs(small, _inputs(model)), axis=0).max() > 0
    with pytest.raises(ValueError, match=f"keeps one unit, {smallest}. Rec"):
        l2keras.prune(model, smallest - 1)


def test_units_that_are_off_go_before_others_do():
    model = _randomized(_dense_network())
    kernel, bias = model.get_layer("second").get_weights()
    kernel[:, 1] = 0.0
    model.get_layer("second").set_weights([kernel, bias])
    small, report = l2keras.prune(model, _parameters(model) - 1)
    assert report.removed == {}
    assert report.widths["second"] == (4, 3)
    x = _inputs(model)
    np.testing.assert_allclose(
        _outputs(small, x), _outputs(model, x), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize(
    ("parameters", "error", "message"),
    [
        (1.5, ValueError, "an integer, or a float between 0 and 1"),
        (0, ValueError, "must be an integer >= 1"),
        (True, TypeError, "must be an integer >= 1"),
        ("half", TypeError, "must be an integer >= 1"),
    ],
)
def test_numbers_of_parameters_that_are_none_raise(parameters, error, message):
    with pytest.raises(error, match=message):
        l2keras.prune(_dense_network(), parameters)


@pytest.mark.parametrize("cell", [layers.LSTM, layers.GRU, layers.SimpleRNN])
def test_units_of_recurrent_layers_are_removed_by_name(cell):
    model = _randomized(
        keras.Sequential(
            [
                keras.Input((3, 4), name="x"),
                cell(5, name="recurrent"),
                layers.Dense(2, name="output"),
            ]
        )
    )
    x = _inputs(model)
    small, report = l2keras.compact(model, remove={"recurrent": [1, 3]}, x=x)
    assert report.widths["recurrent"] == (5, 3)
    recurrent, output = model.layers
    weights = recurrent.get_weights()
    weights[1][[1, 3]] = 0.0  # Those that other units read.
    recurrent.set_weights(weights)
    kernel, bias = output.get_weights()
    kernel[[1, 3]] = 0.0
    output.set_weights([kernel, bias])
    np.testing.assert_allclose(
        _outputs(small, x), _outputs(model, x), rtol=1e-4, atol=1e-5
    )


def test_units_of_recurrent_layers_are_pruned_by_the_norm_of_all_gates():
    model = _randomized(
        keras.Sequential(
            [
                keras.Input((3, 4), name="x"),
                layers.LSTM(5, name="recurrent"),
                layers.Dense(2, name="output"),
            ]
        )
    )
    recurrent = model.layers[0]
    weights = recurrent.get_weights()
    for kernel in weights[:2]:
        # Unit 2 has small weights in all of its gates, unit 0 in one.
        kernel[:, 2::5] *= 0.1
        kernel[:, 0] *= 0.1
    recurrent.set_weights(weights)
    budget = _parameters(model) - 1
    small, report = l2keras.prune(model, budget)
    assert report.removed == {"recurrent": [2]}
    assert _parameters(small) == report.parameters[1] <= budget
