"""Models that people use: of Keras's applications, and of KerasHub."""

import warnings

import keras
import numpy as np
import pytest
from keras import ops

import l2keras
from tests.support import BACKEND
from tests.support.built_models import (
    Backbone,
    described,
    losses,
    state,
    without_numbers,
)
from tests.support.model_copies import by_clone, by_keras_file

L2 = l2keras.L2(0.01)


@pytest.mark.slow
@pytest.mark.skipif(
    BACKEND == "jax", reason="JAX takes half a minute to build them."
)
@pytest.mark.parametrize(
    "name", ["MobileNetV3Small", "ResNet50", "EfficientNetB0", "ConvNeXtTiny"]
)
def test_the_default_reaches_the_kernels_of_keras_applications(name):
    model = getattr(keras.applications, name)(
        weights=None, include_top=False, input_shape=(32, 32, 3)
    )
    assert losses(model) == []
    done = l2keras.apply_regularizers(model, default=L2)
    kernels = [weight for weight in model.weights if weight.name == "kernel"]
    assert len(kernels) > 40
    assert [path.split("/")[-2:] for path in done] == [
        kernel.path.split("/")[-2:] for kernel in kernels
    ]
    expected = sum(
        0.01 * np.sum(ops.convert_to_numpy(kernel).astype("float64") ** 2)
        for kernel in kernels
    )
    assert len(model.losses) == len(kernels)
    assert sum(losses(model)) == pytest.approx(expected, rel=1e-5)
    if name == "MobileNetV3Small":
        again = keras.models.model_from_json(model.to_json())
        assert state(again) == state(model)


def test_the_defaults_of_decay_and_penalties_reach_the_same_weights():
    model = Backbone()
    optimizer = l2keras.DecoupledWeightDecay(
        keras.optimizers.SGD(), default=0.1
    )
    decayed = optimizer.decayed(model)
    assert list(decayed) == list(l2keras.apply_regularizers(model, default=L2))
    assert all("block" in path for path in decayed)


# KerasHub ---------------------------------------------------------------------


@pytest.fixture
def keras_hub():
    return pytest.importorskip(
        "keras_hub", reason="KerasHub is not installed (extra `dev`)."
    )


def bert(keras_hub):
    return keras_hub.models.BertBackbone(
        vocabulary_size=20,
        num_layers=1,
        num_heads=2,
        hidden_dim=4,
        intermediate_dim=8,
        max_sequence_length=6,
    )


def gpt2(keras_hub):
    return keras_hub.models.GPT2Backbone(
        vocabulary_size=20,
        num_layers=1,
        num_heads=2,
        hidden_dim=4,
        intermediate_dim=8,
        max_sequence_length=6,
    )


def vit(keras_hub):
    return keras_hub.models.ViTBackbone(
        image_shape=(8, 8, 3),
        patch_size=4,
        num_layers=1,
        num_heads=2,
        hidden_dim=4,
        mlp_dim=8,
    )


def paths_of_block(block, attention, *dense):
    return [
        f"{block}/{attention}/{name}/kernel"
        for name in ("query", "key", "value", "attention_output")
    ] + [f"{block}/{name}/kernel" for name in dense]


FEEDFORWARD = "feedforward_intermediate_dense", "feedforward_output_dense"
HUB = {
    bert: (
        [
            *paths_of_block(
                "transformer_layer_0", "self_attention_layer", *FEEDFORWARD
            ),
            "pooled_dense/kernel",
        ],
        [
            "token_embedding/embeddings",
            "position_embedding/embeddings",
            "segment_embedding/embeddings",
        ],
    ),
    gpt2: (
        paths_of_block("transformer_layer_0", "self_attention", *FEEDFORWARD),
        ["token_embedding/embeddings", "position_embedding/embeddings"],
    ),
    vit: (
        [
            "vit_patching_and_embedding/patch_embedding/kernel",
            *paths_of_block(
                "vit_encoder/transformer_block_1",
                "mha",
                "mlp/dense_1",
                "mlp/dense_2",
            ),
        ],
        [
            "vit_patching_and_embedding/class_token",
            "vit_patching_and_embedding/position_embedding/embeddings",
        ],
    ),
}
each_of_hub = pytest.mark.parametrize("make", HUB)


