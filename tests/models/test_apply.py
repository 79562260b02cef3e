"""Regularizers put on models that are built already."""

import keras
import numpy as np
import pytest
from keras import ops

import l2keras
from tests.support import falling_schedule, rising_schedule, takes_functions
from tests.support.built_models import (
    assert_pays,
    attention,
    cubic,
    described,
    each_its_own,
    each_model,
    each_row,
    embedded,
    functional,
    l2,
    losses,
    new_keras_only,
    state,
    transfer,
    two_layers,
    variable,
    without_numbers,
)
from tests.support.model_copies import (
    by_clone,
    by_deepcopy,
    by_h5_file,
    by_json,
    by_keras_file,
    by_pickle,
)

# The contract -----------------------------------------------------------------


@each_row
def test_the_default_penalizes_kernels(make, reached):
    model = make()
    assert losses(model) == []
    done = l2keras.apply_regularizers(model, default=l2keras.L2(0.25))
    assert [without_numbers(path) for path in done] == reached
    assert_pays(model, l2(model, dict.fromkeys(done, 0.25)))
    assert any(losses(model))
    for path, regularizer in done.items():
        assert variable(model, path).regularizer is regularizer
        assert repr(regularizer) == "L2(l2=0.25)"
    # No weight has it besides.
    assert sum(v.regularizer is not None for v in model.weights) == len(done)


@each_row
def test_the_model_computes_and_is_named_as_before(make, reached):
    model = make()
    shape = getattr(model, "input_shape", (None, 4))[1:]
    x = np.random.default_rng(0).integers(0, 5, (2, *shape)).astype("float32")
    outputs = ops.convert_to_numpy(model(x))
    layers = model._flatten_layers
    classes = [type(layer) for layer in layers()]
    names = [weight.path for weight in model.weights]
    l2keras.apply_regularizers(model, each_its_own(model))
    np.testing.assert_array_equal(ops.convert_to_numpy(model(x)), outputs)
    assert [weight.path for weight in model.weights] == names
    for each, before in zip(layers(), classes, strict=True):
        assert isinstance(each, before)
        assert type(each).__name__ == before.__name__
        assert type(each).__module__ == before.__module__


@pytest.mark.parametrize("alike", [True, False], ids=["alike", "each its own"])
@each_model
def test_regularizers_are_saved_with_the_model(make, alike, tmp_path):
    model = make()
    if alike:
        l2keras.apply_regularizers(model, default=l2keras.L2(0.25))
    else:  # On biases and normalizations too.
        l2keras.apply_regularizers(model, each_its_own(model))
    for again_by in (by_keras_file, by_json, by_clone):
        again = again_by(model, tmp_path)
        assert state(again) == state(model), again_by
        # In a file, Keras adds LoRA's factors to the kernel.
        again.set_weights(model.get_weights())
        np.testing.assert_allclose(
            sorted(losses(again)), sorted(losses(model)), rtol=1e-6
        )
    # And once more, from a copy.
    assert state(by_json(again, tmp_path)) == state(model)


@pytest.mark.parametrize("again_by", [by_h5_file, by_pickle, by_deepcopy])
@pytest.mark.parametrize("make", [attention, transfer, functional])
def test_regularizers_survive_every_way_to_copy_a_model(
    make, again_by, tmp_path
):
    model = make()
    rules = {".*(head|one|key)/kernel": l2keras.L1(0.5) + l2keras.L2(0.25)}
    l2keras.apply_regularizers(model, rules)
    again = again_by(model, tmp_path)
    assert state(again) == state(model)
    assert losses(again) == losses(model)
    assert len(losses(model)) == 1


# Rules ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rules", "default", "expected"),
    [
        pytest.param(
            {"hidden/kernel": l2keras.L1(0.5)},
            None,
            {"hidden/kernel": "L1(l1=0.5)"},
            id="path",
        ),
        pytest.param(
            {".*/kernel": l2keras.L1(0.5)},
            None,
            {"hidden/kernel": "L1(l1=0.5)", "output/kernel": "L1(l1=0.5)"},
            id="pattern",
        ),
        pytest.param(
            {".*/kernel": l2keras.L1(0.5), "output/kernel": l2keras.L2(0.25)},
            None,
            {"hidden/kernel": "L1(l1=0.5)", "output/kernel": "L2(l2=0.25)"},
            id="path before pattern",
        ),
        pytest.param(
            {"hidden/.*": l2keras.L1(0.5)},
            l2keras.L2(0.25),
            {
                "hidden/kernel": "L1(l1=0.5)",
                "hidden/bias": "L1(l1=0.5)",
                "output/kernel": "L2(l2=0.25)",
            },
            id="pattern before default",
        ),
        pytest.param(
            {"hidden/kernel": None},
            l2keras.L2(0.25),
            {"output/kernel": "L2(l2=0.25)"},
            id="none before default",
        ),
        pytest.param(
            {"norm/(gamma|beta)": l2keras.L2(0.25)},
            None,
            {"norm/gamma": "L2(l2=0.25)", "norm/beta": "L2(l2=0.25)"},
            id="normalization",
        ),
    ],
)
def test_rules_assign_regularizers_by_path(rules, default, expected, tmp_path):
    model = two_layers()
    done = l2keras.apply_regularizers(model, rules, default)
    assert described(model) == expected
    assert {k: repr(v) for k, v in done.items() if v is not None} == expected
    assert described(by_keras_file(model, tmp_path)) == expected


