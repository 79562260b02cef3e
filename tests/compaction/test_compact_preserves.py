"""A compacted model keeps its settings, and is a model like any other."""

import keras
import numpy as np
import pytest
from keras import layers

import l2keras
from tests.support import BACKEND
from tests.support.built_models import Custom, OwnFunctional, sequential, state
from tests.support.random_architectures import computed, examples, switch_off


def off(model, units=4):
    """Switches off the first units of a model's first layer."""
    kernel, *others = model.layers[0].get_weights()
    kernel[..., :units] = 0.0
    model.layers[0].set_weights([kernel, *others])
    return model


def settled():
    """Returns a model that has settings of all kinds."""
    return off(
        sequential(
            (4,),
            layers.Dense(
                6,
                activation="relu",
                kernel_regularizer=l2keras.GroupLasso(0.1) + l2keras.L2(0.2),
                bias_regularizer="l1",
                kernel_initializer=keras.initializers.HeNormal(seed=3),
                kernel_constraint=keras.constraints.MaxNorm(2.0),
                name="hidden",
            ),
            layers.BatchNormalization(trainable=False, name="norm"),
            layers.Dropout(0.25, name="drop"),
            layers.Dense(
                3,
                dtype="mixed_bfloat16",
                kernel_regularizer=l2keras.L1(
                    l2keras.LinearSchedule(0.0, 0.1, steps=10)
                ),
                name="output",
            ),
        )
    )


def config_of(layer):
    config = layer.get_config()
    return {key: config[key] for key in config if key != "units"}


def test_settings_are_kept():
    model = settled()
    model.layers[3].bias.trainable = False
    small, _ = l2keras.compact(model)
    assert small.layers[0].units == 2
    assert small.name == model.name
    for old, new in zip(model.layers, small.layers, strict=True):
        assert config_of(new) == config_of(old)
        assert new.trainable == old.trainable
        assert new.dtype_policy == old.dtype_policy
        for one, other in zip(old.weights, new.weights, strict=True):
            assert other.name == one.name
            assert other.dtype == one.dtype
            assert other.trainable == one.trainable
    # Those that are off paid nothing.
    assert [record.path for record in l2keras.penalties(small)] == [
        record.path for record in l2keras.penalties(model)
    ]
    kernel, _, *_ = l2keras.penalties(model)
    again, _, *_ = l2keras.penalties(small)
    assert again.penalty == pytest.approx(kernel.penalty, rel=1e-6)


def test_applied_regularizers_are_kept():
    inputs = keras.Input((4,))
    x = layers.Dense(6, name="hidden")(inputs)
    x = layers.Dense(5, name="second")(x)
    x = Custom(3, name="custom")(x)
    model = keras.Model(inputs, x)
    off(keras.Sequential(model.layers[:2]), 4)
    l2keras.apply_regularizers(
        model,
        {"hidden/kernel": l2keras.GroupLasso(0.5), "custom/mix": None},
        default=l2keras.L2(l2keras.LinearSchedule(0.0, 0.5, steps=8)),
    )
    # Put where no config says it.
    model.get_layer("second").bias.regularizer = keras.regularizers.L1(0.5)
    small, report = l2keras.compact(model)
    assert report.widths["hidden"] == (6, 2)
    assert [each[0::2] for each in state(small)] == [
        each[0::2] for each in state(model)
    ]


def test_the_step_of_schedules_is_kept():
    model = settled()
    model.compile("sgd", "mse")
    model.fit(np.ones((8, 4)), np.ones((8, 3)), batch_size=2, verbose=0)
    small, _ = l2keras.compact(model)
    before, after = (l2keras.penalties(each) for each in (model, small))
    assert before[-2].strengths == after[-2].strengths
    assert before[-2].strengths["L1"] > 0


def test_a_compacted_model_trains_saves_and_reloads(tmp_path):
    model = settled()
    given = [np.array(weight) for weight in model.get_weights()]
    small, _ = l2keras.compact(model)
    small.compile("adam", "mse")
    x, y = examples(small, count=16), np.ones((16, 3))
    losses = small.fit(x, y, epochs=2, verbose=0).history["loss"]
    assert np.all(np.isfinite(losses))
    for one, other in zip(given, model.get_weights(), strict=True):
        np.testing.assert_array_equal(other, one)  # Nothing is shared.
    before = computed(small, x)
    small.save(tmp_path / "small.keras")
    again = keras.saving.load_model(tmp_path / "small.keras")
    np.testing.assert_array_equal(computed(again, x), before)
    assert again.layers[0].units == 2
    small.save_weights(tmp_path / "small.weights.h5")
    switch_off(again, seed=1, share=0.5)
    again.load_weights(tmp_path / "small.weights.h5")
    np.testing.assert_array_equal(computed(again, x), before)


