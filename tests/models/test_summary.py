"""The summary: a table, and the questions of a careful reviewer."""

import re

import keras
import numpy as np
import pytest

import l2keras
from tests.support import rising_schedule
from tests.support.audited_models import (
    compiled,
    dense,
    exclude,
    sequential,
    summary,
    trained,
    two,
)
from tests.support.built_models import attention


def findings(model):
    return [
        line.removeprefix("- ")
        for line in summary(model).splitlines()
        if line.startswith("- ")
    ]


def given_later(before, after):
    model = two(before, before)
    model.layers[0].kernel_regularizer = after
    return model


def overflowing():
    model = two(l2keras.L2(0.25), l2keras.L2(0.25))
    model.layers[0].kernel.assign(np.full((4, 3), 1e30))
    return model


def several(number):
    layers = [dense(f"dense{index}", units=4) for index in range(number)]
    return sequential(dense("first", l2keras.L2(0.25), units=4), *layers)


L2, RISING = l2keras.L2(0.25), rising_schedule()
IN_VAIN = (
    "The layer was given another regularizer after it was built, which has no "
    "effect until the model is saved and loaded (see "
    "`l2keras.apply_regularizers`): hidden/kernel"
)

# A row: how to make the model, and the findings about it.
FINDINGS = {
    "clean": (lambda: two(L2, L2), []),
    "clean, Keras's own": (
        lambda: two(keras.regularizers.L2(0.25), keras.regularizers.L1(0.25)),
        [],
    ),
    "clean, compiled": (lambda: compiled(two(L2, L2), "adam"), []),
    "no regularizers at all": (lambda: two(None, None), []),
    "one kernel without": (
        lambda: two(L2, None),
        ["No penalty, unlike other kernels: output/kernel"],
    ),
    "a frozen kernel without": (
        lambda: two(None, L2, trainable=False),
        [],
    ),
    "bias": (
        lambda: two(L2, L2, bias_regularizer=l2keras.L1(0.25)),
        ["A penalty on a bias: hidden/bias"],
    ),
    "bias alone": (
        lambda: two(None, None, bias_regularizer=l2keras.L1(0.25)),
        ["A penalty on a bias: hidden/bias"],
    ),
    "normalization": (
        lambda: sequential(
            keras.layers.LayerNormalization(
                gamma_regularizer=L2, beta_regularizer=L2, name="norm"
            )
        ),
        [
            "A penalty on a scale or an offset of a normalization: "
            "norm/gamma, norm/beta"
        ],
    ),
    "weight decay": (
        lambda: compiled(two(L2, L2), keras.optimizers.AdamW()),
        [
            "A penalty, and the optimizer's weight decay as well: "
            "hidden/kernel, output/kernel"
        ],
    ),
    "weight decay elsewhere": (
        lambda: compiled(
            two(L2, L2), exclude(keras.optimizers.AdamW(), "kernel")
        ),
        [],
    ),
    "frozen": (
        lambda: two(L2, L2, trainable=False),
        ["Frozen, and so without a penalty: hidden/kernel"],
    ),
    "not finite": (overflowing, ["The penalty is not finite: hidden/kernel"]),
    "given later": (lambda: given_later(None, L2), [IN_VAIN]),
    "given another later": (
        lambda: given_later(L2, keras.regularizers.L2(0.25)),
        [IN_VAIN],
    ),
    "taken later": (lambda: given_later(L2, None), [IN_VAIN]),
    "applied later": (
        lambda: applied(two(None, None), default=L2),
        [],
    ),
    "applied where there is no argument": (
        lambda: applied(attention(), {".*(query|key|value).*/kernel": L2}),
        ["No penalty, unlike other kernels: mha/attention_output/kernel"],
    ),
    "six": (
        lambda: several(6),
        [
            "No penalty, unlike other kernels: "
            + ", ".join(f"dense{index}/kernel" for index in range(6))
        ],
    ),
    "seven": (
        lambda: several(7),
        [
            "No penalty, unlike other kernels: "
            + ", ".join(f"dense{index}/kernel" for index in range(5))
            + " and 2 more"
        ],
    ),
    "scheduled, not trained": (
        lambda: compiled(two(l2keras.L2(RISING), L2)),
        [],
    ),
    "scheduled, not compiled": (lambda: two(l2keras.L2(RISING), L2), []),
    "scheduled, driven": (
        lambda: trained(
            two(l2keras.L2(rising_schedule()), L2),
            l2keras.RegularizationLogger(),
        ),
        [],
    ),
    "everything": (
        lambda: compiled(
            two(L2, None, bias_regularizer=L2),
            keras.optimizers.AdamW(),
        ),
        [
            "No penalty, unlike other kernels: output/kernel",
            "A penalty on a bias: hidden/bias",
            "A penalty, and the optimizer's weight decay as well: "
            "hidden/kernel, hidden/bias",
        ],
    ),
}


