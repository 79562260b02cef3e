"""A model made anew, by a plan."""

import contextlib
import copy
import random
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from l2keras._keras import graphs, layer_state, layer_tree
from l2keras._keras.backend import backend
from l2keras.compaction.nodes import variables_of
from l2keras.compaction.plan import Plan
from l2keras.compaction.recurrent import Recurrent
from l2keras.regularizers import describing


def rebuilt(plan: Plan, model: keras.Model) -> Any:
    """A new model without the channels that go.

    Raises:
        ValueError: If a layer cannot be made anew from its config.
    """
    # Layers draw the seeds of their initializers from Python's generator. Later
    # draws are as if this had not happened.
    state = random.getstate()
    try:
        with backend.variable_scope(model):
            return _Rebuilding(plan).of(model)
    finally:
        random.setstate(state)


class _NumpyZeros(keras.initializers.Initializer):
    """A placeholder: JAX would compile an initializer for each shape."""

    def __call__(self, shape: Any, dtype: Any = None) -> Any:
        if dtype == "bfloat16":  # NumPy itself has none.
            return keras.ops.zeros(shape, dtype)
        return backend.from_numpy(np.zeros(shape, dtype))

    def get_config(self) -> dict[str, Any]:
        return {}


class _Rebuilding:
    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._calls = {
            id(call.operation): (call, rule) for call, rule in plan.layers()
        }
        self._made = {
            key: plan.made(call, rule)
            for key, (call, rule) in self._calls.items()
        }
        # By the `id` of an old layer: the old one and the new one.
        self._pairs: dict[int, tuple[Any, Any]] = {}
        self._initializers: dict[int, list[str]] = {}

    def of(self, model: Any) -> Any:
        small = self._again(model)
        for old, new in list(self._pairs.values()):
            is_model = id(old) in self._plan.graph.entries
            if isinstance(old, keras.layers.Layer) and not is_model:
                self._copy_state(old, new)
        self._restore_settings(model)
        return small

    def _again(self, operation: Any) -> Any:
        """The new layer, model or operation for an old one."""
        if id(operation) not in self._pairs:
            if id(operation) in self._plan.graph.entries:
                again = self._model(operation)
            else:
                again = self._operation(operation)
            self._pairs[id(operation)] = operation, again
        return self._pairs[id(operation)][1]

    def _operation(self, operation: Any) -> Any:
        config = _config(operation)
        if id(operation) in self._calls:
            call, rule = self._calls[id(operation)]
            config = changed = _unbuilt(config)
            if isinstance(operation, layer_tree.BuildHook):
                changed = changed["layer"]["config"]
            if call.layer is not operation:
                changed = changed["layer"]["config"]
            _update(changed, self._made[id(operation)].config)
            # The shapes of other layers' weights may depend on their inputs.
            if changed is config and not isinstance(rule, Recurrent):
                initializers = [
                    name
                    for name in config
                    if name.endswith("_initializer")
                    and hasattr(operation, name)
                ]
                self._initializers[id(operation)] = initializers
                config.update(dict.fromkeys(initializers, _NumpyZeros()))
        if layer_tree.is_of_keras(operation):
            for name in {"activation", "recurrent_activation"} & set(config):
                function = getattr(operation, name)
                # Keras may be unable to find it by its name.
                if not isinstance(function, keras.layers.Layer | None):
                    config[name] = function
        with _naming(operation):
            return type(operation).from_config(config)

    def _copy_state(self, old: Any, new: Any) -> None:
        """Gives a layer the weights and the further state of another.

        Notes the pairs of old and new layers in it.
        """
        pairs = _layers_inside(old, new)
        if id(old) in self._made:
            arrays = self._made[id(old)].weights
            for name, variable in variables_of(new).items():
                variable.assign(arrays[name])
            for name in self._initializers.get(id(old), ()):
                setattr(new, name, getattr(old, name))
        else:
            for one, other in pairs:
                layer_state.change_kernels_alike(one, other)
            for one, other in pairs:
                _copy_weights(old, one, other)
        for one, other in pairs:
            layer_state.copy_beside_weights(one, other)
            self._pairs.setdefault(id(one), (one, other))

    def _restore_settings(self, model: Any) -> None:
        """Has the new layers trained, and penalized, as the old ones are."""
        pairs = [
            self._pairs[id(layer)]
            for _, layer in layer_tree.layers_by_path(model)
            if id(layer) in self._pairs
        ]
        for old, new in pairs:  # From the outside, since it goes inward.
            if new.trainable != old.trainable:
                new.trainable = old.trainable
        for old, new in pairs:
            variables = layer_state.own_variables_by_name(old)
            # The new one may have a bias that the old one lacks.
            for name, made in layer_state.own_variables_by_name(new).items():
                variable = variables.get(name, made)
                if made.trainable != variable.trainable:
                    made.trainable = variable.trainable
                regularizer = variable.regularizer
                if not describing.same(made.regularizer, regularizer):
                    made.regularizer = copy.deepcopy(regularizer)

    def _model(self, model: Any) -> Any:
        function = graphs.function_of(model)
        tensors = {}
        for tensor, channels in zip(
            function.inputs, self._plan.graph.entries[id(model)][0], strict=True
        ):
            layer = graphs.input_layer(tensor)
            config = layer.get_config()
            shape = list(config["batch_shape"])
            if channels.axis and shape[channels.axis] is not None:
                kept = self._plan.keeps(channels)
                shape[channels.axis] = int(kept.sum())
            again = keras.layers.InputLayer.from_config(
                {**config, "batch_shape": tuple(shape)}
            )
            self._pairs[id(layer)] = layer, again
            tensors[id(tensor)] = again.output
        if isinstance(model, keras.Sequential):
            return self._sequential(model, *tensors.values())
        for node in graphs.nodes(function):
            if all(id(tensor) in tensors for tensor in node.outputs):
                continue
            if any(id(tensor) not in tensors for tensor in node.inputs):
                continue
            args, kwargs = node.fill_in(tensors)
            again = self._again(node.operation)
            with _naming(node.operation):
                returned = again(*args, **kwargs)
            for tensor, again in zip(
                node.outputs, keras.tree.flatten(returned), strict=True
            ):
                tensors[id(tensor)] = again

        def new(tensor: Any) -> Any:
            return tensors[id(tensor)]

        inputs, outputs = (
            keras.tree.map_structure(new, tensors_of)
            for tensors_of in (model.input, model.output)
        )
        cls = keras.Model
        if graphs.is_of_keras(type(model), "__init__"):
            cls = type(model)
        return cls(inputs=inputs, outputs=outputs, name=model.name)

    def _sequential(self, model: Any, tensor: Any) -> Any:
        cls: Any = keras.Sequential
        if graphs.is_of_keras(type(model), "__init__"):
            cls = type(model)
        layers = [self._again(layer) for layer in model.layers]
        return cls([tensor, *layers], name=model.name)


