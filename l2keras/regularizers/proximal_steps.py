"""Whether an optimizer takes proximal steps, and so no gradient is taken.

`l2keras.Proximal` takes weights to zero itself, after each update, so the
gradient of the penalty must not do so as well. The penalty's value stays
in the loss and in the logs.

A penalty is asked for by a method of the model at work, and so is known which
optimizer trains the weight now: compiled with another, the gradient is back.
Without a model nothing is changed.
"""

from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

import keras
from keras import ops

from l2keras._keras import layer_tree, optimizer_hooks
from l2keras._keras.backend import backend
from l2keras._keras.call_stack import running_model
from l2keras._types import Tensor
from l2keras.regularizers.terms import Term

Penalty: TypeAlias = Callable[[Term, Tensor], Tensor]


def has_proximal(term: Term) -> bool:
    """Whether a term has a proximal step, be its strength zero."""
    return getattr(term.regularizer, "has_proximal", False)


def penalty_of(terms: Iterable[Term], weights: Any) -> Penalty:
    """The function that computes the penalties of terms on some weights.

    Args:
        terms: The terms.
        weights: The argument of the regularizer: a variable, its value, or the
            outputs of a layer, on which no proximal steps are taken.
    """
    if any(has_proximal(term) for term in terms) and backend.call_uncompiled(
        _are_taken, weights
    ):
        return _without_gradient
    return _with_gradient


def optimizers_of(
    model: keras.Model, variable: keras.Variable
) -> list[keras.optimizers.Optimizer]:
    """The optimizers that update a weight while a model is at work.

    Those of the model. But if the model has several, as a GAN has, those of
    the innermost model with that weight which is compiled with one of them.
    """
    own = getattr(model, "optimizer", None)
    held = {
        id(value)
        for value in list(vars(model).values())
        if isinstance(value, keras.optimizers.Optimizer)
    } - {id(own)}
    if held:
        for _, layer in reversed(layer_tree.layers_by_path(model)):
            optimizer = getattr(layer, "optimizer", None)
            chain = optimizer_hooks.chain(optimizer)
            if any(id(link) in held for link in chain) and any(
                trained is variable for trained in layer.trainable_variables
            ):
                return optimizer_hooks.optimizers_of(optimizer, variable)
    return optimizer_hooks.optimizers_of(own, variable)


def _are_taken(weights: Any) -> bool:
    """Whether the running model takes proximal steps on some weights."""
    running = running_model()
    if running is None:
        return False
    variable = layer_tree.variable_of(running.model, weights)
    if variable is None:
        return False
    return any(
        getattr(each, "takes_proximal_steps", False)
        for each in optimizers_of(running.model, variable)
    )


def _with_gradient(term: Term, weights: Tensor) -> Tensor:
    return term.penalty(weights)


def _without_gradient(term: Term, weights: Tensor) -> Tensor:
    """The value of a term, whose gradient is zero if it has a proximal step."""
    if has_proximal(term):
        weights = ops.stop_gradient(ops.convert_to_tensor(weights))
    return term.penalty(weights)
