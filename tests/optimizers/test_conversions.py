"""Conversions between L2 and weight decay: by hand, and against PyTorch."""

import numpy as np
import pytest

import l2keras


def test_conversions_equal_figures_by_hand():
    assert l2keras.l2_from_weight_decay(0.02) == 0.01
    assert l2keras.weight_decay_from_l2(0.01, "adam") == 0.02
    assert l2keras.weight_decay_from_timescale(5_000, 0.001) == 0.2
    assert l2keras.l2_from_weight_decay(np.float32(0.5), "rmsprop") == 0.25
    for decay in (0.0, 1e-4, 3.0):
        l2 = l2keras.l2_from_weight_decay(decay)
        assert l2keras.weight_decay_from_l2(l2) == decay


def test_a_timescale_is_that_of_exponential_forgetting():
    # With no gradient a weight falls to 1/e of itself in so many steps.
    decay = l2keras.weight_decay_from_timescale(1_000, learning_rate=0.01)
    assert (1 - 0.01 * decay) ** 1_000 == pytest.approx(np.exp(-1), rel=1e-3)


@pytest.mark.parametrize(
    ("batch_size", "examples", "learning_rate"),
    [(4, 1, 1), (1, 3, 1), (1, 1, 0.5), (2, 5, 0.25)],
)
def test_a_rescaled_decay_forgets_over_the_same_share_of_training(
    batch_size, examples, learning_rate
):
    def kept(decay, rate, batch, seen):
        """What a weight without gradient keeps over the whole training."""
        return (1 - rate * decay) ** (seen / batch)

    old = kept(0.1, 0.001, 32, 320_000)
    decay = l2keras.rescale_weight_decay(
        0.1,
        batch_size=batch_size,
        examples=examples,
        learning_rate=learning_rate,
    )
    new = kept(
        decay, 0.001 * learning_rate, 32 * batch_size, 320_000 * examples
    )
    assert new == pytest.approx(old, rel=1e-3)


def test_a_decay_at_another_width_keeps_the_singular_values():
    # Of 2510.15262: they go with sqrt(rate / decay) * width**0.75.
    for width in (0.25, 1.0, 8.0):
        decay = l2keras.weight_decay_at_width(0.1, width)
        size = ((1 / width) / (decay / 0.1)) ** 0.5 * width**0.75
        assert size == pytest.approx(1.0)


@pytest.mark.parametrize(
    "name",
    [
        "SGD",
        "Adam",
        "Adadelta",
        "Adagrad",
        "Adamax",
        "NAdam",
        "RAdam",
        "RMSprop",
    ],
)
def test_the_named_optimizers_of_torch_have_coupled_decay(name):
    torch = pytest.importorskip("torch")
    start = torch.tensor([[1.0, -2.0], [0.5, 3.0]], dtype=torch.float64)
    found = []
    for decay, l2 in ((0.3, 0.0), (0.0, l2_of(0.3, name))):
        weights = torch.nn.Parameter(start.clone())
        optimizer = getattr(torch.optim, name)(
            [weights], lr=0.1, weight_decay=decay
        )
        for step in range(10):
            optimizer.zero_grad()
            loss = torch.sin(weights * (step + 1)).sum()
            (loss + l2 * weights.square().sum()).backward()
            optimizer.step()
        found.append(weights.detach().numpy())
    np.testing.assert_allclose(*found, rtol=1e-12)


def l2_of(decay, name):
    return l2keras.l2_from_weight_decay(decay, name.lower())


@pytest.mark.parametrize(
    "convert", [l2keras.l2_from_weight_decay, l2keras.weight_decay_from_l2]
)
def test_adamw_has_no_equivalent_l2(convert):
    with pytest.raises(ValueError, match="adamw") as caught:
        convert(0.1, "adamw")
    assert str(caught.value) == (
        "The weight decay of `AdamW` is decoupled: it is not divided by the "
        "adaptive learning rates, as the gradient of a penalty is, so no L2 "
        "strength does the same (Loshchilov & Hutter, 2019, proposition 2). "
        "Use it as it is: `l2keras.DecoupledWeightDecay(optimizer, "
        "default=weight_decay)`. Received: optimizer='adamw'"
    )


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: l2keras.l2_from_weight_decay(-1),
            ValueError,
            "Argument `weight_decay` must be a finite number >= 0. "
            "Received: weight_decay=-1",
        ),
        (
            lambda: l2keras.weight_decay_from_l2("0.1"),
            TypeError,
            "Argument `l2` must be a finite number >= 0. Received: l2='0.1' "
            "(of type str)",
        ),
        (
            lambda: l2keras.weight_decay_from_l2(0.1, "lion"),
            ValueError,
            "Argument `optimizer` must be the name of an optimizer of PyTorch "
            "with coupled weight decay: one of 'sgd', 'adam', 'adadelta', "
            "'adagrad', 'adamax', 'nadam', 'radam', 'rmsprop'. "
            "Received: optimizer='lion'",
        ),
        (
            lambda: l2keras.weight_decay_from_timescale(0, 0.1),
            ValueError,
            "Argument `timescale` must be a finite number > 0. "
            "Received: timescale=0",
        ),
        (
            lambda: l2keras.rescale_weight_decay(0.1, examples=0),
            ValueError,
            "Argument `examples` must be a finite number > 0. "
            "Received: examples=0",
        ),
        (
            lambda: l2keras.weight_decay_at_width(-1.0, 2),
            ValueError,
            "Argument `weight_decay` must be a finite number >= 0. "
            "Received: weight_decay=-1.0",
        ),
        (
            lambda: l2keras.weight_decay_from_timescale(10, -0.1),
            ValueError,
            "Argument `learning_rate` must be a finite number > 0. "
            "Received: learning_rate=-0.1",
        ),
        (
            lambda: l2keras.weight_decay_from_timescale(10, None),
            TypeError,
            "Argument `learning_rate` must be a finite number > 0. "
            "Received: learning_rate=None (of type NoneType)",
        ),
    ],
)
def test_invalid_arguments_are_explained(call, error, message):
    with pytest.raises(error) as caught:
        call()
    assert str(caught.value) == message