@pytest.mark.parametrize(
    ("rules", "left"),
    [
        ({".*": None}, {}),
        ({"hidden/.*": None}, {"output/kernel": "L2(l2=0.25)"}),
        (
            {"hidden/bias": None},
            {"hidden/kernel": "L2(l2=0.25)", "output/kernel": "L2(l2=0.25)"},
        ),
    ],
)
def test_none_removes_a_regularizer(rules, left, tmp_path):
    model = two_layers(kernel_regularizer=l2keras.L2(0.25))
    done = l2keras.apply_regularizers(model, rules)
    assert set(done.values()) == {None}
    assert described(model) == left
    assert_pays(model, l2(model, dict.fromkeys(left, 0.25)))
    for again in (by_keras_file(model, tmp_path), by_clone(model, tmp_path)):
        assert described(again) == left


def test_the_returned_dictionary_prints_a_line_per_weight():
    function = "cubic" if takes_functions() else "Keras L2(l2=0.01)"
    done = l2keras.apply_regularizers(
        two_layers(),
        {
            "hidden/kernel": keras.regularizers.L1(0.5),
            "hidden/bias": cubic if takes_functions() else "l2",
            "output/kernel": None,
            "norm/gamma": l2keras.L1(0.5) + l2keras.L2(0.25),
        },
    )
    assert repr(done) == (
        "hidden/kernel: Keras L1(l1=0.5)\n"
        f"hidden/bias: {function}\n"
        "norm/gamma: L1(l1=0.5) + L2(l2=0.25)\n"
        "output/kernel: None"
    )
    assert isinstance(done, dict)


def test_each_weight_has_a_copy_of_its_own(tmp_path):
    model = two_layers()
    given = l2keras.L2(0.25)
    done = l2keras.apply_regularizers(model, default=given)
    one, other = done.values()
    assert len({id(one), id(other), id(given)}) == 3
    # So that each can have its own scale.
    l2keras.set_scale(model, {"hidden/kernel": 0.5})
    expected = l2(model, {"hidden/kernel": 0.125, "output/kernel": 0.25})
    assert_pays(model, expected)
    assert given.scale == 1.0
    assert_pays(by_keras_file(model, tmp_path), expected)


@pytest.mark.parametrize(
    ("regularizer", "truth"),
    [
        pytest.param("l2", lambda w: 0.01 * np.sum(w**2), id="name"),
        pytest.param(
            cubic,
            lambda w: np.sum(np.abs(w) ** 3),
            id="function",
            marks=new_keras_only,
        ),
        pytest.param(
            keras.regularizers.L1(0.5),
            lambda w: 0.5 * np.sum(np.abs(w)),
            id="Keras's",
        ),
        pytest.param(
            keras.regularizers.serialize(keras.regularizers.L1(0.5)),
            lambda w: 0.5 * np.sum(np.abs(w)),
            id="config",
        ),
    ],
)
def test_every_regularizer_that_keras_accepts_can_be_applied(
    regularizer, truth, tmp_path
):
    model = two_layers()
    l2keras.apply_regularizers(model, {"hidden/kernel": regularizer})
    kernel = model.get_weights()[0].astype("float64")
    for each in (
        model,
        by_keras_file(model, tmp_path),
        by_json(model, tmp_path),
        by_clone(model, tmp_path),
    ):
        assert_pays(each, [truth(kernel)])


@pytest.mark.parametrize("embeddings", [False, True])
def test_the_default_reaches_embeddings_if_asked(embeddings):
    model = embedded()
    done = l2keras.apply_regularizers(
        model, default=l2keras.L2(0.25), default_embeddings=embeddings
    )
    added = ["embedding/embeddings"] if embeddings else []
    assert list(done) == [*added, "head/kernel"]
    assert_pays(model, l2(model, dict.fromkeys(done, 0.25)))
    assert state(by_json(model, None)) == state(model)


def test_frozen_layers_are_penalized_once_unfrozen(tmp_path):
    model = two_layers()
    model.get_layer("hidden").trainable = False
    done = l2keras.apply_regularizers(model, default=l2keras.L2(0.25))
    assert list(done) == ["hidden/kernel", "output/kernel"]
    for each in (model, by_keras_file(model, tmp_path)):
        assert_pays(each, l2(model, {"output/kernel": 0.25}))
        each.get_layer("hidden").trainable = True
        assert_pays(each, l2(each, dict.fromkeys(done, 0.25)))
        each.get_layer("hidden").trainable = False


def test_applying_and_stripping_add_no_variables():
    model = two_layers()
    weights = len(model.variables)
    for _ in range(2):
        l2keras.apply_regularizers(model, default=l2keras.L2(rising_schedule()))
        l2keras.set_scale(model, {"hidden/.*": 0.5, "output/.*": 0.25})
        assert len(model.variables) == weights + 2
        l2keras.apply_regularizers(
            model, default=l2keras.L2(falling_schedule())
        )
        # The scales are gone, and schedules need no variable.
        assert len(model.variables) == weights
        l2keras.set_scale(model, {".*/kernel": 0.5})
        assert len(model.variables) == weights + 1
        l2keras.strip_regularizers(model)
        assert len(model.variables) == weights
        assert losses(model) == []
