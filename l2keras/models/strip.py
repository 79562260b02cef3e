"""Regularizers taken off a model."""

import warnings
from typing import Any

import keras

from l2keras._keras import optimizer_hooks
from l2keras.models import compiled, regularized_layer
from l2keras.models.decay import decay_strengths
from l2keras.models.saving import objects, tell_arguments
from l2keras.optimizers import wrapper
from l2keras.regularizers import describing
from l2keras.regularizers.base import Regularizer
from l2keras.weights.paths import check_model
from l2keras.weights.survey import Survey


def strip_regularizers(
    model: keras.Model, *, to_keras: bool = False
) -> keras.Model:
    """Takes off a model all that needs l2keras: regularizers and optimizers.

    For whoever serves the model: once saved, it loads where there is Keras
    alone. The model is changed in place, its weights are not touched, and
    Keras's own regularizers stay. Of `Proximal` and `DecoupledWeightDecay` the
    optimizer stays that they wrap, with its state. Training goes on without
    the penalties and the decay.

    Args:
        model: A Keras model.
        to_keras: Whether to put Keras's own `L1`, `L2` or `L1L2` in place of a
            regularizer that says the same: one of constant strength. Warns of
            those that cannot be said in Keras, weight decay by path among
            them, and takes them off. Defaults to `False`.

    Returns:
        The model.

    Raises:
        TypeError: If `model` is not a Keras model.

    Example:

    >>> import keras, l2keras
    >>> dense = keras.layers.Dense(1, kernel_regularizer=l2keras.L2(0.5))
    >>> model = keras.Sequential([keras.Input((4,)), dense])
    >>> l2keras.strip_regularizers(model, to_keras=True) is model
    True
    >>> dense.kernel_regularizer.get_config()
    {'l2': 0.5}
    """
    check_model(model)
    survey = Survey(model)
    holders = compiled.compiled_with(survey)
    counterparts = _Counterparts(to_keras)
    for path, variable, _ in survey.weights:
        if isinstance(variable.regularizer, Regularizer):
            variable.regularizer = counterparts.of(variable.regularizer, path)
    for place, layer in survey.layers:
        for name, value in list(vars(layer).items()):
            if isinstance(value, Regularizer):
                setattr(layer, name, counterparts.of(value, f"{place}{name}"))
    decayed = decay_strengths(model)
    for _, layer in survey.layers:
        if isinstance(layer, keras.Model):
            optimizer_hooks.replace_optimizers(layer, wrapper.unwrapped)
    unsaved = _forget(survey)
    compiled.update(survey, holders)
    if to_keras and decayed:
        warnings.warn(
            "Keras has no weight decay by path, so that of the optimizer was "
            f"taken off: {decayed}. If it is to go on, compile the model with "
            "`weight_decay=` of Keras's optimizer.",
            stacklevel=2,
        )
    _warn_of(model, counterparts.lost, unsaved)
    return model


class _Counterparts:
    """What is put in place of regularizers, `None` if nothing.

    One for one, so that what a layer and its weight share stays shared.

    Attributes:
        lost: Those that should have had one of Keras and have none, by path.
    """

    def __init__(self, to_keras: bool) -> None:
        self.lost: dict[str, Regularizer] = {}
        self._to_keras = to_keras
        # By `id`, with what it is the `id` of, which must not be freed.
        self._found: dict[int, tuple[Regularizer, Any]] = {}

    def of(self, regularizer: Regularizer, path: str) -> Any:
        if id(regularizer) not in self._found:
            found = _in_keras(regularizer) if self._to_keras else None
            if self._to_keras and found is None:
                self.lost[path] = regularizer
            self._found[id(regularizer)] = regularizer, found
        return self._found[id(regularizer)][1]


def _forget(survey: Survey) -> list[str]:
    """Has layers save by their arguments alone what their weights have now.

    Returns the paths of the weights whose regularizers that does not save.
    """
    paths = {id(weight.variable): weight.path for weight in survey.weights}
    remembering = [
        layer
        for _, layer in survey.layers
        if regularized_layer.is_remembering(layer)
    ]
    for layer in remembering:
        regularized_layer.forget(layer)
    unsaved: dict[str, None] = {}  # In order, and each once.
    for layer in remembering:
        inside = Survey(layer)
        _clear_unused(inside)
        if not tell_arguments(layer, inside.trained):
            for weight in inside.regularized:
                unsaved[paths[id(weight.variable)]] = None
    return list(unsaved)


def _clear_unused(survey: Survey) -> None:
    """Clears arguments whose regularizer was taken off all the weights."""
    used = {id(weight.variable.regularizer) for weight in survey.weights}
    for _, layer in survey.layers:
        for name, value in list(vars(layer).items()):
            if (
                isinstance(value, keras.Regularizer)
                and "activity" not in name
                and id(value) not in used
            ):
                setattr(layer, name, None)


def _in_keras(regularizer: Any) -> Any:
    """Returns Keras's own regularizer that says the same, if there is one."""
    parts = describing.constant_parts(regularizer)
    if parts is None:
        return None
    l1, l2 = parts
    if l1 == 0.0:
        return keras.regularizers.L2(l2)
    if l2 == 0.0:
        return keras.regularizers.L1(l1)
    return keras.regularizers.L1L2(l1, l2)


def _warn_of(
    model: keras.Model, lost: dict[str, Any], unsaved: list[str]
) -> None:
    """Warns of what stripping could not do."""
    if lost:
        listed = ", ".join(f"{path!r}: {r!r}" for path, r in lost.items())
        warnings.warn(
            "Keras has no regularizer that says the same, so these were taken "
            f"off: {listed}",
            stacklevel=3,
        )
    if unsaved:
        warnings.warn(
            "Their layers have no argument to save a regularizer by, so that "
            "Keras alone will not save those of these weights: "
            f"{', '.join(unsaved)}",
            stacklevel=3,
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Keras's, of lambdas.
            config = keras.saving.serialize_keras_object(model)
    except NotImplementedError:
        return
    needed = sorted(
        {
            each["registered_name"]
            for each in objects(config)
            if str(each.get("registered_name")).startswith("l2keras>")
        }
    )
    if needed:
        warnings.warn(
            f"Model {model.name!r} still needs l2keras to be loaded, since it "
            f"is saved with {', '.join(needed)}. If its optimizer has such a "
            "schedule, compile the model anew with another.",
            stacklevel=3,
        )
