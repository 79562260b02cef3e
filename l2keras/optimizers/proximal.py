"""Zeros that are exact: proximal steps after an optimizer's updates."""

import functools
import sys
import weakref
from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from l2keras._keras import optimizer_hooks, precision, trainer_hooks
from l2keras._keras.backend import backend
from l2keras._types import Tensor
from l2keras.optimizers import (
    proximal_warnings,
    step_lengths,
    stepped_weights,
    wrapper,
)
from l2keras.optimizers.step_lengths import StepLengths
from l2keras.optimizers.stepped_weights import terms_on
from l2keras.optimizers.wrapper import OptimizerWrapper
from l2keras.regularizers.from_start import Origin
from l2keras.regularizers.proximal_terms import ProximalTerm, stepped
from l2keras.strengths.strength import multiplied
from l2keras.strengths.updates import readable, strengths_at_update
from l2keras.weights.paths import Weight


@keras.saving.register_keras_serializable(package="l2keras")
class Proximal(OptimizerWrapper):
    """Takes weights to exactly zero, where their penalties ask for it.

    By the gradient of `L1` or `GroupLasso` weights come near zero and not to
    it. Here no gradient is taken of such a penalty. Each update of the
    optimizer that is wrapped is followed by the penalty's proximal step

        w <- argmin_u  sum_i (u_i - w_i)**2 / (2 a_i) + strength * penalty(u)

    where the step length `a_i` is how far the optimizer moves the weight for a
    steady gradient of 1: the learning rate under `SGD`, more with momentum, and
    for each weight another under `Adam` and its like. So training comes to rest
    where loss and penalty together are least, as with the gradient, and zeros
    there are zeros.

    It takes steps on weights with `L1`, `GroupLasso`, a sum of `L1` and one
    kind of `GroupLasso`, `MCP`, `SCAD`, `GroupMCP`, or a custom regularizer
    that defines `proximal`. Smooth penalties keep their gradient: `L2`, also as
    a part of `L1L2` or of a sum. So do penalties of activities. Losses and logs
    are as before. Keras's own `L1` and `L1L2` are refused: use `l2keras.L1`,
    which is the same penalty.

    The strength may be a schedule, be scaled, or be tuned. Clipping applies to
    the gradient, and so to the data loss alone. A weight that gets no gradient
    in a step gets no proximal step. A weight whose gradient has been zero so
    far has a very long step under Adam and its like, so it goes to zero at
    once: rows of an embedding that no batch has had yet, say. Use `SGD` for
    those.

    Plain `SGD` on small batches does not keep zeros at zero, as each batch
    brings some back: give it momentum.

    In a custom training loop compile the model with it all the same, take the
    gradient of a loss with `sum(model.losses)`, and have it apply the
    gradients. If a model trains its parts by several optimizers, as a GAN does,
    make each an attribute of it, and compile the part with its own.

    Reference:
        Yun, Lozano & Yang, *Adaptive Proximal Gradient Methods for Structured
        Neural Networks*, NeurIPS 2021. Parikh & Boyd, *Proximal Algorithms*,
        Foundations and Trends in Optimization 1 (2014).

    Args:
        optimizer: `SGD`, `Adam`, `AdamW`, `Nadam`, `RMSprop` or `Adagrad` of
            Keras, or one of them in a `DecoupledWeightDecay`.
        name: String, the optimizer's name. Defaults to one that Keras makes.

    Attributes:
        inner_optimizer: The optimizer that is wrapped.
        takes_proximal_steps: `True`, by which penalties recognize it.

    Raises:
        TypeError: If `optimizer` is no optimizer of Keras.
        ValueError: If it is another than these, keeps averages of the weights
            (`use_ema`), or has a `Proximal` inside. When built: if no model is
            compiled with it, no weight has a penalty with a proximal step, or a
            weight has a sum of penalties that has none, or Keras's own `L1`.

    Example:

    >>> import keras, l2keras
    >>> dense = keras.layers.Dense(
    ...     3, kernel_initializer="ones", kernel_regularizer=l2keras.L1(10.0)
    ... )
    >>> model = keras.Sequential([keras.Input((4,)), dense])
    >>> model.compile(l2keras.Proximal(keras.optimizers.SGD(0.1)), "mse")
    >>> history = model.fit(ops.ones((8, 4)), ops.ones((8, 3)), verbose=0)
    >>> float(ops.max(ops.abs(dense.kernel)))
    0.0
    """

    takes_proximal_steps = True

    def __init__(
        self,
        optimizer: keras.optimizers.Optimizer,
        name: str | None = None,
    ) -> None:
        super().__init__(optimizer, name=name)
        self._weights: dict[Any, Weight] = {}
        self._model: Callable[[], keras.Model | None] = lambda: None
        self._sums_of_lengths: dict[Any, keras.Variable] = {}
        self._was_checked = False

    @property
    def _lengths(self) -> StepLengths:
        return StepLengths(self.innermost_optimizer, self._sums_of_lengths)

    @property
    def added_variables(self) -> list[keras.Variable]:
        """The variables that were added to the innermost optimizer."""
        return self._lengths.variables

    def check_inner(self, optimizer: Any) -> None:
        super().check_inner(optimizer)
        if wrapper.find(optimizer, Proximal) is not None:
            raise ValueError(
                "Argument `optimizer` must not be a `Proximal`, nor wrap one: "
                "each step would be taken twice."
            )
        innermost = wrapper.chain(optimizer)[-1]
        if not step_lengths.is_known(innermost):
            raise ValueError(
                "`Proximal` must know how far the optimizer moves each weight, "
                "and knows it of Keras's "
                f"{step_lengths.known_names()}. Received: "
                f"{type(innermost).__name__}"
            )
        if innermost.use_ema:
            raise ValueError(
                "The optimizer must not put averages in place of the weights: "
                "a weight that is zero now was not so always, and its average "
                "is not. Make it with `use_ema=False`. Received: "
                f"{type(innermost).__name__}(use_ema=True)"
            )

    def build(self, variables: list[keras.Variable]) -> None:
        self.check_inner(self.inner_optimizer)  # It may have been changed.
        if variables:  # None at all when Keras loads a model from HDF5.
            model, found = stepped_weights.find(self, variables)
            self._model = weakref.ref(model)
            self._weights = {
                self.variable_key(weight.variable): weight for weight in found
            }
        was_built = self.built
        super().build(variables)
        if not was_built:
            self._lengths.build(variables)

    def around_update(
        self,
        update: Callable[[], None],
        variables: list[keras.Variable],
        learning_rate: Tensor,
    ) -> None:
        """Makes the update, and the proximal steps after it."""
        update()
        learning_rate = precision.at_least_float32(
            ops.convert_to_tensor(learning_rate)
        )
        self._lengths.note_update(variables, learning_rate)
        for variable, terms, thresholds in self._steps(
            variables, lambda weight: self._lengths.of(weight, learning_rate)
        ):
            origins = _origins(terms)
            backend.update(
                functools.partial(_updated, terms, origins),
                [variable],
                *([each] for each in [*thresholds, *_tensors(origins)]),
            )

    def _steps(
        self, variables: list[Any], length_of: Callable[[Any], Tensor]
    ) -> list[tuple[Any, list[ProximalTerm], list[Tensor]]]:
        """The variables that take steps, with their terms and thresholds."""
        # The weights may have got other regularizers since they were found.
        found = [
            (variable, terms)
            for variable in variables
            if (weight := self._weights.get(self.variable_key(variable)))
            and (terms := terms_on(weight))
        ]
        strengths = iter(
            strengths_at_update(
                self._model(),
                self.iterations,
                [
                    strength
                    for _, terms in found
                    for term in terms
                    for strength in term.strengths
                ],
            )
        )
        steps = []
        for variable, terms in found:
            length = length_of(variable)
            thresholds = []
            for term in terms:
                first, *more = (
                    multiplied(next(strengths), length) for _ in term.strengths
                )
                thresholds.append(sum(more, start=first))
            steps.append((variable, terms, thresholds))
        return steps

    def finalize_variable_values(self, var_list: Any) -> None:
        """Ends training, as Keras's optimizers do."""
        self.inner_optimizer.finalize_variable_values(var_list)
        if not self._was_checked and self.built:
            self._was_checked = True
            self._warn_of_short_steps()

    def _warn_of_short_steps(self) -> None:
        counter = optimizer_hooks.counter(self.innermost_optimizer)
        if sys.exc_info()[0] is not None or not trainer_hooks.is_readable(
            counter.variable
        ):
            return  # Training has failed, which has reasons of its own.
        updates = counter.number()
        for variable, terms, thresholds in self._steps(
            [weight.variable for weight in self._weights.values()],
            lambda weight: self._lengths.mean(weight, updates),
        ):
            if any(term.start is not None for term in terms):
                continue  # These weights are not pulled to zero.
            if not any(float(ops.max(threshold)) for threshold in thresholds):
                continue  # A schedule is at zero.
            proximal_warnings.warn_if_nothing_is_zero(
                self._weights[self.variable_key(variable)].path,
                ops.convert_to_tensor(variable),
                functools.partial(_stepped_at_once, terms, thresholds),
                updates,
            )


