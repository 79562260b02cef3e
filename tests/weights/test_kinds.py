"""The kind of a weight, by its layer, its name and its shape."""

import keras
import numpy as np
import pytest

from l2keras.weights import kinds
from l2keras.weights.survey import Survey


def custom(name, shape, layer="Custom"):
    """Returns a layer of another package, with one weight."""

    class Layer(keras.layers.Layer):
        def build(self, input_shape):
            self.add_weight(shape=shape, name=name)

    Layer.__name__ = layer
    return Layer


KERNEL, EMBEDDING, OTHER = "kernel", "embedding", "other"

# Of people's models: KerasHub's, vision transformers, recommenders.
CUSTOM = [
    ("kernel", (4, 3), "Custom", KERNEL),
    ("w", (4, 3), "Custom", KERNEL),
    ("w", (1, 3), "Custom", KERNEL),  # One input.
    ("gate_up_proj", (2, 4, 3), "Experts", KERNEL),
    ("conv1d_kernel", (4, 3), "Custom", KERNEL),
    ("kernel", (1, 1, 3), "OwnConv1D", KERNEL),
    ("kernel", (4, 3), "PatchEmbedding", KERNEL),
    ("pos_proj", (4, 3), "Custom", KERNEL),
    ("tokenizer_weight", (4, 3), "Custom", KERNEL),
    ("embeddings", (6, 3), "PositionEmbedding", EMBEDDING),
    ("position_embeddings", (1, 6, 3), "PositionEmbedding", EMBEDDING),
    ("position_embedding_table", (2, 6, 3), "VisionEncoder", EMBEDDING),
    ("pos_embed", (1, 2, 2, 3), "ViT", EMBEDDING),
    ("rel_embedding", (6, 3), "Relative", EMBEDDING),
    ("rel_pos_h", (5, 3), "Attention", EMBEDDING),
    ("relative_position_bias_table", (9, 2), "WindowAttention", EMBEDDING),
    ("class_token", (1, 1, 3), "Patches", EMBEDDING),
    ("cls_token", (1, 1, 3), "Patches", EMBEDDING),
    ("register_tokens", (1, 4, 3), "Patches", EMBEDDING),
    ("mask_emb", (1, 1, 3), "Encoder", EMBEDDING),
    ("class_embedding", (3,), "Patches", EMBEDDING),
    ("w", (6, 3), "SinusEmbedding", EMBEDDING),
    ("gamma", (1, 1, 3), "LayerScale", OTHER),
    ("query", (1, 1, 3), "Pooling", OTHER),
    ("embedding_bias", (2, 3), "Patches", OTHER),
    ("relative_attention_bias", (6, 2), "Attention", OTHER),
    ("scale", (3,), "PatchEmbedding", OTHER),
    ("v", (3,), "Custom", OTHER),
]


@pytest.mark.parametrize(("name", "shape", "layer", "kind"), CUSTOM, ids=str)
def test_kinds_of_the_weights_of_custom_layers(name, shape, layer, kind):
    made = custom(name, shape, layer)()
    made.build((None, 4))
    (weight,) = Survey(made).trained
    assert weight.path == name
    assert kinds.is_kernel(weight) == (kind == KERNEL)
    assert kinds.is_embedding(weight) == (kind == EMBEDDING)


@pytest.mark.parametrize(
    ("layer", "x", "kernels", "embeddings"),
    [
        (keras.layers.Dense(3), np.ones((2, 4)), ["kernel"], []),
        (keras.layers.Dense(1), np.ones((2, 1)), ["kernel"], []),
        (keras.layers.Conv1D(3, 1), np.ones((2, 4, 1)), ["kernel"], []),
        (keras.layers.Conv2D(1, 1), np.ones((2, 4, 4, 1)), ["kernel"], []),
        (keras.layers.Embedding(4, 3), np.ones((2, 4)), [], ["embeddings"]),
        (
            keras.layers.EinsumDense("ab,bcd->acd", (2, 3), bias_axes="cd"),
            np.ones((2, 4)),
            ["kernel"],
            [],
        ),
        (keras.layers.PReLU(), np.ones((2, 3, 4)), [], []),
        (keras.layers.LayerNormalization([1, 2]), np.ones((2, 3, 4)), [], []),
    ],
)
def test_kinds_of_the_weights_of_keras_layers(layer, x, kernels, embeddings):
    layer(x)
    weights = Survey(layer).weights
    assert [w.path for w in weights if kinds.is_kernel(w)] == kernels
    assert [w.path for w in weights if kinds.is_embedding(w)] == embeddings
