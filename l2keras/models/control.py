"""What may change in a model while it trains: the step, and the scales.

Both are variables that Keras carries through compiled steps (see `_clock`). A
model's schedules share one clock, and the regularizers that one rule names
share one scale: on JAX each variable of the state costs time at each step.
"""

import functools
from collections.abc import Mapping
from typing import Any

import keras

from l2keras import _validation
from l2keras._keras import backends, layer_tree, memory, trainer_hooks
from l2keras._types import Strength, Tensor
from l2keras.optimizers import wrapper
from l2keras.optimizers.weight_decay import DecoupledWeightDecay
from l2keras.regularizers.base import Regularizer
from l2keras.strengths.clock import Clock, Scale
from l2keras.weights import paths
from l2keras.weights.rules import match


def set_step(model: keras.Model, step: int) -> None:
    """Puts every schedule of a model at a step of the optimizer.

    For training loops that are not `model.fit`: call it before each step. In
    `fit`, `RegularizationLogger` moves the schedules. Models whose strengths
    are constant are left as they are.

    On JAX the step is one of `model.non_trainable_variables`: in a loop of your
    own, read their values after the call, and pass them to the compiled step.

    Args:
        model: A built Keras model.
        step: Integer >= 0, or `optimizer.iterations`.

    Raises:
        TypeError: If `model` is not a Keras model, or `step` not a number.
        ValueError: If `model` is not built, or `step` is negative.

    Example:

    >>> import keras, l2keras
    >>> ramp = l2keras.LinearSchedule(0.0, 1.0, steps=10)
    >>> dense = keras.layers.Dense(
    ...     1, kernel_initializer="ones", kernel_regularizer=l2keras.L2(ramp)
    ... )
    >>> model = keras.Sequential([keras.Input((4,)), dense])
    >>> l2keras.set_step(model, 5)
    >>> float(sum(model.losses))
    2.0
    """
    step = _validation.check_integer(step, "step", minimum=0)
    clock, changed = connect_clock(model)
    if clock is None:
        return
    if changed:
        forget_compiled(model)
    clock.write(step)
    clock.driven = True


def set_scale(model: keras.Model, scales: Mapping[str, float]) -> None:
    """Sets the scale of some of a model's regularizers, by their weights.

    What a regularizer returns is its scale times its strength times its
    penalty. The first call for a weight compiles the model's training step
    anew; later ones take effect without. The scale is saved with the model.

    Args:
        model: A built Keras model.
        scales: Dictionary from the path of a weight, or a regular expression
            for some, to a finite number >= 0.

    Raises:
        TypeError: If `model` is not a Keras model, `scales` no dictionary, a
            scale not a number, or a regularizer not one of l2keras.
        ValueError: If a scale is negative or not finite, a pattern matches no
            regularized weight, two match one, or one regularizer would have to
            have two scales.

    Example:

    >>> import keras, l2keras
    >>> dense = keras.layers.Dense(
    ...     1, name="hidden", kernel_initializer="ones",
    ...     kernel_regularizer=l2keras.L2(0.5)
    ... )
    >>> model = keras.Sequential([keras.Input((4,)), dense])
    >>> l2keras.set_scale(model, {"hidden/.*": 0.25})
    >>> float(sum(model.losses))
    0.5
    """
    if not isinstance(scales, Mapping):
        raise TypeError(
            "Argument `scales` must be a dictionary from path or pattern to a "
            f"number. Received: scales={scales!r}"
        )
    scales = {
        pattern: _validation.check_number(scale, f"scales[{pattern!r}]")
        for pattern, scale in scales.items()
    }
    states = connect_scales(model, scales)
    for pattern, scale in scales.items():
        states[pattern].write(scale)


def regularized(model: keras.Model) -> list[paths.Weight]:
    """Returns the weights that have a regularizer, frozen ones too."""
    return [
        weight
        for weight in paths.weights(model)
        if weight.variable.regularizer is not None
    ]


def scheduled_terms(model: keras.Model) -> list[tuple[Any, Regularizer]]:
    """Returns the scheduled regularizers, each with the layer it is used in."""
    return [
        (layer, term)
        for layer, regularizer in _regularizers_in(model)
        for term in regularizer._terms()
        if term._clock is not None
    ]


def current_strengths(regularizer: Any) -> dict[str, Tensor | float]:
    """Returns the strength times scale of each term, by its class's name."""
    found: dict[str, Tensor | float] = {}
    if isinstance(regularizer, Regularizer):
        for name, strength in regularizer._strengths():
            key, number = name, 1
            while key in found:
                number += 1
                key = f"{name}_{number}"
            found[key] = strength
    return found


def adds_losses_up(model: keras.Model) -> bool:
    """Tells whether a model's loss is that of `compile` plus `model.losses`.

    It is, unless the model has a `compute_loss` of its own.
    """
    compute_loss = getattr(model.compute_loss, "__func__", None)
    return compute_loss is keras.Model.compute_loss


