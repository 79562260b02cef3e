"""What regularization a model has, in records, in a table, and of a file."""

import re

import keras
import numpy as np
import pytest
from helpers import (
    falling,
    falling_schedule,
    rising,
    rising_schedule,
    takes_functions,
)
from keras import ops

import l2keras
from l2keras import reference
from l2keras.__main__ import main

register = keras.saving.register_keras_serializable(
    package="l2keras_tests_audit"
)


@register
def cubic(weights):
    return ops.sum(ops.abs(weights) ** 3)


def dense(name, regularizer=None, units=3, **arguments):
    return keras.layers.Dense(
        units, name=name, kernel_regularizer=regularizer, **arguments
    )


def sequential(*layers, name="small"):
    return keras.Sequential([keras.Input((4,)), *layers], name=name)


# Records ----------------------------------------------------------------------

STEP = 5
SCALED = l2keras.L2.from_config({"l2": 0.5, "scale": 0.25})
RISING, FALLING = rising_schedule(), falling_schedule()

# A row: the regularizer, its strengths, its schedules, and its value in NumPy.
ROWS = {
    "none": (None, {}, {}, lambda w: 0.0),
    "L1": (
        l2keras.L1(0.25),
        {"L1": 0.25},
        {},
        lambda w: reference.l1_regularization(w, 0.25),
    ),
    "scheduled": (
        l2keras.L2(RISING),
        {"L2": rising(STEP)},
        {"L2": RISING},
        lambda w: reference.l2_regularization(w, rising(STEP)),
    ),
    "scaled": (
        SCALED,
        {"L2": 0.125},
        {},
        lambda w: reference.l2_regularization(w, 0.125),
    ),
    "both": (
        l2keras.L1L2(l1=0.25, l2=FALLING),
        {"L1": 0.25, "L2": falling(STEP)},
        {"L2": FALLING},
        lambda w: (
            reference.l1_regularization(w, 0.25)
            + reference.l2_regularization(w, falling(STEP))
        ),
    ),
    "sum": (
        l2keras.L2(0.25)
        + l2keras.GroupLasso(RISING)
        + l2keras.L2(0.5)
        + keras.regularizers.L1(0.125),
        # Of Keras's own, no strength is known within a sum.
        {"L2": 0.25, "GroupLasso": rising(STEP), "L2_2": 0.5},
        {"GroupLasso": RISING},
        lambda w: (
            reference.l2_regularization(w, 0.75)
            + reference.group_lasso(w, rising(STEP))
            + reference.l1_regularization(w, 0.125)
        ),
    ),
    "keras": (
        keras.regularizers.L2(0.25),
        {"L2": 0.25},
        {},
        lambda w: reference.l2_regularization(w, 0.25),
    ),
    "keras_both": (
        keras.regularizers.L1L2(0.25, 0.5),
        {"L1": 0.25, "L2": 0.5},
        {},
        lambda w: (
            reference.l1_regularization(w, 0.25)
            + reference.l2_regularization(w, 0.5)
        ),
    ),
    "orthogonal": (
        keras.regularizers.OrthogonalRegularizer(0.25),
        {},
        {},
        None,
    ),
}
if takes_functions():
    ROWS["function"] = (cubic, {}, {}, lambda w: np.sum(np.abs(w) ** 3))


def orthogonal(kernel):
    """Returns Keras's own penalty on rows that are not orthogonal, at 0.25."""
    rows = kernel / np.linalg.norm(kernel, axis=1, keepdims=True)
    size = len(rows) * (len(rows) - 1) / 2
    return 0.25 * np.abs(np.triu(rows @ rows.T, 1)).sum() / size


def every_kind():
    model = sequential(
        *(dense(name, row[0], units=4) for name, row in ROWS.items()),
        dense("frozen", l2keras.L2(0.5), trainable=False),
        keras.layers.BatchNormalization(name="norm"),
    )
    l2keras.set_step(model, STEP)
    return model


def test_penalties_are_what_numpy_computes():
    model = every_kind()
    records = {each.path: each for each in l2keras.penalties(model)}
    assert list(records) == [
        *(f"{name}/{weight}" for name in ROWS for weight in ("kernel", "bias")),
        "frozen/kernel",
        "frozen/bias",
        "norm/gamma",
        "norm/beta",
        "norm/moving_mean",
        "norm/moving_variance",
    ]
    total = 0.0
    for name, (regularizer, strengths, schedules, truth) in ROWS.items():
        record = records[f"{name}/kernel"]
        kernel = ops.convert_to_numpy(model.get_layer(name).kernel)
        expected = (truth or orthogonal)(kernel.astype("float64"))
        total += expected
        assert (record.shape, record.parameters) == ((4, 4), 16)
        assert record.trainable
        assert record.regularizer is regularizer
        assert record.strengths == pytest.approx(strengths, rel=1e-6)
        assert record.schedules == schedules
        assert record.penalty == pytest.approx(expected, rel=1e-5), name
        assert record.weight_decay == 0.0
    frozen = records["frozen/kernel"]
    assert (frozen.trainable, frozen.penalty) == (False, 0.0)
    assert frozen.strengths == {"L2": 0.5}
    assert records["norm/moving_mean"].trainable is False
    assert sum(each.penalty for each in records.values()) == pytest.approx(
        sum(float(ops.convert_to_numpy(each)) for each in model.losses),
        rel=1e-6,
    )
    for each in records.values():
        assert each.share == pytest.approx(each.penalty / total, rel=1e-5)
    assert sum(each.share for each in records.values()) == pytest.approx(1.0)


