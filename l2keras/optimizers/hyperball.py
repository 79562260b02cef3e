"""Weights whose norm stays: only their direction is trained."""

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from l2keras._keras.backend import backend
from l2keras._types import Tensor
from l2keras.optimizers import decayed_weights, wrapper
from l2keras.optimizers.proximal import Proximal
from l2keras.optimizers.selected_weights import SelectsWeights


@keras.saving.register_keras_serializable(package="l2keras")
class Hyperball(SelectsWeights):
    """Keeps the norm of each kernel, under any optimizer, in place of decay.

    Under weight decay the norm of a kernel comes to rest where decay and
    updates balance, and the two decide together how fast its direction turns.
    Here the norm stays what it is, and the learning rate alone says how fast:
    it is the length of an update, in parts of the norm. Of an update `u` of the
    wrapped optimizer there is only the direction left, and with the norm
    `r = ||w||` and `N(a) = a / ||a||`, over all elements of a kernel,

        w <- r * N(w - learning_rate * r * N(u))

    So a learning rate of 0.01 turns a kernel by about 0.01 radians at each
    update, however small its gradient is: let a schedule take it towards zero.

    The norm is that before the update, so it is the initial one unless others
    change the weights: `set_weights`, a constraint, an average that overwrites
    them. `u` is the difference that the wrapped optimizer makes to the weights,
    decoupled weight decay included. Should that be lost in rounding, as of
    `SGD` with gradients that are small beyond 1e-7 of the weights, then so is
    its direction. Other weights are trained as by the wrapped optimizer.

    Round `KeepZeros` and `DecoupledWeightDecay` it goes outside. In a
    `LossScaleOptimizer` or a `MultiOptimizer` of Keras it goes inside.

    Reference:
        Wen et al., *Fantastic Pretraining Optimizers and Where to Find Them II:
        Hyperball Optimization*, 2026.

    Args:
        optimizer: A `keras.optimizers.Optimizer` without weight decay of its
            own, such as `keras.optimizers.Adam(0.01)`.
        rules: Dictionary from the path of a weight, or a regular expression for
            some, to a boolean: whether its norm stays. Defaults to `None`, no
            rules.
        default: Boolean, whether the norms of the kernels stay that no rule
            names. Kernels are weights of two or more dimensions but for biases,
            embeddings and weights of normalization layers. Defaults to `True`.
        name: String, the optimizer's name. Defaults to one that Keras makes.

    Attributes:
        inner_optimizer: The optimizer that is wrapped.

    Raises:
        TypeError: If `optimizer` is no optimizer of Keras, or a value is no
            boolean.
        ValueError: If the optimizer decays weights itself, computes them anew
            from states of its own (`Ftrl`, `ScheduleFreeAdamW`), is or wraps a
            `Proximal`, is a wrapper of Keras's or made of several. When built:
            if no model is found, a pattern matches no weight that is trained,
            or two match one.

    Example:

    >>> import keras, l2keras, numpy as np
    >>> dense = keras.layers.Dense(1, use_bias=False)
    >>> model = keras.Sequential([keras.Input((2,)), dense])
    >>> dense.set_weights([np.array([[3.0], [4.0]])])
    >>> model.compile(l2keras.Hyperball(keras.optimizers.Adam(0.1)), "mse")
    >>> history = model.fit(np.ones((8, 2)), np.ones(8), verbose=0)
    >>> round(float(np.linalg.norm(dense.get_weights()[0])), 4)
    5.0
    """

    purpose = "keep its norm"
    is_outermost = True

    def check_inner(self, optimizer: Any) -> None:
        super().check_inner(optimizer)
        if wrapper.find(optimizer, Proximal) is not None:
            raise ValueError(
                "`Hyperball` keeps the norms that proximal steps make smaller: "
                "the two cannot be combined. Leave one of them out, or give "
                "them different weights in a `keras.optimizers.MultiOptimizer`."
            )
        _check_innermost(wrapper.chain(optimizer)[-1])

    def build(self, variables: list[keras.Variable]) -> None:
        # It may have been changed since.
        _check_innermost(self.innermost_optimizer)
        super().build(variables)

    def kept(self, model: keras.Model) -> list[str]:
        """The paths of the weights whose norms stay.

        Args:
            model: The model to be trained.

        Raises:
            TypeError: If `model` is no Keras model.
            ValueError: If it is not built, or the rules do not fit it.
        """
        return self.selected_paths(model)

    def around_update(
        self,
        update: Callable[[], None],
        variables: list[keras.Variable],
        learning_rate: Tensor,
    ) -> None:
        """Makes the update, and takes its direction alone."""
        kept = self.selected_of(variables)
        before = [
            # Copies, as PyTorch updates in place.
            ops.copy(ops.convert_to_tensor(variable))
            for variable in kept
        ]
        update()
        if kept:
            rate = ops.convert_to_tensor(learning_rate)
            backend.update(_turned, kept, before, [rate] * len(kept))


def _turned(new: Tensor, old: Tensor, learning_rate: Tensor) -> Tensor:
    dtype = keras.backend.standardize_dtype(new.dtype)
    # Squares of float16 overflow.
    wide = dtype if dtype == "float64" else "float32"
    new, old, learning_rate = (
        ops.cast(each, wide) for each in (new, old, learning_rate)
    )
    update, radius = old - new, _norm(old)
    moved = old - update * _ratio(learning_rate * radius, _norm(update))
    return ops.cast(moved * _ratio(radius, _norm(moved)), dtype)


def _norm(weights: Tensor) -> Tensor:
    return ops.sqrt(ops.sum(ops.square(weights)))


def _ratio(numerator: Tensor, norm: Tensor) -> Tensor:
    """The ratio, 0 where the norm is zero: there is no direction then."""
    one, zero = ops.ones_like(norm), ops.zeros_like(norm)
    return ops.where(norm > 0, numerator / ops.where(norm > 0, norm, one), zero)


def _check_innermost(optimizer: keras.optimizers.Optimizer) -> None:
    name = type(optimizer).__name__
    # `Muon` has an `adam_weight_decay` too.
    for argument in ("weight_decay", "adam_weight_decay"):
        decay = getattr(optimizer, argument, None)
        if decay:
            raise ValueError(
                "The optimizer must not decay weights itself: `Hyperball` "
                f"keeps their norms. Make it with `{argument}=0.0`, and let "
                "other weights decay by `Hyperball(DecoupledWeightDecay("
                f"optimizer, rules))`. Received: {name}({argument}={decay!r})"
            )
    if not decayed_weights.keeps_changes(optimizer):
        raise ValueError(
            f"`{name}` computes the weights anew at each update from states of "
            "its own, so their norms would not stay. Take another optimizer. "
            f"Received: {name}(...)"
        )
