"""Decay and penalties equal those of PyTorch's optimizers, to rounding."""

import keras
import numpy as np
import pytest

import l2keras
from l2keras import DecoupledWeightDecay, reference
from tests.support import (
    BACKEND,
    assert_weights,
    number,
    rising,
    rising_schedule,
    simulate,
)
from tests.support.weight_decay_cases import (
    EPSILON,
    X,
    Y,
    distance,
    fit,
    keras_adam,
    keras_sgd,
    network,
)

torch_backend_only = pytest.mark.skipif(
    BACKEND != "torch", reason="Keras models are PyTorch modules there only."
)


def torch_training(start, optimizer, steps, penalty=None, x=X, y=Y):
    """Trains a network of dense layers in a plain PyTorch loop."""
    torch = pytest.importorskip("torch")
    weights = [
        torch.nn.Parameter(torch.tensor(np.array(each))) for each in start
    ]
    optimizer = optimizer(weights)
    for step in range(steps):
        first = 16 * step % len(x)
        outputs = torch.tensor(x[first : first + 16])
        for index in range(0, len(weights), 2):
            outputs = torch.relu(outputs) if index else outputs
            outputs = outputs @ weights[index] + weights[index + 1]
        targets = torch.tensor(y[first : first + 16])
        loss = torch.nn.functional.cross_entropy(outputs, targets)
        if penalty is not None:
            loss = loss + penalty(weights, step)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return [weight.detach().numpy() for weight in weights]


def torch_sgd(**arguments):
    import torch

    return lambda weights: torch.optim.SGD(weights, lr=0.1, **arguments)


def torch_adam(name="Adam", **arguments):
    import torch

    return lambda weights: getattr(torch.optim, name)(
        weights, lr=0.01, eps=EPSILON, **arguments
    )


def everything(optimizer):
    """Decays all weights, as PyTorch does."""
    return DecoupledWeightDecay(optimizer, {".*": 0.02})


# PyTorch's optimizer, ours, and whether the decay is a penalty.
PEERS = {
    "SGD": (
        lambda: torch_sgd(weight_decay=0.02),
        keras_sgd,
        True,
    ),
    "SGD, plain, decoupled": (
        lambda: torch_sgd(weight_decay=0.02),
        lambda: everything(keras_sgd()),
        False,
    ),
    "SGD with momentum": (
        lambda: torch_sgd(momentum=0.9, weight_decay=0.02),
        lambda: keras_sgd(momentum=0.9),
        True,
    ),
    "Adam": (lambda: torch_adam(weight_decay=0.02), keras_adam, True),
    "AdamW": (
        lambda: torch_adam("AdamW", weight_decay=0.02),
        lambda: everything(keras_adam()),
        False,
    ),
}


@pytest.mark.parametrize("name", PEERS)
def test_200_steps_of_softmax_regression_equal_torch(name):
    pytest.importorskip("torch")
    theirs, ours, is_penalty = PEERS[name]
    penalty = None
    if is_penalty:
        penalty = l2keras.L2(l2keras.l2_from_weight_decay(0.02))
    model = keras.Sequential(
        [
            keras.Input((10,)),
            keras.layers.Dense(
                3,
                activation="softmax",
                kernel_regularizer=penalty,
                bias_regularizer=penalty,
            ),
        ]
    )
    start = model.get_weights()
    fit(model, ours(), 1, np.tile(X, (50, 1)), np.tile(Y, (50, 1)))
    expected = torch_training(start, theirs(), steps=200)
    assert_weights(model, expected, atol=1e-5)
    without = torch_training(start, plain(theirs), steps=200)
    assert np.abs(without[0] - expected[0]).max() > 0.01


def plain(theirs):
    """Returns PyTorch's optimizer with its decay switched off."""

    def optimizer(weights):
        made = theirs()(weights)
        for group in made.param_groups:
            group["weight_decay"] = 0.0
        return made

    return optimizer