def test_nothing_is_shared_where_nothing_is_paid():
    records = l2keras.penalties(sequential(dense("hidden")))
    assert [each.share for each in records] == [0.0, 0.0]


def exclude(optimizer, *names):
    optimizer.exclude_from_weight_decay(var_names=list(names))
    return optimizer


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        pytest.param(lambda: None, [0, 0, 0, 0], id="not compiled"),
        pytest.param(lambda: "adam", [0, 0, 0, 0], id="none"),
        pytest.param(
            lambda: keras.optimizers.AdamW(weight_decay=0.25),
            [0.25, 0.25, 0, 0],
            id="AdamW",
        ),
        pytest.param(
            lambda: keras.optimizers.SGD(weight_decay=0.25),
            [0.25, 0.25, 0, 0],
            id="SGD",
        ),
        pytest.param(
            lambda: exclude(
                keras.optimizers.AdamW(weight_decay=0.25), "bias", "unused"
            ),
            [0.25, 0, 0, 0],
            id="excluded",
        ),
        pytest.param(
            lambda: keras.optimizers.LossScaleOptimizer(
                exclude(keras.optimizers.AdamW(weight_decay=0.25), "kernel")
            ),
            [0, 0.25, 0, 0],
            id="LossScaleOptimizer",
        ),
    ],
)
def test_weight_decay_is_that_of_the_optimizer(make, expected):
    # Those of a frozen layer are not decayed.
    model = sequential(dense("hidden"), dense("frozen", trainable=False))
    if (optimizer := make()) is not None:
        model.compile(optimizer, "mse")
    found = [each.weight_decay for each in l2keras.penalties(model)]
    assert found == expected


def test_weight_decay_is_what_the_optimizer_takes_off():
    model = sequential(dense("hidden", l2keras.L2(0.25)))
    rate = 0.5
    model.compile(keras.optimizers.SGD(rate, weight_decay=0.25), "mse")
    kernel, _ = l2keras.penalties(model)
    before = model.get_weights()[0].astype("float64")
    # Inputs of zero, so that the kernel has no gradient from the data.
    model.train_on_batch(np.zeros((2, 4)), np.zeros((2, 3)))
    factor = 1 - rate * (kernel.weight_decay + 2 * kernel.strengths["L2"])
    np.testing.assert_allclose(
        model.get_weights()[0], factor * before, rtol=1e-5
    )


@pytest.mark.parametrize("function", [l2keras.penalties, l2keras.summary])
def test_what_is_no_model_or_not_built_is_refused(function):
    with pytest.raises(TypeError) as error:
        function(keras.layers.Dense)
    assert str(error.value) == (
        "Argument `model` must be a Keras model. Received: "
        f"model={keras.layers.Dense!r} (of type type)"
    )
    with pytest.raises(ValueError, match="not built") as error:
        function(keras.Sequential([dense("hidden")], name="small"))
    assert str(error.value) == (
        "Model 'small' is not built, so it has no weights yet. Call "
        "`model.build(input_shape)` first, or call it on data."
    )


# The summary ------------------------------------------------------------------


def summary(model, line_length=400):
    """Returns what is printed, in long lines."""
    texts = []
    l2keras.summary(model, line_length=line_length, print_fn=texts.append)
    (text,) = texts
    return text


def findings(model):
    return [
        line.removeprefix("- ")
        for line in summary(model).splitlines()
        if line.startswith("- ")
    ]


def compiled(model, optimizer="sgd"):
    model.compile(optimizer, "mse")
    return model


def trained(model, *callbacks):
    compiled(model).fit(
        np.ones((6, 4)),
        np.ones((6, 3)),
        batch_size=2,
        verbose=0,
        callbacks=list(callbacks),
    )
    return model


def two(first, second, **arguments):
    return sequential(
        dense("hidden", first, **arguments), dense("output", second)
    )


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


L2 = l2keras.L2(0.25)
IN_VAIN = (
    "The layer was given another regularizer after it was built, which has no "
    "effect until the model is saved and loaded (see "
    "`l2keras.apply_regularizers`): hidden/kernel"
)

