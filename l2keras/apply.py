"""Regularizers put on, and taken off, a model that is already built."""

import copy
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import keras

from l2keras import (
    _backend,
    _control,
    _keras_private,
    _kinds,
    _paths,
    _regularized_layer,
)
from l2keras.regularizers import Regularizer


class AppliedRegularizers(dict[str, Any]):
    """What was done to a model: a dictionary from path to regularizer.

    `None` stands for one that was taken off. Prints one weight in a line.

    Args:
        regularizers: The dictionary.

    Example:

    >>> import l2keras
    >>> done = {"a/kernel": l2keras.L2(0.1), "b/bias": None}
    >>> l2keras.AppliedRegularizers(done)
    a/kernel: L2(l2=0.1)
    b/bias: None
    """

    def __init__(self, regularizers: Mapping[str, Any]) -> None:
        super().__init__(regularizers)

    def __repr__(self) -> str:
        return "\n".join(
            f"{path}: {_kinds.describe(regularizer)}"
            for path, regularizer in self.items()
        )


def apply_regularizers(
    model: keras.Model,
    rules: Mapping[str, Any] | None = None,
    default: Any = None,
    *,
    default_embeddings: bool = False,
) -> AppliedRegularizers:
    """Puts regularizers on weights of a model that is already built.

    It acts at once and for good: on `model.losses`, on training, even of a
    model that has been compiled and fitted before, and on what is saved or
    cloned. Setting `layer.kernel_regularizer` does none of this, since Keras
    reads it only when the layer is built. Each weight gets a copy of its own.

    Everything is checked before anything is changed.

    Where a layer has no argument that would save the regularizer (custom
    layers, `RMSNormalization`, the layers in a `MultiHeadAttention`, subclassed
    models), the layer is saved as `l2keras>RegularizedLayer`, which holds it.

    Args:
        model: A built Keras model. The outermost one: then paths have the names
            of the models inside.
        rules: Dictionary from the path of a weight, or a regular expression for
            some, to a regularizer, or to `None` to take off the one that is
            there. An exact path goes before an expression.
        default: The regularizer of every kernel that no rule names, or `None`
            to leave those as they are. Kernels are weights of two or more
            dimensions but for biases, embeddings, and what normalization
            layers and `PReLU` have. Defaults to `None`.
        default_embeddings: Whether `default` goes to embeddings too. Defaults
            to `False`.

    Frozen weights get regularizers as well, and pay from when they are thawed.
    Where `enable_lora` was called, the frozen kernel and its two factors are
    three weights, and `default` goes to all of them. Layers that are quantized
    have no kernel left that is trained.

    Returns:
        Dictionary from path to the regularizer that the weight has now, for
        each weight that a rule or the default named.

    Raises:
        TypeError: If `model` is not a Keras model, `rules` no dictionary, or a
            regularizer none, such as a class in place of an instance.
        ValueError: If `model` is not built, there is nothing to apply, a
            pattern matches no weight that is trained, two match one, or a
            regularizer cannot be computed for a weight.

    Example:

    >>> import keras, l2keras
    >>> model = keras.Sequential([
    ...     keras.Input((4,)),
    ...     keras.layers.Dense(8, name="hidden"),
    ...     keras.layers.BatchNormalization(),
    ...     keras.layers.Dense(3, name="output"),
    ... ])
    >>> l2keras.apply_regularizers(
    ...     model, {"output/kernel": l2keras.L1(1e-5)}, default=l2keras.L2(1e-4)
    ... )
    hidden/kernel: L2(l2=0.0001)
    output/kernel: L1(l1=1e-05)
    >>> len(model.losses)
    2
    """
    chosen = _choose(model, rules, default, default_embeddings)
    for weight, regularizer in chosen:
        _check_computes(regularizer, weight)

    clock = _control.connect_clock(model)[0]
    step = 0 if clock is None else clock.read()
    with _backend.variable_scope(model):  # Copies of schedules have variables.
        changes = [
            (weight, _own_copy(regularizer)) for weight, regularizer in chosen
        ]
    for weight, regularizer in changes:
        weight.variable.regularizer = regularizer
    changed = {id(weight.variable) for weight, _ in changes}
    for unit in _saved_layers(model):
        own = _paths.own_weights(unit)
        if any(id(weight.variable) in changed for weight in own):
            _save_with(unit, own)
    clock, _ = _control.connect_clock(model)
    if clock is not None:
        clock.write(step)
    _control.drop_unused_states(model)
    _control.forget_compiled(model)
    return AppliedRegularizers({w.path: r for w, r in changes})


