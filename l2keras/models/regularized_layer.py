"""Layers that save what their weights have, and have no argument for it.

Most layers of Keras take a regularizer for each kind of weight, keep it, and
write it into their config, so that a model that is saved or cloned has it
again. `RMSNormalization`, the layers inside `MultiHeadAttention`, custom layers
and subclassed models do not. As PyTorch's `parametrize` does with modules, such
a layer is given a class of its own, derived from the one it has, whose config
holds the regularizers of all its weights.

So is a layer whose weights have starts. These are as large as the weights, so
they are no part of the config, but of the assets, which `.keras` files have
beside it and weight files do not.
"""

import functools
import os
import warnings
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from l2keras._keras import layer_tree
from l2keras.models.saving import serialization_roots, sync_arguments
from l2keras.models.terms import starts_in, track_states
from l2keras.regularizers.from_start import FromStart
from l2keras.weights import kinds
from l2keras.weights.paths import Weight
from l2keras.weights.survey import Survey

_OWN_KEYS = {"layer", "weights", "regularizers"}
_OPTIONAL_KEYS = {"constraints"}

# The file, among a layer's assets, that has the starts of its weights.
_STARTS = "l2keras_starts.npz"


@keras.saving.register_keras_serializable(package="l2keras")
class RegularizedLayer(layer_tree.BuildHook):
    """Mixed into the class of a layer so that it saves its regularizers."""

    # Names, regularizers and constraints of weights that are not made yet.
    _pending: list[tuple[str, Any, Any]] | None = None

    def get_config(self) -> dict[str, Any]:
        own = type(self)
        # In its former class, which Keras knows how to save.
        _set_class(self, _base(own))
        try:
            layer = keras.saving.serialize_keras_object(self)
        except Exception as error:
            error.add_note(
                f"Raised by `get_config` of {own.__name__} {self.name!r}."  # type: ignore[attr-defined]
            )
            raise
        finally:
            _set_class(self, own)
        # Keras saves these once more for the whole.
        layer.pop("build_config", None)
        layer.pop("compile_config", None)
        # In the order of the weights, since layers inside may have been named
        # by Keras, which gives a layer another name each time.
        variables = [weight.variable for weight in Survey(self).trained]
        serialize = keras.saving.serialize_keras_object
        config = {
            "layer": layer,
            "weights": [variable.name for variable in variables],
            "regularizers": [
                serialize(variable.regularizer) for variable in variables
            ],
        }
        constraints = [variable.constraint for variable in variables]
        if any(map(_can_be_loaded, constraints)):
            config["constraints"] = [
                serialize(constraint) if _can_be_loaded(constraint) else None
                for constraint in constraints
            ]
        return config

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        # Read from a file the class is this one. When Keras clones a layer it
        # is the derived class, and its base need not be registered.
        known: dict[str, Any] | None = None
        if cls is not RegularizedLayer:
            base: Any = _base(cls)
            if not set(config) >= _OWN_KEYS:
                return base.from_config(config)
            known = {keras.saving.get_registered_name(base): base}
        # Further keys that a loader put in, such as another `dtype`, are meant
        # for the layer.
        own_keys = _OWN_KEYS | _OPTIONAL_KEYS
        further = {k: v for k, v in config.items() if k not in own_keys}
        layer = config["layer"]
        layer = {**layer, "config": {**layer["config"], **further}}
        again = keras.saving.deserialize_keras_object(layer, known)
        save_by_class(again)
        names = config["weights"]
        regularizers, constraints = (
            keras.saving.deserialize_keras_object(
                config.get(key, [None] * len(names))
            )
            for key in ("regularizers", "constraints")
        )
        again._attach_later(
            list(zip(names, regularizers, constraints, strict=True))
        )
        return again

    def save_assets(self, folder: str) -> None:
        # Those of the layer itself, such as a vocabulary.
        if hasattr(super(), "save_assets"):
            super().save_assets(folder)  # type: ignore[misc]
        arrays = {
            f"{place}.{name}": array
            for place, start, _ in _starts(self)
            for name, array in start.arrays().items()
        }
        if arrays:
            path = os.path.join(folder, _STARTS)
            np.savez(path, **arrays)  # type: ignore[arg-type]

    def load_assets(self, folder: str) -> None:
        if hasattr(super(), "load_assets"):
            super().load_assets(folder)  # type: ignore[misc]
        path = os.path.join(folder, _STARTS)
        if not os.path.exists(path):
            return
        with np.load(path) as arrays:
            for place, start, variable in _starts(self):
                for name, put in (
                    ("start", start.begin),
                    ("importance", start.weigh),
                ):
                    if f"{place}.{name}" in arrays:
                        put(arrays[f"{place}.{name}"], variable.dtype)
        track_states(Survey(self))

    def _attach_later(self, pending: list[tuple[str, Any, Any]]) -> None:
        # Not the layer's own `__setattr__`, which tracks lists.
        object.__setattr__(self, "_pending", pending)
        self._attach()  # A model may be built by its constructor.

    def on_build(self) -> None:
        self._attach()

    def build_from_config(self, config: dict[str, Any]) -> None:
        # Keras builds a model without `build` by running it.
        super().build_from_config(config)  # type: ignore[misc]
        self._attach()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        outputs = super().__call__(*args, **kwargs)  # type: ignore[misc]
        # A layer may leave it to its first call to build the layers in it.
        self._attach()
        if self._pending is not None:
            raise ValueError(
                f"Layer {self.name!r} was saved with the regularizers of "  # type: ignore[attr-defined]
                f"{len(self._pending)} weights, but has "
                f"{len(Survey(self).trained)}. Load it with the class that "
                "it was saved with."
            )
        return outputs

    def _attach(self) -> None:
        """Gives the pending regularizers to the weights, if all are there."""
        if self._pending is None:
            return
        weights = Survey(self).trained
        pending = self._pending
        if len(weights) != len(pending):
            # Keras merges the factors of `enable_lora` into the kernels that it
            # saves, and most layers do not make them again.
            pending = [p for p in pending if not p[0].startswith("lora_")]
        if len(weights) != len(pending):
            return
        for weight, (_, *given) in zip(weights, pending, strict=True):
            for kind, value in zip(
                ("regularizer", "constraint"), given, strict=True
            ):
                if value is None and kind == "constraint":
                    continue  # The layer may have made one itself.
                setattr(weight.variable, kind, value)
                if name := kinds.argument(weight, kind):
                    setattr(weight.layer, name, value)
        object.__setattr__(self, "_pending", None)
        for root in serialization_roots(self):
            if root is not self:
                save_regularizers(root, Survey(root).trained)

    def __reduce__(self) -> Any:
        # Pickle finds classes by their names, and this one has none.
        reduced: Any = super().__reduce__()
        function, arguments = reduced
        return getattr(_base(type(self)), function.__name__), arguments