# A row: how to make the model, and what there is to say about it.
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
        ["Frozen, and so paying nothing: hidden/kernel"],
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
    "scheduled, standing still": (
        lambda: trained(two(l2keras.L2(rising_schedule()), L2)),
        [
            "The optimizer is at step 3, but the schedules are at step 0: "
            "nothing moved them on. Train with "
            "`callbacks=[l2keras.RegularizationLogger()]`, or call "
            "`l2keras.set_step(model, step)`"
        ],
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


def attention():
    inputs = keras.Input((3, 4))
    layer = keras.layers.MultiHeadAttention(2, 2, name="mha")
    return keras.Model(inputs, layer(inputs, inputs))


# Training while a schedule stands still is what one row is about.
@pytest.mark.filterwarnings("ignore:.*nothing moves its schedule on")
@pytest.mark.parametrize(
    ("make", "expected"),
    [pytest.param(*row, id=name) for name, row in FINDINGS.items()],
)
def test_each_finding_appears_exactly_when_it_should(make, expected):
    assert findings(make()) == expected


def test_the_table_has_kernels_and_whatever_is_regularized():
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
def test_no_line_is_longer_than_it_may_be(line_length):
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


# Files ------------------------------------------------------------------------


def inspect(file, capsys):
    """Returns the exit status, and what was printed."""
    status = main(["inspect", str(file)])
    captured = capsys.readouterr()
    assert captured.err == ""
    return status, captured.out


def test_a_saved_model_is_inspected(tmp_path, capsys):
    model = trained(
        two(l2keras.L2(rising_schedule()), None),
        l2keras.RegularizationLogger(),
    )
    model.save(tmp_path / "model.keras")
    status, out = inspect(tmp_path / "model.keras", capsys)
    assert status == 0
    assert out == f"{summary(model, 100)}\n"
    assert "- No penalty, unlike other kernels: output/kernel" in out


@pytest.mark.parametrize(
    "name", ["missing.keras", "model.h5", "model", "folder.keras"]
)
def test_what_is_no_keras_file_is_refused(name, tmp_path, capsys):
    (tmp_path / "model.h5").write_bytes(b"")
    (tmp_path / "model").write_bytes(b"")
    (tmp_path / "folder.keras").mkdir()
    file = tmp_path / name
    assert inspect(file, capsys) == (
        2,
        f"There must be a `.keras` file. Received: {file}\n",
    )


def test_a_file_that_is_no_archive_cannot_be_loaded(tmp_path, capsys):
    file = tmp_path / "model.keras"
    file.write_text("no model")
    status, out = inspect(file, capsys)
    assert status == 1
    (line,) = out.splitlines()
    assert line.startswith(f"{file} cannot be inspected: ")


def test_code_in_a_file_is_not_run(tmp_path, capsys):
    file, trace = tmp_path / "model.keras", str(tmp_path / "trace")
    sequential(
        keras.layers.Lambda(
            lambda x: (__import__("pathlib").Path(trace).touch(), x)[1]
        ),
        dense("hidden", L2),
    ).save(file)
    (tmp_path / "trace").unlink()
    status, out = inspect(file, capsys)
    assert status == 1
    (line,) = out.splitlines()
    assert line.startswith(f"{file} cannot be inspected: ")
    assert "lambda" in line.lower()
    assert not (tmp_path / "trace").exists()
    # It would have been seen.
    keras.saving.load_model(file, safe_mode=False)
    assert (tmp_path / "trace").exists()


def test_a_layer_that_is_not_known_here_cannot_be_loaded(tmp_path, capsys):
    class Unknown(keras.layers.Dense):
        pass

    file = tmp_path / "model.keras"
    sequential(Unknown(2, name="hidden")).save(file)
    status, out = inspect(file, capsys)
    assert status == 1
    (line,) = out.splitlines()
    assert line.startswith(f"{file} cannot be inspected: ")


def test_a_loss_that_is_not_known_here_takes_nothing_away(tmp_path, capsys):
    def own_loss(truth, prediction):
        return ops.mean(ops.square(truth - prediction))

    model, plain = two(L2, None), two(L2, None)
    plain.set_weights(model.get_weights())
    model.compile(keras.optimizers.AdamW(), own_loss)
    file = tmp_path / "model.keras"
    model.save(file)
    status, out = inspect(file, capsys)
    assert status == 0
    first, rest = out.split("\n", 1)
    assert first.startswith("Loaded without its optimizer: ")
    assert "own_loss" in first
    # Without the optimizer, no weight decay is known.
    assert rest == f"{summary(plain, 100)}\n"
    assert rest != f"{summary(model, 100)}\n"


def test_a_file_is_named_on_the_command_line(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["inspect"])
    assert stop.value.code == 2
    message = "the following arguments are required: file"
    assert message in capsys.readouterr().err
