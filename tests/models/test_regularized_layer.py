"""Layers that save regularizers for which they have no argument."""

import json
import zipfile

import keras
import numpy as np
import pytest

import l2keras
from l2keras.regularizers import describing
from tests.support import assert_weights, rising_schedule
from tests.support.built_models import (
    Backbone,
    Custom,
    Lazy,
    attention,
    bidirectional,
    described,
    lora,
    losses,
    sequential,
    subclassed,
)
from tests.support.model_copies import by_clone, by_json, by_keras_file


def with_rms():
    return sequential(
        (4,),
        keras.layers.RMSNormalization(name="rms"),
        keras.layers.Dense(2, name="head"),
    )


# A row: how to make the model, and rules that its layers cannot say.
SET_APART = {
    "MultiHeadAttention": (
        attention,
        {"mha/query/kernel": l2keras.L2(0.25), "mha/key/kernel": None},
        "mha",
    ),
    "Bidirectional": (
        lambda: bidirectional(keras.layers.LSTM(2, name="lstm")),
        {
            "both/forward_.*/kernel": l2keras.L2(0.25),
            "both/backward_.*/kernel": l2keras.L1(0.5),
            "both/backward_.*/recurrent_kernel": None,
        },
        None,
    ),
    "LoRA": (
        lora,
        {
            "dense/lora_kernel_a": l2keras.L2(0.25),
            "dense/lora_kernel_b": l2keras.L1(0.5),
            "dense/kernel": None,
        },
        "dense",
    ),
    "custom layer": (
        lambda: sequential((4,), Custom(3, name="custom")),
        {"custom/mix": l2keras.L2(0.25), "custom/bias": l2keras.L1(0.5)},
        "custom",
    ),
}
if hasattr(keras.layers, "RMSNormalization"):
    SET_APART["RMSNormalization"] = (
        with_rms,
        {"rms/scale": l2keras.L2(0.25)},
        "rms",
    )

each_set_apart = pytest.mark.parametrize(
    ("make", "rules", "layer"),
    [pytest.param(*row, id=name) for name, row in SET_APART.items()],
)


def saved_config(path):
    with zipfile.ZipFile(path) as archive:
        return json.loads(archive.read("config.json"))


@each_set_apart
def test_regularizers_are_saved_where_the_layer_has_no_argument(
    make, rules, layer, tmp_path
):
    model = make()
    l2keras.apply_regularizers(model, rules)
    assert len(described(model)) == sum(map(bool, rules.values()))
    again = by_keras_file(model, tmp_path)
    assert described(again) == described(model)
    assert losses(by_json(model, None)) == losses(model)
    layers = saved_config(tmp_path / "model.keras")["config"]["layers"]
    kinds = [each["registered_name"] for each in layers]
    # One alone, and a layer that can say it by itself is saved as always.
    assert kinds.count("l2keras>RegularizedLayer") == (layer is not None)
    assert [type(each).__name__ for each in again._flatten_layers()] == [
        type(each).__name__ for each in make()._flatten_layers()
    ]
    # They go on being changed where they were loaded.
    l2keras.apply_regularizers(again, {".*": None})
    assert losses(again) == []
    assert described(by_json(again, None)) == {}


@each_set_apart
def test_weight_files_are_exchanged_with_the_plain_model(
    make, rules, layer, tmp_path
):
    if make is lora:
        pytest.skip("Keras itself adds the factors to the kernel in a file.")
    model, plain = make(), make()
    l2keras.apply_regularizers(model, rules)
    for one, other in ((model, plain), (plain, model)):
        one.set_weights([weight + 1 for weight in one.get_weights()])
        one.save_weights(tmp_path / "model.weights.h5")
        other.load_weights(tmp_path / "model.weights.h5")
        assert_weights(one, other.get_weights(), atol=1e-6)


def test_an_unregistered_layer_is_cloned_and_loaded_by_custom_objects(
    tmp_path,
):
    class Unknown(Custom):
        pass

    model = sequential((4,), Unknown(3, name="custom"))
    l2keras.apply_regularizers(model, {"custom/mix": l2keras.L2(0.25)})
    assert described(by_clone(model, None)) == described(model)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(
        tmp_path / "model.keras", custom_objects={"Unknown": Unknown}
    )
    assert described(again) == described(model)
    assert losses(again) == losses(model)


def lazy():
    return sequential((4,), Lazy(name="lazy"))


@pytest.mark.parametrize("make", [attention, subclassed, lazy])
def test_a_loaded_model_trains_as_the_saved_one(make, tmp_path):
    model = make()
    l2keras.apply_regularizers(
        model,
        {".*(key|hidden)/kernel": l2keras.L1(0.05)} if make != lazy else {},
        default=l2keras.L2(rising_schedule()),
    )
    # So that no layer can save the regularizers of its weights.
    shape = (2,) if make != attention else (3, 4)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(16, *shape[:-1], 4)).astype("float32")
    y = rng.normal(size=(16, *shape)).astype("float32")
    model.compile(keras.optimizers.SGD(0.01, momentum=0.9), "mse")

    def fit_one(model):
        return model.fit(
            x,
            y,
            batch_size=4,
            shuffle=False,
            verbose=0,
            callbacks=[l2keras.RegularizationLogger()],
        ).history

    first = fit_one(model)
    again = by_keras_file(model, tmp_path)
    assert again.evaluate(x, y, verbose=0) == model.evaluate(x, y, verbose=0)
    second = fit_one(model)
    assert fit_one(again) == second
    # The schedule went on: not the epoch that it was trained by before.
    assert second["regularization_loss"] > first["regularization_loss"]
    assert_weights(again, model.get_weights(), atol=0)