def applied(model, *arguments, **keywords):
    l2keras.apply_regularizers(model, *arguments, **keywords)
    return model


# One row is about training while a schedule stands still.
@pytest.mark.filterwarnings("ignore:.*nothing moves its schedule on")
@pytest.mark.parametrize(
    ("make", "expected"),
    [pytest.param(*row, id=name) for name, row in FINDINGS.items()],
)
def test_each_finding_appears_only_for_its_models(make, expected):
    assert findings(make()) == expected


def test_the_table_has_kernels_and_regularized_weights():
    model = compiled(
        sequential(
            dense("hidden", l2keras.L1L2(l1=0.5, l2=RISING), units=500),
            dense("none"),
            dense("frozen", L2, trainable=False),
            dense("keras", keras.regularizers.L2(0.25)),
            dense("biased", bias_regularizer=l2keras.GroupLasso(0.5, axis=0)),
        ),
        keras.optimizers.AdamW(weight_decay=0.125),
    )
    l2keras.set_step(model, 6)
    model.get_layer("hidden").kernel.assign(np.ones((4, 500)))
    model.get_layer("keras").kernel.assign(np.full((3, 3), 2.0))
    title, blank, header, rule, *rows = summary(model).splitlines()
    assert title == 'Regularization of "small"'
    assert blank == ""
    assert header.split() == [
        "Weight",
        "Shape",
        "Regularizer",
        "Strength",
        "Penalty",
        "Share",
        "Decay",
    ]
    assert set(rule.strip()) == {"─"}
    # 0.5 * 2000 and 0.025 * 2000, and 0.25 * 36.
    assert [re.split(r"\s{2,}", row.strip()) for row in rows[:8]] == [
        [
            "hidden/kernel",
            "(4, 500)",
            "L1L2(l1=0.5, l2=LinearSchedule)",
            "0.5",
            "1050",
            "99.2%",
            "0.125",
        ],
        ["0.025"],
        ["none/kernel", "(500, 3)", "-", "0.125"],
        ["frozen/kernel", "(3, 3)", "L2(l2=0.25)", "0.25", "frozen"],
        [
            "keras/kernel",
            "(3, 3)",
            "Keras L2(l2=0.25)",
            "0.25",
            "9",
            "0.8%",
            "0.125",
        ],
        ["biased/kernel", "(3, 3)", "-", "0.125"],
        [
            "biased/bias",
            "(3,)",
            "GroupLasso(strength=0.5, axis=0, scale_by_size=False)",
            "0.5",
            "0",
            "0.125",
        ],
        [""],
    ]
    assert rows[8:10] == [
        "Penalties: 1059, on 3 of 10 weights (2,012 of 4,039 parameters)",
        "Weight decay of the optimizer: on 8 weights",
    ]


def test_it_prints_to_the_standard_output_and_returns_nothing(capsys):
    model = two(L2, None)
    assert l2keras.summary(model, line_length=80) is None
    assert capsys.readouterr().out == f"{summary(model, 80)}\n"
    # Where there is a function to print, nothing is.
    assert summary(model).startswith('Regularization of "small"\n')
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("line_length", [80, 120])
def test_no_line_exceeds_line_length(line_length):
    model = two(l2keras.L1(0.25) + l2keras.GroupLasso(RISING), L2)
    model.layers[0].kernel_regularizer = None
    text = summary(model, line_length)
    assert max(map(len, text.splitlines())) <= line_length
    # Nothing is cut off.
    text = re.sub(r"\s", "", text)
    assert re.sub(r"\s", "", IN_VAIN) in text
    assert "…" not in text


@pytest.mark.parametrize(("columns", "width"), [("120", 120), ("150", 150)])
def test_lines_are_as_long_as_the_terminal_is_wide(columns, width, monkeypatch):
    monkeypatch.setenv("COLUMNS", columns)
    texts = []
    model = given_later(None, L2)
    l2keras.summary(model, print_fn=texts.append)
    assert texts == [summary(model, width)]
    assert texts != [summary(model, width - 30)]