def strip_regularizers(
    model: keras.Model, *, to_keras: bool = False
) -> keras.Model:
    """Takes off a model all regularizers that need l2keras.

    For whoever serves the model: once saved, it loads where there is Keras
    alone. The model is changed in place, its weights are not touched, and
    Keras's own regularizers stay. Training goes on without the penalties.

    Args:
        model: A Keras model.
        to_keras: Whether to put Keras's own `L1`, `L2` or `L1L2` in place of a
            regularizer that says the same: one of constant strength. Warns of
            those that cannot be said in Keras, and takes them off. Defaults to
            `False`.

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
    _paths.check_model(model)
    lost: dict[str, Any] = {}
    placed = _keras_private.layers_by_path(model)
    weights = _paths.own_weights(model)
    # One for one, so that what a layer and its weight share stays shared.
    counterparts: dict[int, Any] = {}

    def counterpart(regularizer: Any, path: str) -> Any:
        if not isinstance(regularizer, Regularizer):
            return regularizer
        if id(regularizer) not in counterparts:
            found = _in_keras(regularizer) if to_keras else None
            if to_keras and found is None:
                lost[path] = regularizer
            counterparts[id(regularizer)] = found
        return counterparts[id(regularizer)]

    unsaved = []
    for path, variable, _ in weights:
        variable.regularizer = counterpart(variable.regularizer, path)
    for path, layer in placed:
        for name, value in list(vars(layer).items()):
            if isinstance(value, Regularizer):
                setattr(layer, name, counterpart(value, f"{path}{name}"))
    for path, layer in placed:
        if not _regularized_layer.is_remembering(layer):
            continue
        _regularized_layer.forget(layer)
        own = _paths.own_weights(layer)
        _clear_unused(layer, own)
        if not _tell_arguments(layer, own):
            unsaved += [
                f"{path}{w.path}" for w in own if w.variable.regularizer
            ]
    if model.built:
        _control.drop_unused_states(model)
    _control.forget_compiled(model)
    _warn_of(model, lost, unsaved)
    return model


def _choose(
    model: keras.Model,
    rules: Mapping[str, Any] | None,
    default: Any,
    default_embeddings: bool,
) -> list[tuple[_paths.Weight, Any]]:
    """Returns the weights that are to change, each with its regularizer."""
    weights = _paths.weights(model)
    rules = {} if rules is None else rules
    trained, matched = _paths.match_trained(rules, weights, "pay a penalty")
    regularizers = {
        pattern: _check_regularizer(regularizer, f"rules[{pattern!r}]")
        for pattern, regularizer in rules.items()
    }
    default = _check_regularizer(default, "default")
    if not isinstance(default_embeddings, bool):
        raise TypeError(
            "Argument `default_embeddings` must be a boolean. "
            f"Received: default_embeddings={default_embeddings!r}"
        )
    if not rules and default is None:
        raise ValueError(
            "There is nothing to apply. Give `rules`, a dictionary from path "
            "or pattern to regularizer, or a `default` for all kernels. (To "
            'take all regularizers off, the rule is `{".*": None}`.)'
        )
    chosen = []
    for weight in trained:
        if weight.path in matched:
            chosen.append((weight, regularizers[matched[weight.path]]))
        elif default is not None and (
            _kinds.is_kernel(weight)
            or (default_embeddings and _kinds.is_embedding(weight))
        ):
            chosen.append((weight, default))
    if not chosen:
        raise ValueError(
            f"Model {model.name!r} has no kernel that the default could go to."
        )
    return chosen


def _check_regularizer(value: Any, name: str) -> Any:
    """Returns a regularizer, or `None`, as Keras would take it.

    Raises:
        TypeError: If it is neither.
        ValueError: If it is a name that Keras does not know.
    """
    if value is None or isinstance(value, str | dict):
        return keras.regularizers.get(value)
    schedule = keras.optimizers.schedules.LearningRateSchedule
    if isinstance(value, type | keras.Layer | schedule) or not callable(value):
        raise TypeError(
            f"Argument `{name}` must be a regularizer, as an instance such as "
            f"`l2keras.L2(1e-4)`, or None. Received: {name}={value!r}"
        )
    if not isinstance(value, keras.Regularizer):
        try:
            keras.Variable(0.0).regularizer = value
        except ValueError as error:  # Until Keras 3.10.
            raise TypeError(
                f"This version of Keras, {keras.__version__}, takes no "
                "function for a regularizer. Make it a class: see "
                f"`l2keras.Regularizer`. Received: {name}={value!r}"
            ) from error
    return value


def _check_computes(regularizer: Any, weight: _paths.Weight) -> None:
    """Raises a ValueError unless it makes one number of the weight."""
    if regularizer is None:
        return
    name = _kinds.describe(regularizer)
    shape = tuple(weight.variable.shape)
    try:
        returned = _backend.output_shape(regularizer, weight.variable)
    except Exception as error:
        raise ValueError(
            f"Regularizer {name} cannot be computed for weight "
            f"{weight.path!r} of shape {shape}: {error}"
        ) from error
    if returned != ():
        raise ValueError(
            f"A regularizer must return one number. Received: {name}, which "
            f"returned shape {returned} for weight {weight.path!r}"
        )


def _own_copy(regularizer: Any) -> Any:
    """Returns a copy for one weight alone, which can have its own scale."""
    if isinstance(regularizer, keras.Regularizer):
        return copy.deepcopy(regularizer)
    return regularizer


def _saved_layers(layer: keras.layers.Layer) -> Iterator[keras.layers.Layer]:
    """Yields the layers that Keras saves one by one, each with its config.

    Sequential and functional models, also inside such, have the configs of
    their layers in theirs. Any other layer, or model, is saved as a whole.
    """
    if _keras_private.saves_layers_one_by_one(layer):
        for each in layer.layers:
            yield from _saved_layers(each)
    else:
        yield layer


def _save_with(layer: keras.layers.Layer, own: list[_paths.Weight]) -> None:
    """Has a layer save the regularizers that its weights have now."""
    if not _tell_arguments(layer, own):
        _regularized_layer.remember(layer)


def _tell_arguments(
    layer: keras.layers.Layer, own: list[_paths.Weight]
) -> bool:
    """Sets arguments to the regularizers that the weights of a layer have.

    Returns whether the layer's config, as it is now, says all of it.
    """
    told = not _regularized_layer.is_remembering(layer)
    arguments: dict[tuple[int, str], _paths.Weight] = {}
    for weight in own:
        if not weight.is_trained:
            continue
        regularizer = weight.variable.regularizer
        name = _kinds.argument(weight)
        # What an argument of other people's layers is for is not known.
        told &= _keras_private.is_of_keras(weight.layer)
        if name is None:
            told &= regularizer is None
            continue
        first = arguments.setdefault((id(weight.layer), name), weight)
        told &= _kinds.same(regularizer, first.variable.regularizer)
    places = []
    for (_, name), weight in arguments.items():
        setattr(weight.layer, name, weight.variable.regularizer)
        places.append((weight.layer, name))
    return told and _are_saved(layer, places)


class _Mark(keras.regularizers.Regularizer):
    """Stands in for a regularizer, to be found again in a config."""

    def __init__(self, number: int) -> None:
        self.number = number

    def get_config(self) -> dict[str, Any]:
        return {"number": self.number}


def _are_saved(
    layer: keras.layers.Layer, places: list[tuple[keras.layers.Layer, str]]
) -> bool:
    """Tells whether the config of `layer` says what these attributes hold."""
    before = [getattr(each, name) for each, name in places]
    try:
        for number, (each, name) in enumerate(places):
            setattr(each, name, _Mark(number))
        config = layer.get_config()
    except NotImplementedError:
        return False  # The layer cannot be saved at all, as Keras will say.
    finally:
        for (each, name), value in zip(places, before, strict=True):
            setattr(each, name, value)
    found = {
        each["config"]["number"]
        for each in _objects(config)
        if each["class_name"] == _Mark.__name__
    }
    return len(found) == len(places)


def _objects(config: Any) -> Iterator[dict[str, Any]]:
    """Yields all that is serialized in a config, at any depth."""
    if isinstance(config, dict):
        if "class_name" in config:
            yield config
        for each in config.values():
            yield from _objects(each)
    elif isinstance(config, list | tuple):
        for each in config:
            yield from _objects(each)


def _in_keras(regularizer: Any) -> Any:
    """Returns Keras's own regularizer that says the same, if there is one."""
    parts = _kinds.constant_parts(regularizer)
    if parts is None:
        return None
    l1, l2 = parts
    if l1 == 0.0:
        return keras.regularizers.L2(l2)
    if l2 == 0.0:
        return keras.regularizers.L1(l1)
    return keras.regularizers.L1L2(l1, l2)


def _clear_unused(layer: keras.layers.Layer, own: list[_paths.Weight]) -> None:
    """Clears arguments whose regularizer was taken off all the weights."""
    used = {id(weight.variable.regularizer) for weight in own}
    for _, each in _keras_private.layers_by_path(layer):
        for name, value in list(vars(each).items()):
            if (
                isinstance(value, keras.Regularizer)
                and "activity" not in name
                and id(value) not in used
            ):
                setattr(each, name, None)


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
            for each in _objects(config)
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
