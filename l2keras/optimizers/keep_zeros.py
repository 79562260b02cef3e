"""Zeros that stay: a weight that is zero is left zero by every update."""

from collections.abc import Callable

import keras
from keras import ops

from l2keras._keras.backend import backend
from l2keras._types import Tensor
from l2keras.optimizers.selected_weights import SelectsWeights


@keras.saving.register_keras_serializable(package="l2keras")
class KeepZeros(SelectsWeights):
    """Keeps elements of weights zero once they are zero, under any optimizer.

    Each update `u` of the optimizer that is wrapped becomes

        w <- where(w == 0, 0, w - u)

    for the kernels of the model. So a sparse network can be trained further:
    with `L1` or `GroupLasso` under `Proximal` a penalty chooses the weights,
    and then they are fitted without the penalty, which shrinks those that stay
    (the relaxed lasso). Momentum, moving averages and decoupled weight decay
    leave zeros alone as well.

    There is no mask to be saved or to be loaded: the zeros of the weights are
    the mask. An element that an update takes to exactly zero stays zero, too.
    Therefore biases, which begin with zeros, are trained unless a rule names
    them, and a warning names each weight that is all zeros when the optimizer
    is built: with a kernel initializer of zeros it would never be trained.

    Around `Proximal` and `DecoupledWeightDecay` it goes outside. In a
    `LossScaleOptimizer` or a `MultiOptimizer` of Keras it goes inside.

    Reference:
        Meinshausen, *Relaxed Lasso*, Computational Statistics & Data Analysis
        52, 2007.

    Args:
        optimizer: A `keras.optimizers.Optimizer`, such as
            `keras.optimizers.Adam(0.001)`.
        rules: Dictionary from the path of a weight, or a regular expression for
            some, to a boolean: whether its zeros stay. Defaults to `None`, no
            rules.
        default: Boolean, whether the zeros of the kernels stay that no rule
            names. Kernels are weights of two or more dimensions but for biases,
            embeddings and weights of normalization layers. Defaults to `True`.
        name: String, the optimizer's name. Defaults to one that Keras makes.

    Attributes:
        inner_optimizer: The optimizer that is wrapped.

    Raises:
        TypeError: If `optimizer` is no optimizer of Keras, or a value is no
            boolean.
        ValueError: If the optimizer is a wrapper of Keras's or made of several.
            When built: if no model is found, a pattern matches no weight that
            is trained, or two match one.

    Example:

    >>> import keras, l2keras, numpy as np
    >>> dense = keras.layers.Dense(1, use_bias=False)
    >>> model = keras.Sequential([keras.Input((3,)), dense])
    >>> dense.set_weights([np.array([[1.0], [0.0], [2.0]])])
    >>> model.compile(l2keras.KeepZeros(keras.optimizers.Adam(0.1)), "mse")
    >>> history = model.fit(np.ones((8, 3)), np.ones(8), verbose=0)
    >>> dense.get_weights()[0][:, 0] == 0
    array([False,  True, False])
    """

    purpose = "keep its zeros"

    def kept(self, model: keras.Model) -> list[str]:
        """The paths of the weights whose zeros stay.

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
        """Makes the update, and sets the zeros back."""
        kept = self.selected_of(variables)
        are_zero = [
            ops.equal(ops.convert_to_tensor(variable), 0) for variable in kept
        ]
        update()
        if kept:
            backend.update(_with_zeros, kept, are_zero)


def _with_zeros(new: Tensor, is_zero: Tensor) -> Tensor:
    return ops.where(is_zero, ops.zeros_like(new), new)
