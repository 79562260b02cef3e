"""An optimizer's update as a pure function of values.

`Optimizer.stateless_apply` is such a function on JAX only: on TensorFlow and
PyTorch Keras's optimizers have methods that change native variables in place.
Below those lies Keras's general code, the same on all backends, which changes
Keras variables and so can be computed in a `keras.StatelessScope`. A functional
twin of an optimizer is that optimizer with the general code only.
"""

import contextlib
import contextvars
from collections.abc import Iterator, Sequence
from typing import Any

import keras
from keras import ops

from l2keras._keras import optimizer_hooks
from l2keras._types import Tensor

_is_pure: contextvars.ContextVar[bool] = contextvars.ContextVar(
    "is_pure", default=False
)


def is_pure() -> bool:
    """Tells whether all variables have values of a stateless scope here."""
    return _is_pure.get()


# The learning rate of an update, where it is computed beforehand.
_given_rate: contextvars.ContextVar[Any] = contextvars.ContextVar(
    "given_rate", default=None
)


@contextlib.contextmanager
def learning_rate_given(rate: Tensor | None) -> Iterator[None]:
    """Has functional twins take this learning rate inside, if there is one."""
    token = _given_rate.set(rate)
    try:
        yield
    finally:
        _given_rate.reset(token)


@contextlib.contextmanager
def pure_scope(
    values: Sequence[tuple[keras.Variable, Tensor]],
) -> Iterator[keras.StatelessScope]:
    """Gives all variables that are read or changed inside their values."""
    token = _is_pure.set(True)
    try:
        with keras.StatelessScope(state_mapping=list(values)) as scope:
            yield scope
    finally:
        _is_pure.reset(token)


def functional_twin(optimizer: Any) -> Any:
    """A built optimizer, with the same variables, that works in `pure_scope`.

    Optimizers that it wraps are twins as well.
    """
    # Neither `copy.copy` nor `deepcopy`, for which Keras saves to a file; nor
    # `setattr`, which would track the variables as new ones.
    twin: Any = object.__new__(_twin_class(type(optimizer)))
    vars(twin).update(vars(optimizer))
    inner = vars(optimizer).get("inner_optimizer")
    if inner is not None:
        vars(twin)["inner_optimizer"] = functional_twin(inner)
    if optimizer_hooks.is_update_step_prepared(
        vars(twin).pop("_backend_update_step", None)
    ):
        optimizer_hooks.allow_around_updates(twin)
    innermost = optimizer_hooks.chain(optimizer)[-1]
    vars(twin)["_keys"] = {
        id(variable): optimizer_hooks.variable_key(innermost, variable)
        for variable in innermost._trainable_variables
    }
    return twin


def _twin_class(cls: type) -> type:
    """A class derived from an optimizer's, with the general code only.

    It goes between the class and that of the backend in the order in which
    methods are looked up, so that `super()` in the optimizer finds it too.
    """
    root, _, _ = keras.optimizers.Optimizer.__module__.partition(".optimizers")

    def is_of_backend(base: type) -> bool:
        name = f"{root}.backend.{keras.backend.backend()}."
        return base.__module__.startswith(name)

    # On PyTorch, Keras derives classes from its own, for speed.
    public = next(base for base in cls.__mro__ if not is_of_backend(base))
    special = [base for base in public.__mro__ if is_of_backend(base)]
    below = public.__mro__[public.__mro__.index(special[0]) :]
    general = {
        name: vars(base)[name]
        for base in reversed(below)
        if not is_of_backend(base)
        for name in vars(base)
        if not name.startswith("__")
        and any(name in vars(other) for other in special)
    }
    meta = type(cls)
    shim = meta("General", (special[0],), general)
    shim = meta("Functional", (_Functional, shim), {})
    return meta(
        public.__name__, (public, shim), {"__module__": public.__module__}
    )


class _Functional:
    """Mixed into an optimizer: the keys of weights, and no conditions.

    Keras's general code accumulates gradients, and puts averages in place of
    weights, in the branches of `ops.cond`. Branches that change variables
    cannot be traced with their scope, so here both are computed.
    """

    def _var_key(self, variable: Any) -> Any:
        # Where a variable has another value, TensorFlow's key is not found.
        return self._keys.get(id(variable), id(variable))  # type: ignore[attr-defined]

    def _get_current_learning_rate(self) -> Any:
        rate = _given_rate.get()
        if rate is not None:
            return rate
        return super()._get_current_learning_rate()  # type: ignore[misc]

    def _backend_apply_gradients(
        self: Any, grads: Any, trainable_variables: Any
    ) -> None:
        steps = self.gradient_accumulation_steps
        if steps:
            is_update = ops.equal((self._iterations + 1) % steps, 0)
            sums = [
                self._accumulated_gradients[self._get_variable_index(weight)]
                for weight in trainable_variables
            ]
            totals = [g + s for g, s in zip(grads, sums, strict=True)]
            grads = [total / steps for total in totals]
            before = [
                (variable, variable.value)
                for variable in (*trainable_variables, *self.variables)
            ]
        grads = self._clip_gradients(grads)
        self._apply_weight_decay(trainable_variables)
        self._backend_update_step(
            grads, trainable_variables, self.learning_rate
        )
        if steps:
            for variable, old in before:
                variable.assign(ops.where(is_update, variable.value, old))
            for variable, total in zip(sums, totals, strict=True):
                variable.assign(
                    ops.where(is_update, ops.zeros_like(total), total)
                )
        if self.use_ema:
            self._update_model_variables_moving_average(
                self._trainable_variables
            )
            if self.ema_overwrite_frequency:
                is_due = ops.equal(
                    (self.iterations + 1) % self.ema_overwrite_frequency, 0
                )
                for variable, average in zip(
                    self._trainable_variables,
                    self._model_variables_moving_average,
                    strict=True,
                ):
                    if average is not None:
                        variable.assign(
                            ops.where(is_due, average.value, variable.value)
                        )
