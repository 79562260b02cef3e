"""Conversions between weight decay, L2, and the timescale of AdamW.

Two things are called weight decay. *Coupled* weight decay adds `weight_decay *
w` to the gradient: it is L2 under another name, and PyTorch's `weight_decay` of
`SGD` and `Adam`. *Decoupled* weight decay takes `learning_rate * weight_decay *
w` off the weight, and no momentum or adaptive learning rate applies to it: that
of `AdamW`, and of every optimizer of Keras.
"""

from typing import Any

from l2keras import _validation

# Optimizers of PyTorch whose `weight_decay` is added to the gradient, as they
# are unless `decoupled_weight_decay=True`.
_COUPLED = (
    "sgd",
    "adam",
    "adadelta",
    "adagrad",
    "adamax",
    "nadam",
    "radam",
    "rmsprop",
)


def l2_from_weight_decay(weight_decay: float, optimizer: str = "sgd") -> float:
    """The L2 strength that is equivalent to a coupled weight decay.

    PyTorch adds `weight_decay * w` to the gradient, and the gradient of
    `l2 * sum w**2` is `2 * l2 * w`, so

        l2 = weight_decay / 2

    This holds for every optimizer: with momentum, and under the coupled decay
    of `Adam` too. Under plain SGD, and there only, it holds for decoupled decay
    as well.

    Reference:
        Loshchilov & Hutter, *Decoupled Weight Decay Regularization*, ICLR 2019,
        propositions 1 and 2: there is no such number for `AdamW`.

    Args:
        weight_decay: Finite number >= 0, PyTorch's argument.
        optimizer: Name of PyTorch's optimizer: one of `"sgd"`, `"adam"`,
            `"adadelta"`, `"adagrad"`, `"adamax"`, `"nadam"`, `"radam"` and
            `"rmsprop"`. Defaults to `"sgd"`.

    Raises:
        TypeError: If `weight_decay` is not a number.
        ValueError: If it is negative or not finite, or the optimizer's decay is
            decoupled, or not known.

    Example:

    >>> l2_from_weight_decay(0.02)
    0.01
    """
    _check_coupled(optimizer)
    return _validation.check_number(weight_decay, "weight_decay") / 2


def weight_decay_from_l2(l2: float, optimizer: str = "sgd") -> float:
    """The coupled weight decay that is equivalent to an L2 strength.

    The inverse of `l2_from_weight_decay`, and valid where that is:

        weight_decay = 2 * l2

    Reference:
        Loshchilov & Hutter, *Decoupled Weight Decay Regularization*, ICLR 2019,
        propositions 1 and 2: there is no such number for `AdamW`.

    Args:
        l2: Finite number >= 0, the argument of `keras.regularizers.L2` and
            `l2keras.L2`.
        optimizer: Name of PyTorch's optimizer: one of `"sgd"`, `"adam"`,
            `"adadelta"`, `"adagrad"`, `"adamax"`, `"nadam"`, `"radam"` and
            `"rmsprop"`. Defaults to `"sgd"`.

    Raises:
        TypeError: If `l2` is not a number.
        ValueError: If it is negative or not finite, or the optimizer's decay is
            decoupled, or not known.

    Example:

    >>> weight_decay_from_l2(0.01)
    0.02
    """
    _check_coupled(optimizer)
    return 2 * _validation.check_number(l2, "l2")


def weight_decay_from_timescale(
    timescale: float, learning_rate: float
) -> float:
    """The decoupled weight decay with a timescale of so many steps.

    Under AdamW the weights are an exponential moving average of the updates,
    over a timescale, in steps of the optimizer, of

        timescale = 1 / (learning_rate * weight_decay)

    The best timescale, in epochs, stays the same when the model or the data
    grow; the best weight decay does not. For 10 epochs give `10 *
    steps_per_epoch`. With a learning rate that changes, give its peak.

    Reference:
        Wang & Aitchison, *How to set AdamW's weight decay as you scale model
        and dataset size*, ICML 2025.

    Args:
        timescale: Finite number > 0, in steps of the optimizer.
        learning_rate: Finite number > 0.

    Raises:
        TypeError: If an argument is not a number.
        ValueError: If one is not finite or not positive.

    Example:

    >>> weight_decay_from_timescale(timescale=5_000, learning_rate=0.001)
    0.2
    """
    return 1 / (
        _validation.check_positive(learning_rate, "learning_rate")
        * _validation.check_positive(timescale, "timescale")
    )