def _can_be_loaded(constraint: Any) -> bool:
    """Tells whether a constraint is found by its name when it is loaded.

    Others are made by the layer's own code, which makes them again.
    """
    if constraint is None:
        return False
    kind = type(constraint)
    name = keras.saving.get_registered_name(kind)
    return kind.__module__.startswith("keras.") or (
        keras.saving.get_registered_object(name) is kind
    )


def _starts(
    layer: Any,
) -> Iterator[tuple[str, FromStart, keras.Variable]]:
    """Yields the starts of a layer's weights, each with its place."""
    for index, weight in enumerate(Survey(layer).trained):
        found = starts_in(weight.variable.regularizer)
        for number, start in enumerate(found):
            yield f"{index}.{number}", start, weight.variable


def saves_by_class(layer: keras.layers.Layer) -> bool:
    """Tells whether a layer saves its weights' regularizers by its class."""
    return isinstance(layer, RegularizedLayer)


def save_regularizers(layer: keras.layers.Layer, trained: list[Weight]) -> None:
    """Has a layer save the regularizers of its weights.

    By its arguments, if it has them all, and else by its class. Starts are
    saved by the class.

    Args:
        layer: A layer.
        trained: The weights in it that are ever trained.
    """
    is_complete = sync_arguments(layer, trained)
    if not is_complete or any(
        starts_in(weight.variable.regularizer) for weight in trained
    ):
        save_by_class(layer)


def save_by_class(layer: keras.layers.Layer) -> None:
    """Has a layer save the regularizers of all the weights in it."""
    if not saves_by_class(layer):
        base: Any = type(layer)
        _set_class(layer, _derived(base))


def restore_class(layer: keras.layers.Layer) -> None:
    """Undoes `save_by_class`."""
    if saves_by_class(layer):
        _set_class(layer, _base(type(layer)))


@functools.cache
def _derived(base: type) -> type:
    """A class that saves its regularizers and is else like `base`."""
    attributes: dict[str, Any] = {
        "__module__": base.__module__,
        "__qualname__": base.__qualname__,
        "__doc__": base.__doc__,
    }
    if hasattr(base, "save_to_preset"):
        attributes["save_to_preset"] = _save_to_preset
    # The old name, which Keras uses in summaries and in weight files.
    derived = type(base.__name__, (RegularizedLayer, base), attributes)
    name = "RegularizedLayer"
    derived = keras.saving.register_keras_serializable("l2keras", name)(derived)
    # It is saved under this name, and its base class reads all that are.
    keras.saving.get_custom_objects()[f"l2keras>{name}"] = RegularizedLayer
    return derived


def _save_to_preset(model: Any, *args: Any, **kwargs: Any) -> None:
    """Saves a model of KerasHub as a preset, which can hold no regularizers.

    `from_preset` checks, before anything is loaded, that the saved class is a
    subclass of the one that it is called on.
    """
    changed = [
        (layer, type(layer))
        for _, layer in layer_tree.layers_by_path(model)
        if saves_by_class(layer)
    ]
    for layer, own in changed:
        _set_class(layer, _base(own))
    try:
        model.save_to_preset(*args, **kwargs)
    finally:
        for layer, own in changed:
            _set_class(layer, own)
    warnings.warn(
        f"A preset of KerasHub cannot hold the regularizers of {model.name!r}, "
        "so they are not saved with it. Call `l2keras.apply_regularizers` "
        "again after `from_preset`, or save the model by `model.save`.",
        stacklevel=2,
    )


def _base(derived: type) -> Any:
    """The class that a layer had before `save_by_class`."""
    return derived.__bases__[1]


def _set_class(layer: Any, cls: type) -> None:
    # Not the layer's own `__setattr__`, which tracks and refuses.
    object.__setattr__(layer, "__class__", cls)