def test_a_clone_of_a_loaded_model_has_its_regularizers(tmp_path):
    # Keras clones the layers one by one, and saves the whole.
    model = Backbone()
    l2keras.apply_regularizers(model, default=l2keras.L2(0.25))
    loaded = by_keras_file(model, tmp_path)
    assert type(loaded).__name__ == "Backbone"
    for each in (loaded, by_clone(loaded, None)):
        assert described(each) == described(model)
        assert losses(each) == losses(model)
    l2keras.strip_regularizers(loaded)
    assert described(by_clone(loaded, None)) == {}


def test_a_preset_is_saved_without_regularizers_and_warns(tmp_path):
    model = Backbone(name="small")
    l2keras.apply_regularizers(model, default=l2keras.L2(0.25))
    before = described(model)
    with pytest.warns(UserWarning, match="preset") as warned:
        model.save_to_preset(tmp_path)
    # HDF5 makes NumPy warn, of something else.
    (ours,) = [warning for warning in warned if warning.category is UserWarning]
    assert str(ours.message) == (
        "A preset of KerasHub cannot hold the regularizers of 'small', so they "
        "are not saved with it. Call `l2keras.apply_regularizers` again after "
        "`from_preset`, or save the model by `model.save`."
    )
    assert ours.filename == __file__
    # The model itself keeps them, and goes on to save them.
    assert described(model) == before
    assert described(by_keras_file(model, tmp_path)) == before
    again = Backbone.from_preset(tmp_path)
    assert type(again) is Backbone
    assert described(again) == {}
    assert_weights(again, model.get_weights(), atol=0)


def test_a_config_of_the_first_version_is_loaded():
    strong, weak = (
        {
            "module": "l2keras",
            "class_name": "L2",
            "config": {"l2": strength},
            "registered_name": "l2keras>L2",
        }
        for strength in (0.5, 0.25)
    )
    layer = keras.saving.deserialize_keras_object(
        {
            "module": "tests.support.built_models",
            "class_name": "Custom",
            "registered_name": "l2keras>RegularizedLayer",
            "config": {
                "layer": {
                    "module": "tests.support.built_models",
                    "class_name": "Custom",
                    "config": {
                        "name": "custom",
                        "trainable": True,
                        "dtype": "float32",
                        "units": 3,
                    },
                    "registered_name": "l2keras_tests_apply>Custom",
                },
                "weights": ["mix", "bias", "kernel", "bias"],
                "regularizers": [strong, None, weak, None],
            },
        }
    )
    model = sequential((4,), layer)
    inner = layer.inner.name
    assert described(model) == {
        "custom/mix": "L2(l2=0.5)",
        f"custom/{inner}/kernel": "L2(l2=0.25)",
    }
    assert losses(by_clone(model, None)) == losses(model)


def test_arguments_added_by_a_loader_reach_the_layer():
    # As KerasHub hands on a `dtype`, or `trainable`, of its user.
    model = sequential((4,), Custom(3, name="custom"))
    l2keras.apply_regularizers(model, {"custom/mix": l2keras.L2(0.25)})
    config = keras.saving.serialize_keras_object(model.layers[0])
    config["config"]["dtype"] = "bfloat16"
    again = keras.saving.deserialize_keras_object(config)
    assert again.compute_dtype == "bfloat16"
    assert describing.describe(again.mix.regularizer) == "L2(l2=0.25)"


def test_a_layer_that_changed_its_weights_is_not_loaded():
    layer = Custom(3, name="custom")
    model = sequential((4,), layer)
    l2keras.apply_regularizers(model, {"custom/mix": l2keras.L2(0.25)})
    config = layer.get_config()
    config["regularizers"].append(None)
    config["weights"].append("more")
    with pytest.raises(ValueError, match="regularizers of") as error:
        sequential((4,), type(layer).from_config(config))
    message = (
        "Layer 'custom' was saved with the regularizers of 5 weights, but has "
        "4. Load it with the class that it was saved with."
    )
    assert str(error.value).splitlines()[0].endswith(message)


class Unsaved(keras.Model):
    """A model whose `get_config` fails, made of layers of Keras."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.hidden = keras.layers.Dense(3, name="hidden")

    def call(self, inputs):
        return self.hidden(inputs)

    def get_config(self):
        raise KeyError("no such unit")


def test_a_failing_get_config_is_named_when_saving(tmp_path):
    inner = Unsaved(name="mine")
    model = sequential((4,), inner, keras.layers.Dense(2, name="head"))
    done = l2keras.apply_regularizers(
        model, {"mine/hidden/kernel": l2keras.L2(0.5), "head/bias": None}
    )
    assert list(done) == ["mine/hidden/kernel", "head/bias"]
    assert len(model.losses) == 1
    with pytest.raises(KeyError, match="no such unit") as error:
        model.save(tmp_path / "model.keras")
    assert error.value.__notes__ == [
        "Raised by `get_config` of Unsaved 'mine'."
    ]
