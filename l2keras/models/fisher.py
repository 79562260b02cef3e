"""How much the data loss depends on each weight."""

from collections.abc import Callable
from typing import Any, TypeAlias

import keras
import numpy as np
import numpy.typing as npt
from keras import ops

from l2keras import _validation
from l2keras._types import Tensor
from l2keras.weights.survey import Survey

Loss: TypeAlias = Callable[[Tensor, Tensor], Tensor]

# The sums over the examples of a batch, a tensor for each variable.
SumsOfSquares: TypeAlias = Callable[[Any, Any], list[Tensor]]


def fisher_importance(
    model: keras.Model,
    x: Any,
    y: Any,
    loss: Any = None,
    *,
    batch_size: int = 32,
    verbose: bool = False,
) -> dict[str, npt.NDArray[np.float32]]:
    """Returns how much the data loss depends on each weight, by path.

    That is, for each element, the mean over the examples of the square of the
    data loss's gradient: the diagonal of the empirical Fisher information,
    where the loss is a negative log-likelihood. Given to `set_start`, weights
    that the old task needs are held, and others are free (elastic weight
    consolidation):

        importance = l2keras.fisher_importance(model, x, y)
        l2keras.set_start(model, importance=importance)

    The model is called as in evaluation, without dropout. Gradients are those
    of single examples, so it takes about as long as an epoch in batches of 1.

    Reference:
        Kirkpatrick et al., *Overcoming catastrophic forgetting in neural
        networks*, PNAS 114 (2017).

    Args:
        model: A built Keras model with one output.
        x: Inputs: an array, or a structure of such.
        y: Targets, an array.
        loss: A loss as `model.compile` takes it, or `None` for the one that
            the model is compiled with. Defaults to `None`.
        batch_size: Integer >= 1, how many examples compiled code is handed at
            once. Defaults to `32`.
        verbose: Whether to show the progress. Defaults to `False`.

    Returns:
        Dictionary from path to an array like the weight, in float32, for each
        weight that is trained now.

    Raises:
        TypeError: If `model` is not a Keras model.
        ValueError: If it is not built, there is no loss or are several, or
            there are no examples.

    Example:

    >>> import keras, l2keras
    >>> dense = keras.layers.Dense(1, kernel_initializer="zeros", name="dense")
    >>> model = keras.Sequential([keras.Input((2,)), dense])
    >>> found = l2keras.fisher_importance(
    ...     model, np.array([[1.0, 0.0]]), np.array([[3.0]]), "mse"
    ... )
    >>> found["dense/kernel"].tolist(), found["dense/bias"].tolist()
    ([[36.0], [0.0]], [36.0])
    """
    survey = Survey.of(model)
    batch_size = _validation.check_integer(batch_size, "batch_size", minimum=1)
    x, y = keras.tree.map_structure(np.asarray, (x, y))
    examples = len(keras.tree.flatten(y)[0])
    if not examples or any(
        len(each) != examples for each in keras.tree.flatten(x)
    ):
        raise ValueError(
            "Arguments `x` and `y` must have the same number of examples, and "
            f"at least one. Received: {examples} in `y`"
        )
    weights = [w for w in survey.trained if w.variable.trainable]
    sums_of_squares = _sums_of_squares(
        model, _loss(model, loss), [weight.variable for weight in weights]
    )
    totals = [np.zeros(weight.variable.shape) for weight in weights]
    progress = keras.utils.Progbar(examples, verbose=int(verbose))
    for first in range(0, examples, batch_size):
        batch = keras.tree.map_structure(
            lambda array, first=first: ops.convert_to_tensor(
                array[first : first + batch_size]
            ),
            (x, y),
        )
        for total, sums in zip(totals, sums_of_squares(*batch), strict=True):
            total += ops.convert_to_numpy(sums)
        progress.update(min(first + batch_size, examples))
    return {
        weight.path: (total / examples).astype("float32")
        for weight, total in zip(weights, totals, strict=True)
    }


def _loss(model: keras.Model, loss: Any) -> Loss:
    """The loss of targets and outputs, as one number.

    Raises:
        ValueError: If there is none, or are several.
    """
    given = getattr(model, "loss", None) if loss is None else loss
    if given is None or isinstance(given, list | tuple | dict):
        raise ValueError(
            "There must be one loss. Compile the model with it, or give "
            f"`loss`. Received: loss={given!r}"
        )
    function = keras.losses.get(given)
    return lambda y, y_pred: ops.mean(function(y, y_pred))


def _sums_of_squares(
    model: keras.Model, loss: Loss, variables: list[keras.Variable]
) -> SumsOfSquares:
    """The function that sums squares of gradients over a batch's examples."""
    return {
        "jax": _in_jax,
        "tensorflow": _in_tensorflow,
        "torch": _in_torch,
    }[keras.backend.backend()](model, loss, variables)


def _in_jax(
    model: keras.Model, loss: Loss, variables: list[keras.Variable]
) -> SumsOfSquares:
    import jax

    trainable = [each.value for each in model.trainable_variables]
    others = [each.value for each in model.non_trainable_variables]
    places = {id(each): i for i, each in enumerate(model.trainable_variables)}

    def loss_of(trainable: Any, others: Any, x: Any, y: Any) -> Any:
        x, y = keras.tree.map_structure(lambda each: each[None], (x, y))
        outputs, _ = model.stateless_call(trainable, others, x, training=False)
        return loss(y, outputs)

    @jax.jit
    def sums(trainable: Any, others: Any, x: Any, y: Any) -> Any:
        def add(sums: Any, example: Any) -> Any:
            slopes = jax.grad(loss_of)(trainable, others, *example)
            return [s + g**2 for s, g in zip(sums, slopes, strict=True)], None

        zeros = [jax.numpy.zeros_like(each) for each in trainable]
        return jax.lax.scan(add, zeros, (x, y))[0]

    def of_batch(x: Any, y: Any) -> list[Tensor]:
        found = sums(trainable, others, x, y)
        return [found[places[id(each)]] for each in variables]

    return of_batch


def _in_tensorflow(
    model: keras.Model, loss: Loss, variables: list[keras.Variable]
) -> SumsOfSquares:
    import tensorflow as tf

    values = [each.value for each in variables]

    @tf.function(reduce_retracing=True)
    def sums(x: Any, y: Any) -> Any:
        def add(sums: Any, example: Any) -> Any:
            x, y = keras.tree.map_structure(lambda each: each[None], example)
            with tf.GradientTape() as tape:
                value = loss(y, model(x, training=False))
            slopes = tape.gradient(value, values, unconnected_gradients="zero")
            return [
                s + tf.square(tf.convert_to_tensor(g))
                for s, g in zip(sums, slopes, strict=True)
            ]

        zeros = [tf.zeros_like(each) for each in values]
        return tf.foldl(add, (x, y), initializer=zeros)

    return sums


def _in_torch(
    model: keras.Model, loss: Loss, variables: list[keras.Variable]
) -> SumsOfSquares:
    import torch

    values = [each.value for each in variables]

    def sums(x: Any, y: Any) -> list[Tensor]:
        found = [torch.zeros_like(each) for each in values]
        for index in range(len(y)):
            one_x, one_y = keras.tree.map_structure(
                lambda each, index=index: each[index : index + 1], (x, y)
            )
            value = loss(one_y, model(one_x, training=False))
            slopes = torch.autograd.grad(value, values, allow_unused=True)
            for total, slope in zip(found, slopes, strict=True):
                if slope is not None:
                    total += slope.detach() ** 2
        return found

    return sums
