"""What is recorded on PyTorch does the same again, or is not recorded."""

import keras
import numpy as np
import pytest
from helpers import BACKEND
from packaging.version import Version

if BACKEND != "torch":
    pytest.skip("It records operations of PyTorch.", allow_module_level=True)

import torch
from torch.utils._python_dispatch import TorchDispatchMode

import l2keras
from l2keras.tuning.grid import torch_recording
from l2keras.tuning.grid.torch_recording import record

CONSTANT = torch.arange(12.0).reshape(3, 4) / 7


def values(seed, number=2):
    """Returns matrices, large enough to be worth writing over."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(3, 4, generator=generator) for _ in range(number)]


def gradient(inputs, state):
    x = inputs[0].requires_grad_()
    loss = (x @ inputs[1].T).relu().softmax(-1).log().sum()
    return [*torch.autograd.grad(loss, [x]), loss.detach()]


def mapped(inputs, state):
    def one(a, b):
        return (a * b).clamp(-0.5, 0.5).sum(), a.argmax().float()

    return list(torch.func.vmap(one, (0, None))(inputs[0], inputs[1][0]))


def momentum(inputs, state):
    weight, slot = state
    slot.mul_(0.9).add_(inputs[0], alpha=0.1)
    torch._foreach_add_([weight], [slot], alpha=-1.0)
    return [weight.sum(), weight * 1.0]


def before_and_after(inputs, state):
    """Reads the same twice, changed in between."""
    before = state[0] + 1.0
    state[0].add_(inputs[0])
    return [before, state[0] + 1.0]


def own_memory(inputs, state):
    zeros = torch.zeros(3, 4)
    once = zeros + 1.0
    zeros.add_(inputs[0])
    return [once, zeros, zeros * 2.0]


def views(inputs, state):
    a, b = inputs[0].unbind(0)[:2]
    whole = (inputs[0] * 2.0).view(12)
    return [a + b, whole[3:6], whole.reshape(4, 3).T, inputs[1].expand(2, 3, 4)]


def overwritten_in_vain(inputs, state):
    """Could write over what is still to be read, in another order."""
    square = inputs[0][:, :3] * 1.0
    crossed = square + square.T
    kept = inputs[1] * 3.0
    view = kept[0]
    return [crossed, kept + 1.0, view * 2.0, crossed * crossed]


def chain(inputs, state):
    x = inputs[0] + 1.0
    for _ in range(3):
        x = (x * 0.5 + CONSTANT).tanh().neg()
    return [x.where(x > 0, inputs[1] * 2.0)]


def the_same_twice(inputs, state):
    one, other = inputs[0] * 2.0, inputs[0] * 2.0
    return [one, other, one, inputs[1], CONSTANT, None]


def one_of_integers(inputs, state):
    return [inputs[0] * 2, inputs[0] * 2.0, inputs[0] * True]


def by_shape(inputs, state):
    ones = torch.ones_like(inputs[0])
    return [ones.sum() * inputs[1], torch.zeros_like(inputs[0]) + CONSTANT]


def constant_number(inputs, state):
    return [
        inputs[0] * CONSTANT.sum().item(),
        inputs[1] + CONSTANT.tolist()[0][1],
    ]


def several_returned(inputs, state):
    largest, where = inputs[0].max(dim=1)
    first, second = inputs[1].split([1, 2])
    return [largest, where, first * 2, second * 3]


FUNCTIONS = [
    gradient,
    mapped,
    momentum,
    before_and_after,
    own_memory,
    views,
    overwritten_in_vain,
    chain,
    the_same_twice,
    one_of_integers,
    by_shape,
    constant_number,
    several_returned,
]


def same(ones, others):
    assert len(ones) == len(others)
    for one, other in zip(ones, others, strict=True):
        if one is None:
            assert other is None
        else:
            torch.testing.assert_close(one, other, rtol=0, atol=0)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_what_was_recorded_does_the_same_to_other_tensors(function):
    state, expected_state = values(7), values(7)
    outputs, repeated = record(
        lambda inputs: function(inputs, state), values(0), state
    )
    same(outputs, function(values(0), expected_state))
    same(state, expected_state)
    for seed in (1, 2, 3):
        inputs = values(seed)
        with torch.no_grad():
            outputs = repeated(inputs)
        same(outputs, function(values(seed), expected_state))
        same(state, expected_state)
        same(inputs, values(seed))


def test_outputs_may_be_the_next_inputs():
    def function(inputs):
        return [inputs[0] + inputs[1], inputs[1] * 2.0]

    same_twice = [values(0)[0]] * 2
    outputs, repeated = record(function, same_twice, [])
    expected = function(same_twice)
    for _ in range(3):
        same(outputs, expected)
        outputs, expected = repeated(outputs), function(expected)


def test_random_numbers_are_drawn_anew():
    def function(inputs):
        return [inputs[0] + torch.rand(3, 4), torch.rand(3, 4)]

    torch.manual_seed(0)
    outputs, repeated = record(function, values(0), [])
    drawn = [outputs, repeated(values(0))]
    torch.manual_seed(0)
    for each in drawn:
        same(each, function(values(0)))


def append_numpy(inputs, state):
    return [inputs[0] * float(inputs[1].numpy()[0, 0])]


def mask(inputs, state):
    return [inputs[0][inputs[1] > 0].sum()]


def branch(inputs, state):
    return [inputs[0] if inputs[1].sum() > 0 else inputs[1] * 2.0]


def into_a_constant(inputs, state):
    CONSTANT.add_(inputs[0]).sub_(inputs[0])
    return [CONSTANT * 1.0]


def into_an_input(inputs, state):
    return [inputs[0].add_(1.0) * 2.0]


def number_of_state(inputs, state):
    return [inputs[0] * state[0].sum().item()]


def number_of_a_changed_one(inputs, state):
    zeros = torch.zeros(())
    zeros.add_(inputs[0].sum())
    return [inputs[1] * zeros.item()]


@pytest.mark.parametrize(
    "function",
    [
        append_numpy,
        mask,
        branch,
        into_a_constant,
        into_an_input,
        number_of_state,
        number_of_a_changed_one,
        lambda inputs, state: [torch.nonzero(inputs[0] > 0)],
        lambda inputs, state: [inputs[0] * inputs[1].tolist()[0][0]],
        lambda inputs, state: [inputs[0].clone().unsqueeze_(0) * 2.0],
    ],
)
def test_what_depends_on_values_is_done_and_not_recorded(function):
    state = values(7)
    outputs, repeated = record(
        lambda inputs: function(inputs, state), values(0), state
    )
    assert repeated is None
    same(outputs, function(values(0), values(7)))


class Counted(TorchDispatchMode):
    """Counts operations."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.names.append(function._schema.name)
        return function(*args, **(kwargs or {}))


