"""Which models can be stacked exactly, and which had better be."""

from collections.abc import Sequence

import keras
import numpy as np

from l2keras._keras import (
    backends,
    layer_tree,
    optimizer_copies,
    optimizer_hooks,
)
from l2keras.tuning.grid.replica import InitialState
from l2keras.weights import paths


def why_not_alone(model: keras.Model) -> str | None:
    """Returns why even one replica cannot be trained but by `fit`, if so."""
    for name in ("train_step", "test_step"):
        if getattr(type(model), name) is not getattr(keras.Model, name):
            return f"the model has a `{name}` of its own"
    if backends.is_nnx_enabled():
        return "Keras trains by way of Flax NNX"
    if getattr(model, "distribute_strategy", None) is not None and (
        backends.num_replicas(model) > 1
    ):
        return "the model is distributed over devices"
    if optimizer_copies.has_function_for_learning_rate(model.optimizer):
        return "the learning rate is a function of Python"
    if keras.backend.backend() != "jax":
        if hasattr(model.optimizer, "inner_optimizer"):
            return f"{type(model.optimizer).__name__} wraps another optimizer"
        if model.optimizer.loss_scale_factor:
            return "the optimizer scales the loss"
    return None


# What they do to an element does not depend on the others.
_ELEMENTWISE = (
    keras.optimizers.SGD,
    keras.optimizers.RMSprop,
    keras.optimizers.Adam,
    keras.optimizers.AdamW,
    keras.optimizers.Adadelta,
    keras.optimizers.Adagrad,
    keras.optimizers.Adamax,
    keras.optimizers.Nadam,
    keras.optimizers.Ftrl,
    keras.optimizers.Lion,
)


def why_not_mapped(
    model: keras.Model, initial_states: Sequence[InitialState]
) -> str | None:
    """Returns why replicas cannot be stacked exactly, if so.

    Args:
        model: A built and compiled model, which stands for all.
        initial_states: What the replicas of each fold begin with.
    """
    if keras.backend.backend() == "jax":
        return None  # Optimizers are mapped as well.
    reason = _why_optimizer_cannot_be_mapped(
        model, initial_states
    ) or _why_weights_cannot_be_mapped(model)
    if reason is not None:
        return reason
    if keras.backend.backend() == "torch":
        for _, layer in layer_tree.layers_by_path(model):
            if layer_tree.draws_random_numbers(layer):
                return f"layer {layer.name!r} draws random numbers"
    return None


def why_not_learned(
    model: keras.Model, initial_states: Sequence[InitialState]
) -> str | None:
    """Returns why the folds cannot be trained as one stack for learning.

    Random numbers are no reason: there is no `fit` that would draw the same.
    """
    reason = why_not_alone(model)
    if reason is not None or keras.backend.backend() == "jax":
        return reason
    return _why_optimizer_cannot_be_mapped(
        model, initial_states
    ) or _why_weights_cannot_be_mapped(model)


def _why_weights_cannot_be_mapped(model: keras.Model) -> str | None:
    """Returns which weight cannot have an axis more, if one cannot."""
    for weight in paths.weights(model):
        if weight.variable.constraint is not None:
            return f"weight {weight.path!r} has a constraint"
    return None


def _why_optimizer_cannot_be_mapped(
    model: keras.Model, initial_states: Sequence[InitialState]
) -> str | None:
    """Returns why no copy of the optimizer can update stacked weights.

    It sees each stack as one weight, and it has one learning rate and one
    number of iterations for all replicas.
    """
    optimizer = model.optimizer
    name = type(optimizer).__name__
    if optimizer_hooks.public_class(optimizer) not in _ELEMENTWISE:
        return f"{name} may mix the elements of a weight"
    if optimizer.clipnorm or optimizer.global_clipnorm:
        return f"{name} clips by a norm"
    method = optimizer_copies.replaced_method(optimizer)
    if method is not None:
        return f"{name} has an `{method}` of its own"
    if not optimizer_copies.is_built_for(optimizer, model.trainable_variables):
        return f"{name} was built for other weights"
    of_weights = optimizer_copies.variables_of_weights(optimizer)
    states = zip(*(state.optimizer for state in initial_states), strict=True)
    for variable, values in zip(optimizer.variables, states, strict=True):
        if id(variable) not in of_weights and any(
            not np.array_equal(values[0], value) for value in values[1:]
        ):
            return f"{name} begins with another {variable.name!r} in each fold"
    return None


# Layers with weights that cost a stack no more than they cost each replica.
_CHEAP_TO_MAP = (
    keras.layers.BatchNormalization,
    keras.layers.Dense,
    keras.layers.EinsumDense,
    keras.layers.Embedding,
    keras.layers.LayerNormalization,
    keras.layers.Normalization,
    keras.layers.PReLU,
    keras.Model,
)


def is_cheap_to_map(model: keras.Model) -> bool:
    """Tells whether mapping makes nothing slower.

    Convolutions with a kernel for each replica, say, are slower together than
    one after another on a CPU. Without weights replicas are more rows.
    """
    return all(
        not layer.weights or isinstance(layer, _CHEAP_TO_MAP)
        for _, layer in layer_tree.layers_by_path(model)
    )