@pytest.mark.parametrize("name", ["SGD with momentum", "Adam", "AdamW"])
def test_the_first_steps_of_the_documented_network_equal_torch(name):
    # Later ones amplify rounding: a unit is on in one, and off in the other.
    pytest.importorskip("torch")
    theirs, ours, is_penalty = PEERS[name]
    penalty = l2keras.L2(0.01) if is_penalty else None
    model = network(penalty, penalty)
    if is_penalty:
        l2keras.apply_regularizers(model, {".*/bias": l2keras.L2(0.01)})
    start = model.get_weights()
    fit(model, ours(), epochs=1)
    assert_weights(model, torch_training(start, theirs(), steps=4), atol=1e-5)


def test_keras_numpy_and_torch_weight_decay_agree():
    pytest.importorskip("torch")
    strength = 0.05
    model = network(keras.regularizers.L2(strength), l2keras.L2(strength))
    start = model.get_weights()
    fit(model, keras_sgd())
    by_hand = simulate(
        start,
        X,
        Y,
        first=lambda step: strength,
        second=lambda step: strength,
        epochs=2,
    )
    decay = l2keras.weight_decay_from_l2(strength)
    by_decay = torch_training(start, kernels_only(torch_sgd, decay), steps=8)
    assert_weights(model, by_hand.weights, atol=1e-5)
    assert_weights(model, by_decay, atol=1e-5)
    np.testing.assert_allclose(
        number(sum(model.losses)),
        reference.l2_regularization(by_hand.weights[::2], strength),
        rtol=1e-5,
    )


def kernels_only(optimizer, decay):
    """Returns a PyTorch optimizer that decays the kernels alone."""
    return lambda weights: optimizer()(
        [
            {"params": weights[::2], "weight_decay": decay},
            {"params": weights[1::2], "weight_decay": 0.0},
        ]
    )


def test_a_torch_loop_with_decay_and_penalty_penalizes_twice():
    # It has `weight_decay=0.01`, and adds 0.01 * sum w**2 to the loss as well.
    pytest.importorskip("torch")
    start = network().get_weights()

    def penalty(weights, step):
        return 0.01 * sum(weight.square().sum() for weight in weights)

    documented = torch_training(
        start, torch_adam(weight_decay=0.01), steps=4, penalty=penalty
    )
    total = 0.01 + l2keras.weight_decay_from_l2(0.01, "adam")
    assert total == 0.03
    once = torch_training(start, torch_adam(weight_decay=total), steps=4)
    for one, other in zip(documented, once, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-6)


# A model on the PyTorch backend is a module, and trains in a plain loop.


def plain_loop(model, penalty, steps=8):
    import torch

    optimizer = torch.optim.Adam(model.parameters(), lr=0.001)
    for step in range(steps):
        first = 16 * step % len(X)
        xb, yb = (
            keras.ops.convert_to_tensor(each[first : first + 16])
            for each in (X, Y)
        )
        optimizer.zero_grad()
        probabilities = model(xb, training=True)
        loss = -(yb * torch.log(probabilities)).sum(1).mean()
        (loss + penalty(model, step)).backward()
        optimizer.step()


@torch_backend_only
def test_the_losses_of_a_model_train_in_a_plain_torch_loop():
    model = network(l2keras.L2(0.05), l2keras.L2(0.05))
    by_hand = network()

    def square_sum(model, step):
        kernels = model.trainable_variables[::2]
        return 0.05 * sum(kernel.value.square().sum() for kernel in kernels)

    plain_loop(model, lambda model, step: sum(model.losses))
    plain_loop(by_hand, square_sum)
    assert distance(model, by_hand) < 1e-6


@torch_backend_only
def test_set_step_moves_the_schedules_of_a_plain_torch_loop():
    model = network(l2keras.L2(rising_schedule()), l2keras.L2(0.0))
    by_hand, without = network(), network()

    def scheduled(model, step):
        l2keras.set_step(model, step)
        return sum(model.losses)

    def square_sum(model, step):
        kernel = model.trainable_variables[0].value
        return rising(step) * kernel.square().sum()

    plain_loop(model, scheduled)
    plain_loop(by_hand, square_sum)
    plain_loop(without, lambda model, step: 0.0)
    assert distance(model, by_hand) < 1e-6
    assert distance(model, without) > 1e-4