def counted(function, inputs):
    with Counted() as mode, torch.no_grad():
        function(inputs)
    return [name.removeprefix("aten::") for name in mode.names]


def test_what_need_not_be_done_each_time_is_left_out():
    weight = torch.ones(4, 3)

    def function(inputs):
        scale = torch.full((), 2.0) * CONSTANT.sum()  # A constant.
        transposed = weight.T.detach()  # A view of what stays in its place.
        _ = inputs[0].exp()  # Nothing reads it.
        total = (inputs[0] * scale).sum() + (inputs[0] * scale).sum()
        return [total + (transposed * inputs[0]).sum()]

    _, repeated = record(function, values(0), [weight])
    assert sorted(counted(repeated, values(1))) == sorted(
        ["mul", "sum", "add", "mul", "sum", "add"]
    )


def test_no_memory_is_fetched_where_some_can_be_written_over():
    def function(inputs):
        x = (inputs[0] @ inputs[1].T).add(1.0)
        return [x.relu().mul(2.0).sum()]

    _, repeated = record(function, values(0), [])
    pointers = set()

    class Pointers(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            result = function(*args, **(kwargs or {}))
            if result.shape == (3, 3):
                pointers.add(result.untyped_storage().data_ptr())
            return result

    with Pointers():
        (total,) = repeated(values(1))
    assert len(pointers) == 1
    same([total], function(values(1)))


@pytest.mark.filterwarnings("ignore:The best strength")
@pytest.mark.parametrize(
    ("optimizer", "is_recorded_whole"),
    [
        ("Adam", True),
        ("AdamW", True),
        ("RMSprop", True),
        ("Lion", True),
        # On PyTorch it takes the number of the learning rate until Keras 3.15.
        ("SGD", Version(keras.__version__).release >= (3, 16)),
    ],
)
def test_a_step_of_the_search_is_recorded(
    monkeypatch, optimizer, is_recorded_whole
):
    recorded = []

    def noted(*arguments):
        outputs, repeated = record(*arguments)
        recorded.append(repeated is not None)
        return outputs, repeated

    monkeypatch.setattr(torch_recording, "record", noted)

    def build_model(strength):
        model = keras.Sequential(
            [
                keras.Input((3,)),
                keras.layers.Dense(1, kernel_regularizer=l2keras.L2(strength)),
            ]
        )
        model.compile(optimizer.lower(), "mse", metrics=["mae"])
        return model

    x = np.random.default_rng(0).normal(size=(40, 3)).astype("float32")
    with keras.device("cpu"):  # Several devices have a stack each.
        result = l2keras.tune_strength(
            build_model,
            x,
            x[:, :1],
            [0.1, 0.2],
            folds=2,
            epochs=2,
            batch_size=5,
        )
    assert result.one_by_one is None
    # The step, what the metrics come to, and the validation; or before all
    # that the step with the optimizer, in vain.
    assert recorded == [*([] if is_recorded_whole else [False]), *[True] * 3]
