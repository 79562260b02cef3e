"""Layers that save regularizers for which they have no argument.

Most layers of Keras take a regularizer for each kind of weight, keep it, and
write it into their config, so that a model that is saved or cloned has it
again. `RMSNormalization`, the layers inside `MultiHeadAttention`, custom layers
and subclassed models do not. As PyTorch's `parametrize` does with modules, such
a layer is given a class of its own, derived from the one it has, whose config
holds the regularizers of all its weights.
"""

import functools
import warnings
from typing import Any

import keras

from l2keras._keras import layer_tree
from l2keras.models.saving import serialization_roots, sync_arguments
from l2keras.weights import kinds
from l2keras.weights.paths import Weight
from l2keras.weights.survey import Survey

_OWN_KEYS = {"layer", "weights", "regularizers"}


@keras.saving.register_keras_serializable(package="l2keras")
class RegularizedLayer(layer_tree.BuildHook):
    """Mixed into the class of a layer so that it saves its regularizers."""

    # Regularizers of weights that are not made yet.
    _pending: list[tuple[str, Any]] | None = None

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
        trained = Survey(self).trained
        return {
            "layer": layer,
            "weights": [weight.variable.name for weight in trained],
            "regularizers": [
                keras.saving.serialize_keras_object(weight.variable.regularizer)
                for weight in trained
            ],
        }

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
        further = {k: v for k, v in config.items() if k not in _OWN_KEYS}
        layer = config["layer"]
        layer = {**layer, "config": {**layer["config"], **further}}
        again = keras.saving.deserialize_keras_object(layer, known)
        save_by_class(again)
        regularizers = keras.saving.deserialize_keras_object(
            config["regularizers"]
        )
        again._attach_later(
            list(zip(config["weights"], regularizers, strict=True))
        )
        return again

    def _attach_later(self, pending: list[tuple[str, Any]]) -> None:
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
        for weight, (_, regularizer) in zip(weights, pending, strict=True):
            weight.variable.regularizer = regularizer
            if name := kinds.argument(weight):
                setattr(weight.layer, name, regularizer)
        object.__setattr__(self, "_pending", None)
        for root in serialization_roots(self):
            if root is not self:
                save_regularizers(root, Survey(root).trained)

    def __reduce__(self) -> Any:
        # Pickle finds classes by their names, and this one has none.
        reduced: Any = super().__reduce__()
        function, arguments = reduced
        return getattr(_base(type(self)), function.__name__), arguments


def saves_by_class(layer: keras.layers.Layer) -> bool:
    """Tells whether a layer saves its weights' regularizers by its class."""
    return isinstance(layer, RegularizedLayer)


def save_regularizers(layer: keras.layers.Layer, trained: list[Weight]) -> None:
    """Has a layer save the regularizers of its weights.

    By its arguments, if it has them all, and else by its class.

    Args:
        layer: A layer.
        trained: The weights in it that are ever trained.
    """
    if not sync_arguments(layer, trained):
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
