"""The sizes of replicas: those of `compact`, and of convex problems' paths."""

import dataclasses
import types

import keras
import numpy as np
import pytest
from sklearn.linear_model import Lasso, MultiTaskLasso

import l2keras
from l2keras.tuning import checkpoint
from l2keras.tuning.sizes import Sizes
from tests.support.searches import (
    EXPECTED_WARNINGS,
    FOLDS,
    LABELS,
    Own,
    X,
    interrupt,
    net,
    plain_fit,
    told_why,
    tune,
)

layers, optimizers = keras.layers, keras.optimizers

pytestmark = EXPECTED_WARNINGS

THREE = [0.0, 0.15, 0.4]
ASKED = "`build_model` asks for the value of the strength"


def momentum():
    return optimizers.SGD(0.1, momentum=0.9)


def sparse(strength, of_each=None):
    """Returns a model that loses units and inputs."""
    penalty = l2keras.GroupLasso(strength) + l2keras.L1(
        strength if of_each is None else of_each
    )
    model = keras.Sequential(
        [
            keras.Input((6,)),
            layers.Dense(8, "tanh", kernel_regularizer=penalty, name="hidden"),
            layers.BatchNormalization(),
            layers.Dense(3, "softmax"),
        ]
    )
    model.compile(
        l2keras.Proximal(momentum()), "sparse_categorical_crossentropy"
    )
    return model


def sparse_by_fit(strength):
    return sparse(float(strength))


def assert_same_sizes(one, other):
    np.testing.assert_array_equal(one.parameters, other.parameters)
    np.testing.assert_array_equal(one.widths["hidden"], other.widths["hidden"])
    (ours,), (others,) = one.inputs_read.values(), other.inputs_read.values()
    np.testing.assert_array_equal(ours, others)


