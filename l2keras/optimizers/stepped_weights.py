"""The weights that an optimizer takes proximal steps on."""

import keras

from l2keras._keras.call_stack import running_model
from l2keras.optimizers import proximal_warnings, trained_model
from l2keras.optimizers.wrapper import OptimizerWrapper
from l2keras.regularizers.base import terms_of
from l2keras.regularizers.proximal_steps import has_proximal, optimizers_of
from l2keras.regularizers.proximal_terms import ProximalTerm, proximal_terms
from l2keras.weights import paths
from l2keras.weights.paths import Weight


def find(
    optimizer: OptimizerWrapper, variables: list[keras.Variable]
) -> tuple[keras.Model, list[Weight]]:
    """The model that an optimizer trains, and the weights that may take steps.

    Those without a penalty now are among them: they may be given one.

    Args:
        optimizer: The optimizer that takes the steps.
        variables: The variables that it is built for.

    Raises:
        ValueError: If no model is compiled with it, there is nothing to do, or
            there is no step for some penalty.
    """
    name = type(optimizer).__name__
    model = trained_model.find(optimizer, variables)
    keys = {optimizer.variable_key(variable) for variable in variables}
    weights = [
        weight
        for weight in paths.own_weights(model)
        if optimizer.variable_key(weight.variable) in keys
    ]
    # By the same search as penalties.
    running = running_model()
    at_work = running.model if running and running.step else model
    own = [
        weight
        for weight in weights
        if optimizer in optimizers_of(at_work, weight.variable)
    ]
    _check_terms(own)
    if not any(map(_has_proximal, weights)):
        raise ValueError(
            "None of the weights that are trained has a penalty with a "
            "proximal step, such as `L1` or `GroupLasso`, so there is nothing "
            f"for `{name}` to do. Give some a `kernel_regularizer=`, or call "
            "`l2keras.apply_regularizers(model, ...)`, or compile with "
            f"`{type(optimizer.inner_optimizer).__name__}` alone. Received: "
            f"model {model.name!r}"
        )
    if not any(map(_has_proximal, own)):
        raise ValueError(
            f"A model must be compiled with `{name}`: in its `optimizer` "
            "penalties find that no gradient is to be taken of them. Call "
            "`model.compile(optimizer, ...)` before the first gradient is "
            "taken, in a custom training loop as well. If the model trains its "
            "parts by several optimizers, compile the part with its own, and "
            "make that an attribute of the whole: `gan.g_optimizer`. Received: "
            f"model {at_work.name!r}, whose weights other optimizers train"
        )
    proximal_warnings.warn_of_normalized(
        model,
        [
            weight
            for weight in own
            if any(term.start is None for term in terms_on(weight))
        ],
    )
    return model, own


def terms_on(weight: Weight) -> list[ProximalTerm]:
    """The terms of a weight's regularizer that take proximal steps.

    Raises:
        ValueError: If there is no step for the sum of them.
    """
    variable = weight.variable
    try:
        return proximal_terms(variable.regularizer, variable.shape)
    except ValueError as error:
        raise ValueError(f"Weight {weight.path!r}: {error}") from None


def _check_terms(weights: list[Weight]) -> None:
    """Raises one error that names each weight without a known step."""
    problems = []
    for weight in weights:
        try:
            terms_on(weight)
        except ValueError as error:
            problems.append(str(error))
    if problems:
        raise ValueError("\n".join(problems))


def _has_proximal(weight: Weight) -> bool:
    """Whether a weight has a penalty with a proximal step, be it zero."""
    return any(map(has_proximal, terms_of(weight.variable.regularizer)))
