"""The state of a layer that its config lacks: for a copy of the layer."""

import re
import tempfile
from typing import Any

import keras

from l2keras._keras import layer_tree

_NUMBERED = re.compile(r"_\d+$")


def own_variables_by_name(layer: keras.layers.Layer) -> dict[str, Any]:
    """The variables that a layer itself made, by names that copies share.

    By name and not by position: a layer that is quantized, or has LoRA, made
    its weights in another order than one that is so from the beginning. Without
    the numbers that Keras gives to those that have no name.
    """
    found: dict[str, Any] = {}
    for variable in layer_tree.own_variables(layer):
        name = first = _NUMBERED.sub("", variable.name)
        number = 1
        while name in found:
            number += 1
            name = f"{first}_{number}"
        found[name] = variable
    return found


def change_kernels_alike(old: Any, new: Any) -> None:
    """Quantizes a layer, and gives it LoRA, as another one was and has.

    The configs of layers that hold others, such as `MultiHeadAttention`, do not
    have the quantization and the LoRA of those.
    """
    mode = getattr(old, "quantization_mode", None)
    if mode and not getattr(new, "quantization_mode", None):
        config = getattr(old, "quantization_config", None)
        new.quantize(mode, **({"config": config} if config else {}))
    if getattr(old, "lora_enabled", False) and not new.lora_enabled:
        alpha = getattr(old, "lora_alpha", None)  # Older Keras has none.
        new.enable_lora(
            old.lora_rank, **({"lora_alpha": alpha} if alpha else {})
        )


def copy_beside_weights(old: Any, new: Any) -> None:
    """Copies the state beside the weights, which must have been copied before.

    A vocabulary; the numbers that are computed of an adapted layer's weights;
    and the states of a stateful recurrent layer, which Keras does not track.
    """
    if hasattr(old, "save_assets"):
        with tempfile.TemporaryDirectory() as folder:
            old.save_assets(folder)
            new.load_assets(folder)
    if hasattr(new, "finalize_state"):
        new.finalize_state()
    if isinstance(old, keras.layers.RNN) and old.states is not None:
        for state, made in zip(
            keras.tree.flatten(old.states),
            keras.tree.flatten(new.states),
            strict=True,
        ):
            made.assign(keras.ops.convert_to_numpy(state))