@pytest.mark.parametrize(
    ("build_model", "at_once", "why"),
    [
        pytest.param(sparse, None, None, id="stacked"),
        pytest.param(
            sparse, 1, None, id="in one model", marks=pytest.mark.slow
        ),
        pytest.param(
            sparse_by_fit,
            None,
            ASKED,
            id="each in a model",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_sizes_are_those_of_compact_on_models_that_were_fit_alone(
    build_model, at_once, why
):
    with told_why(why):
        result = tune(build_model, strengths=THREE, at_once=at_once, epochs=4)
    assert len(np.unique(result.parameters)) > 1
    (read,) = result.inputs_read.values()
    assert result.unknown_size_reason is None
    built = []

    def building(strength):
        built.append(sparse(strength))
        return built[-1]

    for row, strength in enumerate(THREE):
        for fold, rows in enumerate(FOLDS):
            plain_fit(building, strength, fold, rows, X, LABELS, epochs=4)
            small, report = l2keras.compact(built[-1])
            counted = sum(weight.size for weight in small.get_weights())
            assert result.parameters[row, fold] == counted
            assert (
                result.widths["hidden"][row, fold]
                == small.get_layer("hidden").units
            )
            (unread,) = report.unread_inputs.values()
            off = np.flatnonzero(read[row, fold] == 0).tolist()
            assert off == unread


@pytest.mark.slow
def test_processes_count_the_same_sizes():
    options = {"strengths": THREE, "epochs": 3}
    assert_same_sizes(
        tune(sparse, n_jobs=2, **options), tune(sparse, **options)
    )


def test_sizes_survive_an_interruption(monkeypatch, tmp_path):
    monkeypatch.setattr(checkpoint, "SECONDS", 0)
    options = {"strengths": THREE, "epochs": 3, "at_once": 2}
    whole = tune(sparse, **options)
    options["backup_dir"] = tmp_path
    with monkeypatch.context() as context:
        interrupt(context, 5)
        with pytest.warns(UserWarning, match="interrupted"):
            part = tune(sparse, **options)
    done = np.isfinite(part.validation_loss[:, :, -1])
    assert 0 < done.sum() < done.size
    np.testing.assert_array_equal(np.isfinite(part.parameters), done)
    np.testing.assert_array_equal(part.parameters[done], whole.parameters[done])
    assert_same_sizes(tune(sparse, **options), whole)


@pytest.mark.slow
def test_a_search_for_several_strengths_counts_sizes():
    def build_model(strengths):
        return sparse(strengths["a"], strengths["b"])

    result = tune(build_model, strengths={"a": (1e-4, 1.0), "b": (1e-4, 1.0)})
    candidates = len(result.strengths)
    assert result.parameters.shape == (candidates, 2)
    assert np.isfinite(result.parameters).all()
    choice = result.smallest(within=1e9)
    (row, *_) = np.flatnonzero(
        (result.strengths == [choice["a"], choice["b"]]).all(axis=1)
    )
    means = result.parameters.mean(axis=1)
    assert means[row] == means.min()


def test_without_a_proximal_penalty_sizes_are_not_counted():
    result = tune(net(), epochs=1)
    assert result.parameters is None
    assert result.widths == result.inputs_read == {}
    with pytest.raises(ValueError, match="are not known: no weight has a "):
        result.smallest()


def subclassed(strength):
    model = Own(0.0)
    model.last.kernel_regularizer = l2keras.L1(strength)
    model.compile(
        l2keras.Proximal(momentum()), "sparse_categorical_crossentropy"
    )
    return model


def test_of_a_model_that_compact_refuses_sizes_are_not_counted():
    result = tune(subclassed, epochs=1)
    assert result.parameters is None
    assert "Only a sequential or functional model" in result.unknown_size_reason
    with pytest.raises(ValueError, match="`compact` refuses the model: Only"):
        result.smallest()


def test_weights_that_are_not_finite_have_no_size():
    model = sparse(0.01)
    sizes = Sizes.of(model)
    (known,) = sizes.at_end(
        types.SimpleNamespace(models=lambda: iter([model])), (1, 1)
    )[0]
    assert known[0] == model.count_params()
    model.layers[-1].bias.assign([np.nan, 0.0, 0.0])
    (unknown,) = sizes.at_end(
        types.SimpleNamespace(models=lambda: iter([model])), (1, 1)
    )[0]
    assert np.isnan(unknown).all()
    assert len(unknown) == len(known) == sizes.length


# The choice -------------------------------------------------------------------


def made_up(seed=0, candidates=6, folds=3, **changes):
    rng = np.random.default_rng(seed)
    shape = candidates, folds, 4
    result = l2keras.TuningResult(
        np.logspace(-3, 1, candidates),
        rng.uniform(0.9, 1.1, size=shape),
        rng.uniform(size=shape),
        {"val_accuracy": rng.uniform(0.7, 0.9, size=shape)},
        [],
        parameters=rng.integers(50, 500, size=shape[:2]).astype(float),
    )
    return dataclasses.replace(result, **changes)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("within", [0.0, 0.02, 0.1, "standard_error"])
@pytest.mark.parametrize("monitor", ["val_data_loss", "val_accuracy"])
def test_the_smallest_is_the_smallest_of_those_close_to_the_best(
    monitor, within, seed
):
    mode = "max" if monitor == "val_accuracy" else "min"
    result = made_up(seed, monitor=monitor, mode=mode)
    last = result.monitored[:, :, -1]
    sign = -1 if mode == "max" else 1
    best = min(range(6), key=lambda row: sign * last[row].mean())
    allowed = (
        last[best].std(ddof=1) / np.sqrt(3)
        if within == "standard_error"
        else within * last[best].mean()
    )
    close = [
        row
        for row in range(6)
        if sign * (last[row].mean() - last[best].mean()) <= allowed + 1e-15
    ]
    smallest = min(close, key=lambda row: result.parameters[row].mean())
    assert result.smallest(within) == result.strengths[smallest]


def test_of_equally_many_parameters_fewer_inputs_are_smaller():
    read = np.ones((6, 3, 5))
    read[4, 1, 2] = 0
    result = made_up(
        parameters=np.full((6, 3), 9.0), inputs_read={"features": read}
    )
    assert result.smallest(within=1.0) == result.strengths[4]


def test_a_replica_without_a_size_is_not_chosen():
    result = made_up()
    least = result.parameters.mean(axis=1).argmin()
    result.parameters[least, 0] = np.nan
    assert result.smallest(within=1.0) != result.strengths[least]
    result.parameters[:, 0] = np.nan
    with pytest.raises(ValueError, match="none was trained to its end in all"):
        result.smallest()


@pytest.mark.parametrize("within", [-0.1, np.nan, np.inf, "one error"])
def test_mistaken_distances_are_refused(within):
    with pytest.raises(ValueError, match="Argument `within` must be"):
        made_up().smallest(within)
    with pytest.raises(TypeError, match="Argument `within` must be"):
        made_up().smallest(None)


def test_one_fold_has_no_standard_error_of_a_size():
    result = made_up(folds=1)
    assert result.smallest(0.1) in result.strengths
    with pytest.raises(ValueError, match="must be a number where there is one"):
        result.smallest("standard_error")


# Tables -----------------------------------------------------------------------


def test_tables_show_the_mean_and_files_have_the_last_epoch(tmp_path):
    result = made_up(metrics={})
    result.parameters[2, 1] = np.nan
    texts = []
    result.summary(print_fn=texts.append)
    rows = [line.split() for line in texts[0].splitlines() if line.strip()]
    place = rows[0].index("Parameters")
    means = result.parameters.mean(axis=1)
    for row, mean in zip(rows[2:], means, strict=True):
        if np.isfinite(mean):
            assert row[place] == f"{mean:,.0f}"
    assert f"{means[0]:,.0f}" in result._repr_html_()
    result.to_csv(tmp_path / "result.csv")
    lines = (tmp_path / "result.csv").read_text().splitlines()
    column = lines[0].split(",").index("parameters")
    assert float(lines[4].split(",")[column]) == result.parameters[0, 0]


def test_without_sizes_the_tables_have_no_column_of_them(tmp_path):
    result = made_up(parameters=None)
    texts = []
    result.summary(print_fn=texts.append)
    assert "Parameters" not in texts[0]
    result.to_csv(tmp_path / "result.csv")
    assert "parameters" not in (tmp_path / "result.csv").read_text()


def test_a_data_frame_has_the_sizes_after_the_last_epoch():
    pytest.importorskip("pandas")
    result = made_up(metrics={})
    frame = result.to_frame()
    last = frame[frame["epoch"] == 4]["parameters"]
    np.testing.assert_array_equal(last, result.parameters.ravel())
    assert frame[frame["epoch"] < 4]["parameters"].isna().all()


# Convex problems --------------------------------------------------------------

ROWS, INPUTS = 80, 8
RNG = np.random.default_rng(11)
FEATURES = RNG.normal(size=(ROWS, INPUTS)).astype("float32")
TARGETS = (
    FEATURES @ (RNG.normal(size=(INPUTS, 2)) * (np.arange(INPUTS) < 4)[:, None])
    + 0.3 * RNG.normal(size=(ROWS, 2))
).astype("float32")
HALVES = [
    (np.arange(40), np.arange(40, 80)),
    (np.arange(40, 80), np.arange(40)),
]


def lasso(strength):
    return Lasso(strength / 2, fit_intercept=False, tol=1e-12, max_iter=10**5)


def group_lasso(strength):
    # Keras's loss is a mean over the two outputs as well.
    return MultiTaskLasso(
        strength, fit_intercept=False, tol=1e-12, max_iter=10**5
    )


@pytest.mark.parametrize(
    ("penalty", "outputs", "truth"),
    [
        pytest.param(l2keras.L1, 1, lasso, id="lasso"),
        pytest.param(
            lambda strength: l2keras.GroupLasso(strength, axis=0),
            2,
            group_lasso,
            id="group lasso",
        ),
    ],
)
def test_the_path_of_one_layer_is_that_of_scikit_learn(penalty, outputs, truth):
    strengths = [0.01, 0.1, 0.4, 1.0, 1.7]
    targets = TARGETS[:, :outputs]

    def build_model(strength):
        model = keras.Sequential(
            [
                keras.Input((INPUTS,), name="features"),
                layers.Dense(
                    outputs,
                    use_bias=False,
                    kernel_regularizer=penalty(strength),
                ),
            ]
        )
        model.compile(
            l2keras.Proximal(optimizers.SGD(0.1, momentum=0.8)), "mse"
        )
        return model

    result = tune(
        build_model,
        FEATURES,
        targets,
        strengths,
        folds=HALVES,
        epochs=200,
        batch_size=40,
    )
    numbers = set()
    for row, strength in enumerate(strengths):
        for fold, (train, held_out) in enumerate(HALVES):
            given = targets[train] if outputs > 1 else targets[train, 0]
            fitted = truth(strength).fit(FEATURES[train].astype(float), given)
            kernel = fitted.coef_.reshape(outputs, INPUTS).T
            support = kernel.any(axis=1)
            numbers.add(int(support.sum()))
            np.testing.assert_array_equal(
                result.inputs_read["features"][row, fold], support
            )
            error = FEATURES[held_out] @ kernel - targets[held_out]
            np.testing.assert_allclose(
                result.validation_loss[row, fold, -1],
                np.square(error).mean(),
                rtol=2e-5,
            )
    assert len(numbers) > 3
    # The weights, which a result does not keep, of one fit of its own.
    model = build_model(0.4)
    model.fit(FEATURES[:40], targets[:40], batch_size=40, epochs=200, verbose=0)
    given = targets[:40] if outputs > 1 else targets[:40, 0]
    fitted = truth(0.4).fit(FEATURES[:40].astype(float), given)
    np.testing.assert_allclose(
        model.get_weights()[0],
        fitted.coef_.reshape(outputs, INPUTS).T,
        rtol=0,
        atol=1e-5,
    )
