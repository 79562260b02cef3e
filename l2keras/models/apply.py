"""Regularizers put on a model that is already built."""

import copy
from collections.abc import Mapping
from typing import Any

import keras
from keras import ops

from l2keras._keras import memory
from l2keras._keras.backend import backend
from l2keras.models import compiled
from l2keras.models.regularized_layer import save_regularizers
from l2keras.models.saving import serialization_roots
from l2keras.models.terms import starts_in
from l2keras.regularizers import describing
from l2keras.regularizers.base import warn_unless_loadable
from l2keras.weights import kinds
from l2keras.weights.paths import Weight
from l2keras.weights.rules import Named, Rules
from l2keras.weights.survey import Survey


class AppliedRegularizers(dict[str, Any]):
    """The regularizers that were applied to a model, by the weights' paths.

    `None` where one was taken off. Prints one weight in a line.

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
            f"{path}: {describing.describe(regularizer)}"
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

    The regularizers act at once and for good: on `model.losses`; on training,
    even if the model, or another that shares the weights, has been compiled and
    fitted before; and on saved files and clones. (Models that share weights are
    found among Python's objects. One that was fitted before a `gc.freeze` is
    hidden there: compile it anew.) Setting `layer.kernel_regularizer` does none
    of this, since Keras reads it only when the layer is built. Each weight gets
    a copy of its own.

    Everything is checked before anything is changed.

    Where a layer has no argument that would save the regularizer (custom
    layers, `RMSNormalization`, the layers in a `MultiHeadAttention`, subclassed
    models), the layer is saved as `l2keras>RegularizedLayer`, which holds it.
    Only presets of KerasHub hold none: `save_to_preset` warns.

    Args:
        model: A built Keras model. The outermost one: then paths have the names
            of the models inside.
        rules: Dictionary from the path of a weight, or a regular expression for
            some, to a regularizer, or to `None` to take off the one that is
            there. An exact path goes before an expression.
        default: The regularizer of every kernel that no rule names, or `None`
            to leave those as they are. Kernels are weights of two or more
            dimensions except biases, embeddings, the weights of normalizations
            and of `PReLU`, and vectors of shape `(1, 1, n)`. Defaults to
            `None`.
        default_embeddings: Whether `default` goes to embeddings too: those of
            an `Embedding`, and weights of other layers with such a name,
            positions and class tokens among them. Defaults to `False`.

    Frozen weights get regularizers as well, which take effect when they are
    thawed. After `enable_lora` the frozen kernel and its two factors are three
    weights, and `default` goes to all of them. Quantized layers have no kernel
    left that is trained.

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
    survey = Survey.of(model)
    chosen = _choose(survey, rules, default, default_embeddings)
    for _, _, regularizer in chosen:
        _check_saves(regularizer)
    with backend.variable_scope(model):  # Copies of schedules have variables.
        changes = [
            (weight, _own_copy(regularizer))
            for weight, _, regularizer in chosen
        ]
        for weight, regularizer in changes:
            for start in starts_in(regularizer):
                start.begin(
                    ops.convert_to_numpy(weight.variable), weight.variable.dtype
                )
    for weight, regularizer in changes:
        _check_computes(regularizer, weight)
    put(survey, changes)
    return AppliedRegularizers({w.path: r for w, r in changes})


def put(survey: Survey, changes: list[tuple[Weight, Any]]) -> None:
    """Puts regularizers, which were checked, on weights of a model.

    Args:
        survey: Of the model.
        changes: The weights, each with a regularizer of its own.
    """
    model = survey.layer
    step = compiled.clock_or_step(model)
    holders = compiled.compiled_with(survey)
    for weight, regularizer in changes:
        weight.variable.regularizer = regularizer
    changed = {id(weight.variable) for weight, _ in changes}
    for root in serialization_roots(model):
        own = Survey(root).trained
        if any(id(weight.variable) in changed for weight in own):
            save_regularizers(root, own)
    # Models that share the weights, and have met no strength of l2keras yet.
    holders += memory.models_with([weight.variable for weight, _ in changes])
    compiled.update(survey, holders, step)


def _choose(
    survey: Survey,
    given: Mapping[str, Any] | None,
    default: Any,
    default_embeddings: bool,
) -> list[Named[Any]]:
    """The weights that are to change, each with its regularizer."""
    rules = Rules(
        given, default, check=_check_regularizer, values="a regularizer"
    )
    if not isinstance(default_embeddings, bool):
        raise TypeError(
            "Argument `default_embeddings` must be a boolean. "
            f"Received: default_embeddings={default_embeddings!r}"
        )
    if not rules.by_pattern and rules.default is None:
        raise ValueError(
            "There is nothing to apply. Give `rules`, a dictionary from path "
            "or pattern to regularizer, or a `default` for all kernels. (To "
            'take all regularizers off, the rule is `{".*": None}`.)'
        )

    def reaches(weight: Weight) -> bool:
        return kinds.is_kernel(weight) or (
            default_embeddings and kinds.is_embedding(weight)
        )

    chosen = rules.resolve(survey.weights, "pay a penalty", reaches)
    if not chosen:
        raise ValueError(
            f"Model {survey.layer.name!r} has no kernel that the default could "
            "go to."
        )
    return chosen


def _check_regularizer(value: Any, name: str) -> Any:
    """The regularizer, or `None`, as Keras would take it.

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
    warn_unless_loadable(value)
    return value


def _check_computes(regularizer: Any, weight: Weight) -> None:
    """Raises a ValueError unless a regularizer returns one number."""
    if regularizer is None:
        return
    name = describing.describe(regularizer)
    try:
        returned = backend.output_shape(regularizer, weight.variable)
    except Exception as error:
        raise describing.cannot_compute(
            regularizer, weight.path, weight.variable.shape, error
        ) from error
    if returned != ():
        raise ValueError(
            f"A regularizer must return one number. Received: {name}, which "
            f"returned shape {returned} for weight {weight.path!r}"
        )


def _check_saves(regularizer: Any) -> None:
    """Raises a ValueError if the `get_config` of a regularizer fails."""
    try:
        keras.saving.serialize_keras_object(regularizer)
    except NotImplementedError:  # It has none, as Keras allows.
        return
    except Exception as error:
        raise ValueError(
            f"Regularizer {describing.describe(regularizer)} cannot be saved. "
            f"Its `get_config` raised {type(error).__name__}: {error}"
        ) from error


def _own_copy(regularizer: Any) -> Any:
    """A copy for one weight alone, which can have its own scale."""
    if isinstance(regularizer, keras.Regularizer):
        return copy.deepcopy(regularizer)
    return regularizer
