"""Regularizers taken off a model."""

import warnings
from typing import Any

import keras

from l2keras._keras import optimizer_hooks
from l2keras.models import compiled, regularized_layer
from l2keras.models.decay import decay_strengths
from l2keras.models.saving import objects, sync_arguments
from l2keras.optimizers import wrapper
from l2keras.regularizers import describing
from l2keras.regularizers.base import Regularizer
from l2keras.weights.paths import check_model
from l2keras.weights.survey import Survey


def strip_regularizers(
    model: keras.Model, *, to_keras: bool = False
) -> keras.Model:
    """Takes off a model all that needs l2keras: regularizers and optimizers.

    For deployment: the model, once saved, loads where there is Keras alone. It
    is changed in place, its weights are not touched, and Keras's own
    regularizers stay. `Proximal` and `DecoupledWeightDecay` are replaced by the
    optimizer that they wrap, with its state. Training goes on without the
    penalties and the decay.

    Args:
        model: A Keras model.
        to_keras: Whether to put Keras's own `L1`, `L2` or `L1L2` in place of an
            equivalent regularizer of constant strength. Warns of those without
            an equivalent in Keras, weight decay by path among them, and takes
            them off. Defaults to `False`.

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
    unsaved = _restore_classes(survey)
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
    """The replacements of regularizers, `None` for none.

    One for one, so that a layer and its weight go on sharing one.

    Attributes:
        lost: The regularizers without an equivalent in Keras, by path.
    """

    def __init__(self, to_keras: bool) -> None:
        self.lost: dict[str, Regularizer] = {}
        self._to_keras = to_keras
        # By `id`, with the regularizer, which must not be freed.
        self._found: dict[int, tuple[Regularizer, Any]] = {}

    def of(self, regularizer: Regularizer, path: str) -> Any:
        if id(regularizer) not in self._found:
            found = _keras_equivalent(regularizer) if self._to_keras else None
            if self._to_keras and found is None:
                self.lost[path] = regularizer
            self._found[id(regularizer)] = regularizer, found
        return self._found[id(regularizer)][1]


def _restore_classes(survey: Survey) -> list[str]:
    """Has layers save by their arguments alone.

    Returns the paths of the weights with regularizers that are not saved so.
    """
    paths = {id(weight.variable): weight.path for weight in survey.weights}
    restored = [
        layer
        for _, layer in survey.layers
        if regularized_layer.saves_by_class(layer)
    ]
    for layer in restored:
        regularized_layer.restore_class(layer)
    unsaved: dict[str, None] = {}  # In order, and each once.
    for layer in restored:
        inside = Survey(layer)
        _clear_unused(inside)
        if not sync_arguments(layer, inside.trained):
            for weight in inside.regularized:
                unsaved[paths[id(weight.variable)]] = None
    return list(unsaved)


def _clear_unused(survey: Survey) -> None:
    """Clears arguments with a regularizer that no weight has."""
    used = {id(weight.variable.regularizer) for weight in survey.weights}
    for _, layer in survey.layers:
        for name, value in list(vars(layer).items()):
            if (
                isinstance(value, keras.Regularizer)
                and "activity" not in name
                and id(value) not in used
            ):
                setattr(layer, name, None)


def _keras_equivalent(regularizer: Any) -> Any:
    """Keras's own equivalent of a regularizer, if there is one."""
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
    """Warns of regularizers that are lost, and of names that remain."""
    if lost:
        listed = ", ".join(f"{path!r}: {r!r}" for path, r in lost.items())
        warnings.warn(
            "Keras has no equivalent of these regularizers, so they were taken "
            f"off: {listed}",
            stacklevel=3,
        )
    if unsaved:
        warnings.warn(
            "Keras will not save the regularizers of these weights, whose "
            f"layers have no argument for them: {', '.join(unsaved)}",
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
            found["registered_name"]
            for found in objects(config)
            if str(found.get("registered_name")).startswith("l2keras>")
        }
    )
    if needed:
        warnings.warn(
            f"Model {model.name!r} still needs l2keras to be loaded, since it "
            f"is saved with {', '.join(needed)}. If its optimizer has such a "
            "schedule, compile the model with another optimizer.",
            stacklevel=3,
        )
