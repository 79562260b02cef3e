"""The base of optimizers that wrap another, to act past the gradient.

Wrappers have the attributes of the optimizer inside, are saved with it, and act
around its updates. They can wrap one another, in any order, and go inside
Keras's `LossScaleOptimizer` or as one of several into its `MultiOptimizer`.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, Self, TypeVar

import keras

from l2keras._keras import optimizer_hooks
from l2keras._keras.optimizer_hooks import OfInnerOptimizer
from l2keras._keras.optimizer_hooks import chain as chain
from l2keras._types import Tensor

_Wrapper = TypeVar("_Wrapper", bound="OptimizerWrapper")


class OptimizerWrapper(
    optimizer_hooks.SharesVariables, keras.optimizers.Optimizer
):
    """An optimizer that acts around each update of another.

    A subclass defines `around_update`; `build` if it has to know the variables
    beforehand; `check_inner` if it cannot wrap every optimizer. Its constructor
    takes `optimizer` and `name`, and `get_config` adds its further arguments to
    those here: `from_config` makes objects of all that is a dictionary.

    All else belongs to the wrapped optimizer: variables, step, learning rate,
    clipping, averages, and the state, which is all that is saved as such:
    weight files with a wrapper that adds no variables are the same as without.
    Attributes of some optimizers only, such as `beta_1`, are found at
    `inner_optimizer`.

    State of a wrapper's own is made in `build`, the first time, by
    `add_variable`, which makes it a variable of the innermost optimizer. Only
    there is it safe: on JAX, Keras computes each update, and undoes it while
    gradients accumulate, for the variables of the optimizer that accumulates.
    It is changed by `backend.update`, as weights are, which TensorFlow's
    distribution strategies require.

    Args:
        optimizer: A `keras.optimizers.Optimizer`, such as
            `keras.optimizers.Adam(0.001)`, or another wrapper of l2keras.
        name: String, the optimizer's name. Defaults to one that Keras makes.

    Attributes:
        inner_optimizer: The optimizer that is wrapped.

    Raises:
        TypeError: If `optimizer` is no optimizer of Keras.
        ValueError: If it is a wrapper of Keras, or made of several optimizers.
    """

    def __init__(
        self,
        optimizer: keras.optimizers.Optimizer,
        name: str | None = None,
    ) -> None:
        self.check_inner(optimizer)
        # The variables that it makes are never used.
        super().__init__(learning_rate=0.0, name=name)
        self.inner_optimizer = optimizer

    is_outermost = False
    """Whether no other wrapper of l2keras may go round it."""

    # Arguments that Keras's optimizers have in common.
    learning_rate = OfInnerOptimizer()
    weight_decay = OfInnerOptimizer()
    clipnorm = OfInnerOptimizer()
    clipvalue = OfInnerOptimizer()
    global_clipnorm = OfInnerOptimizer()
    use_ema = OfInnerOptimizer()
    ema_momentum = OfInnerOptimizer()
    ema_overwrite_frequency = OfInnerOptimizer()
    loss_scale_factor = OfInnerOptimizer()
    gradient_accumulation_steps = OfInnerOptimizer()

    # Attributes and methods that Keras reads and calls.
    iterations = OfInnerOptimizer()
    variables = OfInnerOptimizer()
    scale_loss = OfInnerOptimizer()
    finalize_variable_values = OfInnerOptimizer()
    exclude_from_weight_decay = OfInnerOptimizer()
    add_variable = OfInnerOptimizer()
    add_variable_from_reference = OfInnerOptimizer()
    add_optimizer_variables = OfInnerOptimizer()
    set_weights = OfInnerOptimizer()
    save_own_variables = OfInnerOptimizer()
    load_own_variables = OfInnerOptimizer()

    def check_inner(self, optimizer: Any) -> None:
        """Raises an error unless an optimizer can be wrapped."""
        if not isinstance(optimizer, keras.optimizers.Optimizer):
            raise TypeError(
                "Argument `optimizer` must be an optimizer of Keras, as an "
                "instance such as `keras.optimizers.Adam(0.001)`. "
                f"Received: optimizer={optimizer!r} "
                f"(of type {type(optimizer).__name__})"
            )
        own, name = type(self).__name__, type(optimizer).__name__
        if isinstance(optimizer, OptimizerWrapper):
            if optimizer.is_outermost:
                raise ValueError(
                    f"`{name}` must be the outermost of the wrappers: "
                    f"`{name}({own}(optimizer, ...))`. Received: "
                    f"optimizer={name}(...)"
                )
            return
        if hasattr(optimizer, "inner_optimizer"):
            raise ValueError(
                "Argument `optimizer` must not wrap another. Wrap the inner "
                f"one: `{name}({own}(optimizer, ...))`. Received: "
                f"optimizer={name}(...)"
            )
        if hasattr(optimizer, "optimizers"):
            raise ValueError(
                "Argument `optimizer` must not be made of several. Wrap those "
                f"of them that `{own}` is for. Received: optimizer={name}(...)"
            )

    @property
    def innermost_optimizer(self) -> keras.optimizers.Optimizer:
        """The optimizer that makes the updates, below all wrappers."""
        return chain(self)[-1]

    @property
    def added_variables(self) -> list[keras.Variable]:
        """The variables that were added to the innermost optimizer."""
        return []

    def around_update(
        self,
        update: Callable[[], None],
        variables: list[keras.Variable],
        learning_rate: Tensor,
    ) -> None:
        """Makes an update of the optimizer that is wrapped.

        Called in compiled code, once for each change of the weights: not for
        gradients that are accumulated only, and not where a loss scale skips
        the step. Gradients are clipped by then; constraints and moving averages
        come after.

        Args:
            update: Makes the update, with the parts of the wrappers inside.
                Afterwards `innermost_optimizer` has the state that follows.
            variables: The variables that have gradients, of Keras or of
                TensorFlow: compare them by `variable_key`.
            learning_rate: The learning rate of this update. `iterations` is the
                number of updates before it.
        """
        update()

    def variable_key(self, variable: Any) -> Any:
        """The key by which the optimizer looks a variable up."""
        return optimizer_hooks.variable_key(self, variable)

    def build(self, variables: list[keras.Variable]) -> None:
        # Not that of Keras, which would make averages and accumulators again.
        if not self.inner_optimizer.built:
            self.inner_optimizer.build(variables)
        optimizer_hooks.allow_around_updates(self.innermost_optimizer)
        self.built = True

    def apply(self, grads: Any, trainable_variables: Any = None) -> None:
        if trainable_variables is not None:
            trainable_variables = list(trainable_variables)
        with self._updating(grads, trainable_variables):
            self.inner_optimizer.apply(grads, trainable_variables)

    def apply_gradients(self, grads_and_vars: Any) -> Any:
        grads_and_vars = list(grads_and_vars)
        grads = [gradient for gradient, _ in grads_and_vars]
        with self._updating(
            grads, [variable for _, variable in grads_and_vars]
        ):
            return self.inner_optimizer.apply_gradients(grads_and_vars)

    def stateless_apply(
        self, optimizer_variables: Any, grads: Any, trainable_variables: Any
    ) -> Any:
        with self._updating(grads, None):
            return self.inner_optimizer.stateless_apply(
                optimizer_variables, grads, trainable_variables
            )

    @contextlib.contextmanager
    def _updating(
        self, grads: Any, variables: list[keras.Variable] | None
    ) -> Iterator[None]:
        """Has the updates inside made by `around_update`."""
        if len(grads) == 0:  # Keras does nothing then.
            yield
            return
        if not self.built:
            if variables is None:
                raise ValueError(
                    f"`{type(self).__name__}` must be built before gradients "
                    "are applied without the variables that they belong to. "
                    "Call `optimizer.build(model.trainable_variables)` first."
                )
            self.build(variables)
        was_reached = False

        def around(
            update: Callable[[], None],
            variables: list[keras.Variable],
            learning_rate: Tensor,
        ) -> None:
            nonlocal was_reached
            was_reached = True
            self.around_update(update, variables, learning_rate)

        with optimizer_hooks.around_updates(around):
            yield
        if not was_reached and not self.gradient_accumulation_steps:
            name = type(self.innermost_optimizer).__name__
            raise RuntimeError(
                f"`{name}` was given gradients and did not call "
                "`update_step`, where Keras's optimizers make their updates. "
                f"So `{type(self).__name__}` had no part in its update. "
                "Define its `update_step`, or, if it wraps another optimizer, "
                f"wrap that one: `{name}({type(self).__name__}(optimizer, "
                "...))`. To accumulate gradients, give it "
                "`gradient_accumulation_steps`."
            )

    def __dir__(self) -> list[str]:
        # Keras saves every object with variables that `dir` names, but those of
        # the wrapped optimizer are saved as `variables` already.
        hidden = {"inner_optimizer", "innermost_optimizer"}
        return [name for name in super().__dir__() if name not in hidden]

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {
            "name": self.name,
            "optimizer": keras.saving.serialize_keras_object(
                self.inner_optimizer
            ),
        }

    @classmethod
    def from_config(
        cls, config: dict[str, Any], custom_objects: Any = None
    ) -> Self:
        """Returns the optimizer that `get_config` described."""
        return cls(
            **{
                # Objects of Keras, or dictionaries of such.
                name: keras.saving.deserialize_keras_object(
                    value, custom_objects=custom_objects
                )
                if isinstance(value, dict)
                else value
                for name, value in config.items()
            }
        )


def find(optimizer: Any, kind: type[_Wrapper]) -> _Wrapper | None:
    """The wrapper of a class in a chain, `None` if there is none."""
    return next(
        (link for link in chain(optimizer) if isinstance(link, kind)), None
    )


def unwrapped(optimizer: Any) -> Any:
    """An optimizer without the wrappers of l2keras round it and in it.

    Its state stays, and it is saved as if they had never been. One of Keras's
    that has others in it stays, with those unwrapped.
    """
    if not isinstance(optimizer, OptimizerWrapper):
        optimizer_hooks.replace_inner_optimizers(optimizer, unwrapped)
        return optimizer
    innermost = optimizer.innermost_optimizer
    optimizer_hooks.remove_variables(innermost, optimizer.added_variables)
    optimizer_hooks.forbid_around_updates(innermost)
    return unwrapped(optimizer.inner_optimizer)
