"""What an optimizer holds, and a copy of one that updates other variables.

`get_config` does not tell all: not what is excluded from weight decay, not
momentum and iterations, nor what a user set afterwards. An optimizer of Keras
finds what belongs to a weight by the position of the weight in a list, and the
position by a key of the variable.
"""

import pickle
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from keras import ops

from l2keras._keras import backends
from l2keras._keras.optimizer_hooks import is_update_step_prepared


def is_built_for(
    optimizer: keras.optimizers.Optimizer, variables: list[keras.Variable]
) -> bool:
    """Tells whether an optimizer was built for exactly these, in this order."""
    built_for = [optimizer._var_key(v) for v in optimizer._trainable_variables]
    return built_for == [optimizer._var_key(v) for v in variables]


def variables_of_weights(optimizer: keras.optimizers.Optimizer) -> set[int]:
    """Returns the ids of an optimizer's variables that go with the weights.

    They have an element for each element of a weight, as momentum has. What is
    left is for all weights alike: iterations, the learning rate.
    """
    own = {id(variable) for variable in optimizer.variables}
    weights = optimizer._trainable_variables
    return {
        id(variable)
        for name, each in vars(optimizer).items()
        # In step with the weights, `None` where a weight has no use for it.
        if isinstance(each, list)
        and len(each) == len(weights)
        and name != "_variables"
        for variable, weight in zip(each, weights, strict=True)
        if id(variable) in own and variable.shape == weight.shape
    }


def has_function_for_learning_rate(
    optimizer: keras.optimizers.Optimizer,
) -> bool:
    """Tells whether the learning rate is asked of a function of Python's."""
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    rate = optimizer._learning_rate
    return callable(rate) and not isinstance(
        rate,
        (
            keras.Variable,
            keras.optimizers.schedules.LearningRateSchedule,
        ),
    )


def replaced_method(optimizer: keras.optimizers.Optimizer) -> str | None:
    """Returns the name of a method that this one optimizer has another of."""
    for name, value in vars(optimizer).items():
        if (
            callable(value)
            and callable(getattr(type(optimizer), name, None))
            and not is_update_step_prepared(value)
        ):
            return name
    return None


def copy_for(
    optimizer: keras.optimizers.Optimizer,
    replacements: Mapping[int, keras.Variable],
) -> keras.optimizers.Optimizer:
    """Returns a copy of a built optimizer with other variables in place of its.

    Not for optimizers that wrap others, nor for classes that are not Keras's,
    which may hold variables elsewhere.

    Args:
        optimizer: A built optimizer of Keras.
        replacements: A variable for each weight that the optimizer was built
            for and for each of its own variables, by the id of that.
    """

    def replaced(value: Any) -> Any:
        if isinstance(value, list):
            return [replaced(each) for each in value]
        return replacements.get(id(value), value)

    weights = [
        (weight, replacements[id(weight)])
        for weight in optimizer._trainable_variables
    ]
    # Neither `copy.copy` nor `deepcopy`, for which Keras saves to a file; nor
    # `setattr`, which would track the variables as new ones.
    twin = object.__new__(type(optimizer))
    vars(twin).update(
        {
            name: replaced(value)
            for name, value in vars(optimizer).items()
            if not is_update_step_prepared(value)
        },
        _trainable_variables_indices={
            optimizer._var_key(replacement): index
            for index, (_, replacement) in enumerate(weights)
        },
        **_decays_of(optimizer, weights),
    )
    return twin


# Where an optimizer notes which weights decay, until Keras 3.15 and after it.
_DECAYS = "_exclude_from_weight_decay_cache", "_weight_decay_by_var_key"


def _decays_of(
    optimizer: keras.optimizers.Optimizer,
    weights: list[tuple[Any, keras.Variable]],
) -> dict[str, Any]:
    """Returns what tells whether the replacements of weights decay.

    It is decided by the weight that is replaced, or by its name, which on
    TensorFlow is another than that of its replacement.
    """
    decays = {
        optimizer._var_key(replacement): optimizer._use_weight_decay(
            weight.value if keras.backend.backend() == "tensorflow" else weight
        )
        for weight, replacement in weights
    }
    return dict.fromkeys(_DECAYS, decays)


def state_outside_variables(
    optimizer: keras.optimizers.Optimizer,
) -> dict[str, Any]:
    """Returns what an optimizer holds beside its variables, to compare.

    By attribute, as far as it can be told: numbers, arrays, variables that
    Keras does not know of, and containers and objects of these.
    """
    known = [*optimizer.variables, *optimizer._trainable_variables]
    seen = {id(variable) for variable in known}

    def described(value: Any) -> Any:
        if value is None or isinstance(value, (bool, int, str, bytes)):
            return value
        if isinstance(value, (float, complex)):
            return repr(value)  # NaN is not equal to itself.
        if id(value) in seen:
            return None
        if isinstance(value, keras.Variable):
            return described(value.value)
        if isinstance(value, np.ndarray) or ops.is_tensor(value):
            if backends.is_symbolic(value):
                return id(value)  # From a compilation that has ended.
            array = np.asarray(ops.convert_to_numpy(value))
            return array.shape, array.dtype.name, array.tobytes()
        seen.add(id(value))
        if isinstance(value, Mapping):
            return [(described(k), described(v)) for k, v in value.items()]
        if isinstance(value, (list, tuple)):
            return [described(each) for each in value]
        if isinstance(value, (set, frozenset)):
            return sorted(str(described(each)) for each in value)
        if isinstance(value, keras.random.SeedGenerator):
            return described(value.state)
        if _is_foreign(value):
            attributes = getattr(value, "__dict__", None)
            return id(value), described(attributes), _pickled(value)
        return id(value)

    return {
        name: described(value)
        for name, value in vars(optimizer).items()
        if name not in _DECAYS
    }


def _pickled(value: Any) -> bytes | None:
    """Returns an object's state where it is not among its attributes.

    As in the random number generators of NumPy.
    """
    try:
        return pickle.dumps(value)
    except Exception:  # Objects raise what they like if they cannot be pickled.
        return None


def _is_foreign(value: Any) -> bool:
    """Tells whether an object is neither a model's nor of a known package.

    What l2keras keeps, such as a strength that notes where it was read, trains
    nothing.
    """
    package = type(value).__module__.split(".")[0]
    return not isinstance(
        value, (keras.layers.Layer, keras.optimizers.Optimizer)
    ) and package not in (
        "builtins",
        "keras",
        "tensorflow",
        "jax",
        "torch",
        __package__.split(".")[0],
    )
