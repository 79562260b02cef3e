"""What Keras keeps in its objects for itself, told from what shapes a model.

A layer or an optimizer has many attributes that say nothing about what it
computes: names that Keras counts up, ids of variables, locks, compiled
functions. Which these are differs from version to version, so they are read off
a layer, a model, an optimizer and a metric that do nothing of their own.
"""

import functools
from typing import Any

import keras
import numpy as np

from l2keras._keras import optimizer_hooks, trainer_hooks

_NAMES = {"name", "_name"}


def attributes(value: Any) -> dict[str, Any] | None:
    """Returns what shapes the computation of an object of Keras, by name.

    `None` if the object is none of Keras's kinds. What a derived class adds, as
    an attribute and not as an argument of its config, is there too.
    """
    if isinstance(value, keras.KerasTensor):
        return _of_symbolic_tensor(value)
    if isinstance(value, keras.DTypePolicy):
        return {
            "compute_dtype": value.compute_dtype,
            "variable_dtype": value.variable_dtype,
        }
    if isinstance(value, keras.Operation):  # Layers and models, too.
        return _of_operation(value)
    if isinstance(value, keras.Optimizer):
        own = _without(value, _private_of_optimizers())
        return {
            **own,
            "learning_rate": value._learning_rate,
            "variables": value.variables,
        }
    if isinstance(value, keras.metrics.Metric):
        own = _without(value, _private_of_metrics())
        return {**own, "dtype": value.dtype, "variables": value.variables}
    if isinstance(value, keras.Loss):
        return _without(value, _NAMES)
    if isinstance(value, keras.random.SeedGenerator):
        return _without(value, {"name", "backend"})
    return None


def compiled_parts(model: keras.Model) -> dict[str, Any]:
    """Returns what `compile` was given that shapes the training."""
    loss, metrics = model._compile_loss, model._compile_metrics
    optimizer = model.optimizer
    return {
        "loss": None if loss is None else loss._user_loss,
        "loss_weights": None if loss is None else loss._user_loss_weights,
        "metrics": None if metrics is None else metrics._user_metrics,
        "weighted_metrics": (
            None if metrics is None else metrics._user_weighted_metrics
        ),
        "optimizer": optimizer,
        "weight_decay": [
            optimizer_hooks.weight_decay(model, variable)
            for variable in model.trainable_variables
        ],
    }


def _of_operation(value: Any) -> dict[str, Any]:
    if not isinstance(value, keras.layers.Layer):
        return _without(value, _attributes_of_layers())
    is_model = isinstance(value, keras.Model)
    found = _without(
        value, _attributes_of_models() if is_model else _attributes_of_layers()
    )
    found |= {
        "trainable": value.trainable,
        "dtype": value.dtype_policy,
        "autocast": value.autocast,
        "activity_regularizer": value.activity_regularizer,
        # Of a model as it shows them.
        "layers": value.layers if is_model else value._layers,
        "variables": value.variables,
    }
    if isinstance(value, keras.Function):
        found["inputs"] = value._inputs_struct
        found["outputs"] = value._outputs_struct
    if is_model and value.compiled:
        found |= compiled_parts(value)
    return found


def _of_symbolic_tensor(value: Any) -> dict[str, Any]:
    """Returns by what operation a symbolic tensor is made, and of what."""
    found = {"shape": value.shape, "dtype": value.dtype}
    operation, node, index = getattr(value, "_keras_history", (None, 0, 0))
    if operation is not None:
        arguments = operation._inbound_nodes[node].arguments
        found |= {
            "operation": operation,
            "args": arguments.args,
            "kwargs": arguments.kwargs,
            "index": index,
        }
    return found


def _without(value: Any, names: set[str]) -> dict[str, Any]:
    return {
        name: each
        for name, each in vars(value).items()
        # Those of `_self_` are TensorFlow's, for its checkpoints.
        if name not in names and not name.startswith("_self_")
    }


@functools.cache
def _attributes_of_layers() -> set[str]:
    """Returns the names that all layers and operations have."""
    return _NAMES | set(vars(keras.Operation())) | set(vars(keras.Layer()))


@functools.cache
def _attributes_of_models() -> set[str]:
    """Returns the names that all models have, compiled and built ones too."""
    inputs = keras.Input((1,))
    functional = keras.Model(inputs, keras.layers.Dense(1)(inputs))
    sequential = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    found = _attributes_of_layers()
    for model in (functional, sequential):
        model.compile("sgd", "mse", metrics=["mse"])
        batch = np.zeros((1, 1)), np.zeros((1, 1)), None
        trainer_hooks.build_for_training(model, batch)
        found = found | set(vars(model))
    return found


@functools.cache
def _private_of_optimizers() -> set[str]:
    """Returns the private names that all optimizers have, at any time."""
    optimizer = keras.optimizers.Optimizer(0.0)
    optimizer.exclude_from_weight_decay(var_names=["none"])
    optimizer.build([keras.Variable(0.0)])
    return _private(optimizer) | {"built", "_backend_update_step"}


@functools.cache
def _private_of_metrics() -> set[str]:
    return _private(keras.metrics.Metric())


def _private(value: Any) -> set[str]:
    return _NAMES | {name for name in vars(value) if name.startswith("_")}