def _unbuilt(config: Any) -> Any:
    """A config without the shapes that layers in it were built for."""
    if isinstance(config, dict):
        return {
            name: _unbuilt(value)
            for name, value in config.items()
            if name != "build_config"
        }
    if isinstance(config, list | tuple):
        return type(config)(map(_unbuilt, config))
    return config


def _update(config: dict[str, Any], changes: dict[str, Any]) -> None:
    """Changes a config, and the configs in it."""
    for name, value in changes.items():
        if isinstance(value, dict):
            _update(config[name], value)
        else:
            config[name] = value


def _config(operation: Any) -> dict[str, Any]:
    try:
        return operation.get_config()
    except Exception as error:  # Of other people's code, whatever it is.
        raise ValueError(
            f"{_title(operation)} must have a config, to be made anew, but its "
            f"`get_config` fails. Received: {type(error).__name__}: {error}"
        ) from error


@contextlib.contextmanager
def _naming(operation: Any) -> Iterator[None]:
    """Raises a ValueError that names a layer which cannot be made anew."""
    try:
        yield
    except Exception as error:  # Of other people's code, whatever it is.
        raise ValueError(
            f"{_title(operation)} must be such that Keras can make it anew "
            "from its config, as it does when the model is loaded. Received: "
            f"{type(error).__name__}: {error}"
        ) from error


def _title(operation: Any) -> str:
    return f"Layer {operation.name!r} of type `{type(operation).__name__}`"


def _layers_inside(old: Any, new: Any) -> list[tuple[Any, Any]]:
    """The layers in a layer, itself among them, with those of another.

    Raises:
        ValueError: If the other has others.
    """
    some, others = (
        [layer for _, layer in layer_tree.layers_by_path(either)]
        for either in (old, new)
    )
    if list(map(type, some[1:])) != list(map(type, others[1:])):
        raise ValueError(
            f"{_title(old)} must have the same layers in it when it is made "
            f"anew by `from_config`. It has {len(some) - 1}, and the new one "
            f"{len(others) - 1}, or of other types. Its `get_config` must say "
            "all that decides on them."
        )
    return list(zip(some, others, strict=True))


def _copy_weights(whole: Any, old: Any, new: Any) -> None:
    """Gives a layer in a layer the weights of another.

    Raises:
        ValueError: If the other has others.
    """
    variables, made = map(layer_state.own_variables_by_name, (old, new))
    shapes, others = (
        {name: tuple(variable.shape) for name, variable in some.items()}
        for some in (variables, made)
    )
    if shapes != others:
        raise ValueError(
            f"{_title(whole)} must have the same weights when it is made anew "
            f"by `from_config`. Received, of layer {old.name!r}: the shapes "
            f"{shapes}, and anew {others}. Its `get_config` must say all that "
            "decides on them."
        )
    for name, variable in variables.items():
        made[name].assign(keras.ops.convert_to_numpy(variable))