def rescale_weight_decay(
    weight_decay: float,
    *,
    batch_size: float = 1.0,
    examples: float = 1.0,
    learning_rate: float = 1.0,
) -> float:
    """Returns the decoupled weight decay for a training of another size.

    As a share of the whole training, the timescale of AdamW is `batch_size /
    (learning_rate * weight_decay * examples)`, with `examples` all that are
    seen, each as often as it is. What keeps it as it was is

        weight_decay * batch_size / (learning_rate * examples)

    where each argument is a ratio: the new value over the old. So with batches
    twice as large, and the same learning rate, it is twice as large.

    For trainings much longer or shorter this is a start and not the end: for
    language models the best share falls as there are more tokens for each
    parameter.

    Reference:
        Wang & Aitchison, *How to set AdamW's weight decay as you scale model
        and dataset size*, ICML 2025. Bergsma et al., *Power Lines: Scaling
        Laws for Weight Decay and Batch Size in LLM Pre-training*, NeurIPS 2025.

    Args:
        weight_decay: Finite number >= 0, that of the old training.
        batch_size: Number > 0, new over old. Defaults to `1.0`.
        examples: Number > 0, new over old: examples times epochs. Defaults to
            `1.0`.
        learning_rate: Number > 0, new over old, of the peaks. Defaults to
            `1.0`.

    Raises:
        TypeError: If an argument is not a number.
        ValueError: If one is not finite, negative, or a ratio is zero.

    Example:

    >>> rescale_weight_decay(0.1, batch_size=256 / 64, examples=2)
    0.2
    """
    weight_decay = _validation.check_number(weight_decay, "weight_decay")
    batch_size, examples, learning_rate = (
        _validation.check_positive(value, name)
        for name, value in (
            ("batch_size", batch_size),
            ("examples", examples),
            ("learning_rate", learning_rate),
        )
    )
    return weight_decay * batch_size / (learning_rate * examples)


def weight_decay_at_width(weight_decay: float, width: float) -> float:
    """Returns the decoupled weight decay of matrices in a wider network.

    Where the learning rate of matrices is divided by the ratio of the widths,
    as the maximal-update parametrization does, AdamW's weight decay goes with
    its root, so that singular values keep their size:

        weight_decay * sqrt(width)

    Vectors, such as biases and scales, are not decayed.

    Reference:
        Fan et al., *Robust Layerwise Scaling Rules by Proper Weight Decay
        Tuning*, 2025.

    Args:
        weight_decay: Finite number >= 0, that of the old width.
        width: Number > 0, the new width over the old.

    Raises:
        TypeError: If an argument is not a number.
        ValueError: If one is not finite, negative, or the ratio is zero.

    Example:

    >>> weight_decay_at_width(0.1, width=1024 / 256)
    0.2
    """
    weight_decay = _validation.check_number(weight_decay, "weight_decay")
    return weight_decay * _validation.check_positive(width, "width") ** 0.5


def _check_coupled(optimizer: Any) -> None:
    if optimizer == "adamw":
        raise ValueError(
            "The weight decay of `AdamW` is decoupled: it is not divided by "
            "the adaptive learning rates, as the gradient of a penalty is, so "
            "no L2 strength does the same (Loshchilov & Hutter, 2019, "
            "proposition 2). Use it as it is: "
            "`l2keras.DecoupledWeightDecay(optimizer, default=weight_decay)`. "
            "Received: optimizer='adamw'"
        )
    if optimizer not in _COUPLED:
        names = ", ".join(map(repr, _COUPLED))
        raise ValueError(
            "Argument `optimizer` must be the name of an optimizer of PyTorch "
            f"with coupled weight decay: one of {names}. "
            f"Received: optimizer={optimizer!r}"
        )