def _stepped_at_once(
    terms: list[ProximalTerm],
    thresholds: list[Tensor],
    weights: Tensor,
    times: float,
) -> Tensor:
    """The weights after so many steps, taken as one."""
    return stepped(terms, weights, [t * times for t in thresholds])


def _origins(terms: list[ProximalTerm]) -> list[Origin | None]:
    """The origins of the terms' starts now, `None` for those that have none."""
    starts = [term.start for term in terms]
    with readable([state for each in starts if each for state in each.states]):
        return [None if each is None else each.origin() for each in starts]


def _tensors(origins: list[Origin | None]) -> list[Tensor]:
    return [
        value
        for origin in origins
        if origin is not None
        for value in origin
        if value is not None
    ]


def _updated(
    terms: list[ProximalTerm],
    origins: list[Origin | None],
    weights: Tensor,
    *given: Tensor,
) -> Tensor:
    """The weights after the steps.

    Args:
        terms: The terms.
        origins: Their origins, to know which there are. The values are given,
            since on TensorFlow each replica of a strategy has its own.
        weights: The weights before.
        given: The thresholds, and after them the values of the origins.
    """
    values = iter(given[len(terms) :])
    own = [
        None
        if origin is None
        else Origin(*(None if v is None else next(values) for v in origin))
        for origin in origins
    ]
    return stepped(terms, weights, given[: len(terms)], own)