@each_of_hub
def test_the_default_reaches_the_kernels_of_keras_hub_but_no_embeddings(
    make, keras_hub
):
    model = make(keras_hub)
    kernels, embeddings = HUB[make]
    decay = l2keras.DecoupledWeightDecay(keras.optimizers.SGD(), default=0.1)
    done = l2keras.apply_regularizers(model, default=L2)
    for paths in (done, decay.decayed(model)):
        assert [without_numbers(path) for path in paths] == [
            without_numbers(path) for path in kernels
        ]
    done = l2keras.apply_regularizers(
        model, default=L2, default_embeddings=True
    )
    assert sorted(done) == sorted(kernels + embeddings)


@each_of_hub
def test_regularizers_on_keras_hub_survive_saving_and_cloning(
    make, keras_hub, tmp_path
):
    model = make(keras_hub)
    l2keras.apply_regularizers(model, default=L2)
    for again in (
        by_keras_file(model, tmp_path),
        # KerasHub's ViT has a layer that is not made of its own config.
        *([by_clone(model, None)] if make is not vit else []),
    ):
        assert described(again) == described(model)
        assert losses(again) == losses(model)


@each_of_hub
def test_presets_of_keras_hub_equal_those_of_the_plain_model(
    make, keras_hub, tmp_path
):
    model = make(keras_hub)
    l2keras.apply_regularizers(model, default=L2)
    with pytest.warns(UserWarning, match="preset of KerasHub cannot hold"):
        model.save_to_preset(tmp_path)
    for cls in (type(make(keras_hub)), keras_hub.models.Backbone):
        again = cls.from_preset(str(tmp_path))
        assert type(again) is type(make(keras_hub))
        assert losses(again) == []
        for one, other in zip(
            again.get_weights(), model.get_weights(), strict=True
        ):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("given", ["task", "backbone"])
def test_a_task_of_keras_hub_is_saved_as_a_preset(given, keras_hub, tmp_path):
    backbone = bert(keras_hub)
    if given == "backbone":
        l2keras.apply_regularizers(backbone, default=L2)
    cls = keras_hub.models.BertTextClassifier
    task = cls(backbone=backbone, num_classes=2, preprocessor=None)
    if given == "task":
        l2keras.apply_regularizers(task, default=L2)
    with pytest.warns(UserWarning, match="preset of KerasHub cannot hold"):
        task.save_to_preset(str(tmp_path))
    x = {
        "token_ids": np.ones((2, 6), "int32"),
        "padding_mask": np.ones((2, 6), "int32"),
        "segment_ids": np.zeros((2, 6), "int32"),
    }
    with warnings.catch_warnings():
        # KerasHub's `compile` is its own.
        warnings.simplefilter("ignore")
        again = cls.from_preset(str(tmp_path))
    assert type(again) is cls
    np.testing.assert_array_equal(
        ops.convert_to_numpy(again(x)), ops.convert_to_numpy(task(x))
    )


# KerasHub's `compile` is not repeated by Keras, with or without regularizers,
# so the optimizer's state is left out. (As errors, these warnings have Keras
# say that "objects could not be loaded".)
@pytest.mark.filterwarnings("ignore:.compile... was not called as part of")
@pytest.mark.filterwarnings("ignore:Skipping variable loading for optimizer")
@pytest.mark.parametrize("again", [False, True], ids=["before", "after"])
def test_a_classifier_of_keras_hub_is_reloaded_with_its_regularizers(
    again, keras_hub, tmp_path
):
    model = keras_hub.models.BertTextClassifier(
        bert(keras_hub), num_classes=2, preprocessor=None
    )
    rng = np.random.default_rng(0)
    x = {
        "token_ids": rng.integers(0, 20, (8, 6)),
        "segment_ids": np.zeros((8, 6), "int32"),
        "padding_mask": np.ones((8, 6), "int32"),
    }
    y = rng.integers(0, 2, 8)
    if again:
        keras.Model.fit(model, x, y, verbose=0)
    done = l2keras.apply_regularizers(model, default=L2)
    assert "logits/kernel" in done
    # Not its own `fit`, which wants TensorFlow's data sets.
    keras.Model.fit(model, x, y, verbose=0)
    model.save(tmp_path / "model.keras")
    reloaded = keras.saving.load_model(tmp_path / "model.keras")
    assert described(reloaded) == described(model)
    assert losses(reloaded) == losses(model)
    np.testing.assert_array_equal(
        keras.Model.predict(reloaded, x, verbose=0),
        keras.Model.predict(model, x, verbose=0),
    )