@pytest.mark.skipif(
    BACKEND != "tensorflow", reason="Others need TensorFlow besides."
)
def test_a_compacted_model_can_be_exported(tmp_path):
    import tensorflow as tf

    small, _ = l2keras.compact(
        off(sequential((4,), layers.Dense(6), layers.Dense(3)))
    )
    small.export(tmp_path, verbose=False)
    x = examples(small)
    served = tf.saved_model.load(tmp_path)
    np.testing.assert_allclose(
        served.serve(x), computed(small, x)[0], rtol=1e-6
    )


def test_adapted_statistics_are_kept():
    norm = layers.Normalization(name="norm")
    norm.adapt(np.random.default_rng(0).normal(3.0, 2.0, (50, 4)))
    model = sequential((4,), norm, layers.Dense(6), layers.Dense(3))
    small, report = l2keras.compact(model)
    assert report.skipped == {}
    x = examples(model)
    np.testing.assert_allclose(
        computed(small, x), computed(model, x), rtol=1e-6
    )


def test_custom_layers_are_kept():
    model = off(sequential((4,), layers.Dense(6, name="hidden"), Custom(3)))
    small, report = l2keras.compact(model)
    assert report.widths["hidden"] == (6, 6)
    x = examples(model)
    np.testing.assert_array_equal(computed(small, x), computed(model, x))
    assert small.layers[1] is not model.layers[1]


def test_an_unregistered_activation_function_is_kept():
    def softened(x):
        return keras.ops.tanh(x) * 2

    model = sequential(
        (4,),
        layers.Dense(6),
        layers.Dense(5, softened),
        layers.Activation(softened),
        layers.Dense(3),
    )
    small, _ = l2keras.compact(off(model))
    assert small.layers[1].activation is softened
    x = examples(model)
    np.testing.assert_allclose(
        computed(small, x), computed(model, x), rtol=1e-5
    )


class Trained(keras.Model):
    """A functional model with a training step of its own."""

    def train_step(self, *args):
        return super().train_step(*args)


def test_the_class_of_a_functional_subclass_is_kept():
    inputs = keras.Input((4,))
    outputs = layers.Dense(3)(layers.Dense(6)(inputs))
    small, _ = l2keras.compact(Trained(inputs, outputs, name="mine"))
    assert isinstance(small, Trained)
    assert small.name == "mine"
    # One whose constructor makes other layers is not.
    small, _ = l2keras.compact(OwnFunctional(5))
    assert not isinstance(small, OwnFunctional)
    assert isinstance(small, keras.Model)


def test_frozen_models_inside_stay_frozen():
    inside = sequential((4,), layers.Dense(6), layers.Dense(5))
    inside.trainable = False
    inside.layers[1].trainable = True
    inputs = keras.Input((4,))
    model = keras.Model(inputs, layers.Dense(3)(inside(inputs)))
    small, _ = l2keras.compact(model)
    assert not small.layers[1].trainable
    assert small.layers[1].layers[1].trainable
    assert [weight.trainable for weight in small.weights] == [
        weight.trainable for weight in model.weights
    ]


def test_the_nesting_of_inputs_and_outputs_is_kept():
    one, other = keras.Input((4,), name="one"), keras.Input((3,), name="other")
    x = layers.Concatenate()([one, other])
    model = keras.Model(
        {"one": one, "other": other},
        {"b": layers.Dense(2)(x), "a": [layers.Dense(3)(x)]},
    )
    small, _ = l2keras.compact(model)
    x = examples(model)
    before, after = (each.predict(x, verbose=0) for each in (model, small))
    keras.tree.assert_same_structure(before, after)
    for name in before:
        np.testing.assert_allclose(after[name], before[name], rtol=1e-5)


@pytest.mark.slow
@pytest.mark.skipif(
    BACKEND == "jax", reason="To make the network, JAX compiles for 15 s."
)
def test_mobilenet_is_compacted():
    model = keras.applications.MobileNetV2(
        (32, 32, 3), alpha=0.35, weights=None, classes=10
    )
    switch_off(model, seed=0, share=0.3)
    small, report = l2keras.compact(model)
    before, after = report.parameters
    assert after < 0.7 * before
    x = examples(model, count=2)
    np.testing.assert_allclose(
        computed(small, x), computed(model, x), rtol=1e-4, atol=1e-6
    )
    assert l2keras.compact(small)[1].parameters == (after, after)
