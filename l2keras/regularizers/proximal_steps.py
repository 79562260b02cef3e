"""Whether an optimizer takes proximal steps, and so no gradient is taken.

`l2keras.Proximal` takes weights to zero itself, after each update, so the
gradient of the penalty must not do so as well. The penalty's value stays what
it is, in the loss and in the logs.

Who asks for a penalty is a method of the model at work, and it is looked at
whether that model is trained by such an optimizer now: compiled with another,
the gradient is back. Without a model nothing is changed.
"""

import weakref
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

import keras
from keras import ops

from l2keras._keras import (
    backends,
    layer_tree,
    optimizer_hooks,
    own_penalties,
)
from l2keras._keras.call_stack import running_model
from l2keras._types import Tensor
from l2keras.regularizers.terms import Term

_takers: weakref.WeakSet[keras.optimizers.Optimizer] = weakref.WeakSet()

_OF_KERAS = (keras.regularizers.L1, keras.regularizers.L1L2)

Penalty: TypeAlias = Callable[[Term, Tensor], Tensor]


def announce(optimizer: keras.optimizers.Optimizer) -> None:
    """Makes it known that an optimizer takes proximal steps."""
    _takers.add(optimizer)
    own_penalties.replace(_penalty_of_keras)


def penalty_of(terms: Iterable[Term], weights: Any) -> Penalty:
    """Returns what computes the penalties of terms on some weights."""
    if (
        _takers
        and any(_has_proximal(term.regularizer) for term in terms)
        and are_taken(weights)
    ):
        return _without_gradient
    return _with_gradient


def are_taken(weights: Any) -> bool:
    """Tells whether the model at work takes proximal steps on some weights.

    Args:
        weights: What a regularizer was called with: a variable, its value, or
            the outputs of a layer, on which none are taken.
    """
    return bool(backends.call_uncompiled(_are_taken, weights))


def _are_taken(weights: Any) -> bool:
    running = running_model()
    if running is None:
        return False
    variable = layer_tree.variable_of(running.model, weights)
    if variable is None:
        return False
    optimizer = getattr(running.model, "optimizer", None)
    return any(
        each in _takers
        for each in optimizer_hooks.optimizers_of(optimizer, variable)
    )


def _has_proximal(regularizer: Any) -> bool:
    return (
        getattr(regularizer, "has_proximal", False)
        or type(regularizer) in _OF_KERAS
    )


def _with_gradient(term: Term, weights: Tensor) -> Tensor:
    return term.penalty(weights)


def _without_gradient(term: Term, weights: Tensor) -> Tensor:
    """Returns a term's penalty, with the gradient of what is smooth alone."""
    if not _has_proximal(term.regularizer):
        return term.penalty(weights)
    still = _still(weights)
    if type(term.regularizer) is keras.regularizers.L1L2:
        value = term.penalty(still)
        return value + _gradient_of_l2(term.regularizer, weights, still)
    return term.penalty(still)


def _penalty_of_keras(call: Any, regularizer: Any, weights: Any) -> Tensor:
    """Returns what Keras's own `L1` or `L1L2` does, and that gradient alone."""
    if type(regularizer) not in _OF_KERAS or not are_taken(weights):
        return call(regularizer, weights)
    still = _still(weights)
    value = call(regularizer, still)
    if type(regularizer) is keras.regularizers.L1L2:
        value = value + _gradient_of_l2(regularizer, weights, still)
    return value


def _gradient_of_l2(regularizer: Any, weights: Any, still: Tensor) -> Tensor:
    """Returns zero, with the gradient of the squares in Keras's `L1L2`."""
    squares = keras.regularizers.L2(regularizer.l2)
    return squares(weights) - squares(still)


def _still(weights: Any) -> Tensor:
    return ops.stop_gradient(ops.convert_to_tensor(weights))