def decay_strengths(model: keras.Model) -> dict[str, float] | None:
    """Returns the strengths of the model's `DecoupledWeightDecay` by path.

    `None` if its optimizer is another.
    """
    optimizer = _decoupled_weight_decay(model)
    return None if optimizer is None else dict(optimizer.strengths(model))


def strength_schedules(model: keras.Model) -> list[Strength]:
    """Returns the strengths, of penalties and of decay, that are schedules."""
    strengths = [term.strength for _, term in scheduled_terms(model)]
    optimizer = _decoupled_weight_decay(model)
    if optimizer is not None:
        strengths += optimizer.decayed(model).values()
    return [each for each in strengths if callable(each)]


def _decoupled_weight_decay(model: keras.Model) -> DecoupledWeightDecay | None:
    """Returns what decays the model's weights by path, if anything does."""
    return wrapper.find(getattr(model, "optimizer", None), DecoupledWeightDecay)


def _regularizers_in(model: keras.Model) -> list[tuple[Any, Regularizer]]:
    """Returns l2keras's regularizers, each with the layer it is used in."""
    used = [
        (weight.layer, weight.variable.regularizer)
        for weight in regularized(model)
    ]
    used += [
        (layer, layer.activity_regularizer)
        for _, layer in layer_tree.layers_by_path(model)
    ]
    return [
        (layer, regularizer)
        for layer, regularizer in used
        if isinstance(regularizer, Regularizer)
    ]


def connect_clock(model: keras.Model) -> tuple[Clock | None, bool]:
    """Gives the model's schedules one clock, and Keras the clock to carry.

    Returns the clock, if there are schedules, and whether anything changed, so
    that functions compiled before are out of date.
    """
    terms = scheduled_terms(model)
    if not terms:
        return None, False
    clocks = [term._clock for _, term in terms]
    # The one that a training is driving, if there is one.
    clock = next((each for each in clocks if each and each.driven), clocks[0])
    assert clock is not None
    changed = False
    for layer, term in terms:
        if term._clock is not clock:
            assert term._clock is not None
            layer_tree.drop(layer, term._clock)
            term._clock = clock
            changed = True
        changed |= layer_tree.carry(layer, clock)
    return clock, changed


def connect_scales(
    model: keras.Model, rules: Mapping[str, Any]
) -> dict[str, Scale]:
    """Gives the regularizers that each rule names one scale that can change.

    Everything is checked before anything is changed. Functions that were
    compiled without the scales are dropped.
    """
    weights = regularized(model)
    matched = match(rules, [weight.path for weight in weights])
    ruled: dict[int, tuple[str | None, str]] = {}
    for path, variable, _ in weights:
        pattern = matched.get(path)
        if pattern is not None and not isinstance(
            variable.regularizer, Regularizer
        ):
            raise TypeError(
                f"The regularizer of {path!r} must be one of l2keras to have a "
                f"scale. Received: {variable.regularizer!r}"
            )
        before, other = ruled.setdefault(
            id(variable.regularizer), (pattern, path)
        )
        if before != pattern:
            raise ValueError(
                f"Weights {other!r} and {path!r} share one regularizer, "
                f"{variable.regularizer!r}, which cannot have two scales. Give "
                "each layer a regularizer of its own, or match both weights "
                "with one pattern."
            )
    states, changed = {}, False
    for pattern in rules:
        chosen = [w for w in weights if matched.get(w.path) == pattern]
        scales = {id(w.variable.regularizer._scale) for w in chosen}
        scale = chosen[0].variable.regularizer._scale
        if len(scales) > 1 or not isinstance(scale, Scale):
            with backends.variable_scope(model):
                scale = Scale(chosen[0].variable.regularizer.scale)
            for _, variable, layer in chosen:
                if isinstance(variable.regularizer._scale, Scale):
                    layer_tree.drop(layer, variable.regularizer._scale)
                variable.regularizer._scale = scale
        for weight in chosen:
            changed |= layer_tree.carry(weight.layer, scale)
        states[pattern] = scale
    if changed:
        forget_compiled(model)
    return states


def drop_unused_states(model: keras.Model) -> None:
    """Has Keras carry no clock or scale that no regularizer reads any more."""
    used: dict[int, set[int]] = {}
    for layer, regularizer in _regularizers_in(model):
        read = used.setdefault(id(layer), set())
        for each in regularizer._nested():
            read |= {id(each._clock), id(each._scale)}
    for _, layer in layer_tree.layers_by_path(model):
        for state in layer_tree.carried(layer):
            if id(state) not in used.get(id(layer), set()):
                layer_tree.drop(layer, state)


def forget_compiled(model: keras.Model) -> None:
    """Drops the compiled functions; within `fit`, has them made again.

    Those of the models that contain this one too.
    """
    for each in memory.models_around(model):
        training = each.train_function is not None
        each.train_function = each.test_function = None
        instrumentation = getattr(each.compute_loss, "instrumentation", None)
        if instrumentation is not None:
            instrumentation.renew()
        if training:
            if "train_step" in vars(each):
                # JAX would find what it compiled of the same function before.
                each.train_step = functools.partial(each.train_step)
            trainer_hooks.note_state(each)
            each.make_train_function(force=True)
