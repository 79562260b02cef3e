"""`tune_strengths` whole: the check, what it tells, and wrong arguments."""

import csv

import keras
import numpy as np
import pytest
from helpers import BACKEND
from searches import LABELS, RNG, ROWS, X, assert_same, optimizers
from test_learning import net, tune

import l2keras
from l2keras import L2
from l2keras.tuning import backup_file, stack_trainer, tune_several
from l2keras.tuning.learned import Candidate
from l2keras.tuning.learning import Learning

layers = keras.layers

few_steps = pytest.mark.filterwarnings("ignore:Strengths were learned in")
noise = pytest.mark.filterwarnings("ignore:What '")
edge = pytest.mark.filterwarnings("ignore:The best strength")

NOISE = RNG.normal(size=(ROWS, 30)).astype("float32")


def signal_and_noise(strengths):
    """Returns a linear model of two inputs, one of which tells nothing."""
    inputs = keras.Input((6,)), keras.Input((30,))
    parts = [
        layers.Dense(3, kernel_regularizer=L2(strengths[key]))(each)
        for key, each in zip(("signal", "noise"), inputs, strict=True)
    ]
    outputs = layers.Activation("softmax")(layers.add(parts))
    model = keras.Model(inputs, outputs)
    model.compile(optimizers.Adam(0.03), "sparse_categorical_crossentropy")
    return model


def printed(result):
    """Returns the lines of what a result prints of itself."""
    texts = []
    result.summary(print_fn=texts.append)
    return "\n".join(texts).splitlines()


def alike(strength):
    return signal_and_noise({"signal": strength, "noise": strength})


@edge
def test_it_is_as_good_as_one_strength_and_better_where_inputs_differ():
    options = {"folds": 2, "epochs": 60, "batch_size": 8, "verbose": 0}
    strengths = [1e-2, 1e-1]
    result = l2keras.tune_strengths(
        signal_and_noise,
        [X, NOISE],
        LABELS,
        multiples=(0.3, 1.0),
        single_strengths=strengths,
        **options,
    )
    one = l2keras.tune_strength(alike, [X, NOISE], LABELS, strengths, **options)
    # They are among the candidates, on the same folds.
    np.testing.assert_allclose(
        result.validation_loss[-2:], one.validation_loss, rtol=1e-3, atol=1e-5
    )
    assert result.learned["noise"] > 10 * result.learned["signal"]
    assert result.choice.startswith("learned x ")
    assert result.mean_loss.min() < 0.95 * one.mean_loss.min()
    # The choice is what it says.
    factor = float(result.choice.removeprefix("learned x "))
    for key, strength in result.learned.items():
        assert result.strengths[key] == pytest.approx(factor * strength)
    index = [name for name, _ in result.candidates].index(result.choice)
    loss = result.validation_loss[index].mean(axis=0)
    assert result.best_epoch == 1 + loss.argmin()
    assert loss.min() == result.mean_loss.min()
    # It is for `build_model`.
    model = signal_and_noise(result.strengths)
    model.fit([X, NOISE], LABELS, epochs=result.best_epoch, verbose=0)
    assert l2keras.penalties(model)


@few_steps
@noise
@edge
def test_what_it_tells(tmp_path):
    build_model = net(layers.BatchNormalization)
    result = tune(build_model, multiples=(0, 1), single_strengths=(0.1,))
    lines = printed(result)
    assert lines[0] == f"a: {result.learned['a']:.4g}"
    table = [line.split() for line in lines if line]
    assert [line[:3] for line in table[-3:]] == [
        ["learned", "x", "0"],
        ["learned", "x", "1"],
        ["all", "0.1", table[-1][2]],
    ]
    assert sum("best" in line for line in table) == 1
    # Behind a tanh nothing is in a chain.
    assert result.chains == []
    file = tmp_path / "check.csv"
    result.to_csv(file)
    with file.open() as opened:
        rows = list(csv.DictReader(opened))
    assert len(rows) == 3 * 2 * 3
    assert rows[-1]["candidate"] == "all 0.1"
    assert float(rows[-1]["a"]) == float(rows[-1]["b"]) == 0.1
    assert float(rows[-1]["validation_loss"]) == pytest.approx(
        result.validation_loss[-1, -1, -1]
    )
    assert "val_accuracy" in rows[0]


@few_steps
@noise
def test_the_path_is_drawn():
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    result = tune(net())
    ax = result.plot()
    lines = {line.get_label(): line for line in ax.get_lines()}
    for key, path in result.learning_path.items():
        np.testing.assert_allclose(lines[key].get_ydata(), path)
    assert ax.get_yscale() == "log"


@few_steps
@noise
def test_strengths_of_a_chain_are_told_of():
    def build_model(strengths):
        model = keras.Sequential([keras.Input((6,))])
        for key in ("first", "second", "last"):
            model.add(
                layers.Dense(
                    3,
                    "softmax" if key == "last" else "relu",
                    kernel_regularizer=L2(strengths[key]),
                )
            )
        model.compile("adam", "sparse_categorical_crossentropy")
        return model

    result = tune(build_model)
    assert result.chains == [("first", "second", "last")]
    mean = np.exp(np.mean(np.log(list(result.learned.values()))))
    (line,) = (each for each in printed(result) if "chain" in each)
    assert line.endswith(f"geometric mean: {mean:.4g}")


WARNINGS = {
    "few steps": ({"steps": 299}, "learned in 299 steps"),
    "weak": ({"strengths": [1e-7, 0.1]}, "'a' .* 1e-07, the edge .* No pen"),
    "strong": ({"strengths": [0.1, 1.0]}, "'b' .* to be 1, the edge .* no use"),
    "noise": ({"signal_to_noise": [1.9, 9.0]}, "What 'a' does .* from noise"),
    "noise the other way": ({"signal_to_noise": [9.0, -1.0]}, "What 'b' does"),
    "diverged": ({"diverged": 2}, "In 2 of the folds"),
}


@pytest.mark.parametrize("name", WARNINGS)
def test_what_makes_strengths_doubtful_is_told_of(name):
    changed, message = WARNINGS[name]
    fine = {
        "strengths": [0.1, 0.2],
        "path": None,
        "signal_to_noise": [5.0, -5.0],
        "steps": 300,
        "diverged": 0,
        "was_interrupted": False,
    }
    tune_several._warn_of_learning(Learning(**fine), ("a", "b"))
    with pytest.warns(UserWarning, match=message):
        tune_several._warn_of_learning(Learning(**{**fine, **changed}), "ab")


def checked(losses, names):
    """Returns a result with these losses of these candidates."""
    candidates = [Candidate(name, {"a": 0.1}) for name in names]
    loss = np.array(losses)[:, None, None]
    return l2keras.LearnedStrengths(
        {"a": 0.1}, {"a": np.ones(1)}, candidates, loss, loss, {}, [], []
    )


def test_a_greater_multiple_that_may_be_better_is_told_of():
    names = ["learned x 0", "learned x 1", "all 0.1"]
    with pytest.warns(UserWarning, match="learned x 1, are at the edge"):
        tune_several._warn_of_edge(
            checked([0.3, 0.1, 0.2], names), np.array([0.0, 1.0])
        )
    fine = [0.1, 0.3, 0.2], [0.3, 0.2, 0.1], [0.1009, 0.1, 0.2], [np.nan] * 3
    for losses in fine:
        tune_several._warn_of_edge(checked(losses, names), np.array([0.0, 1.0]))


def interrupted_learning(monkeypatch, call):
    """Has Ctrl-C pressed when strengths are to be learned, the n-th time."""
    cls = stack_trainer._STACKS[BACKEND]
    learn, calls = cls.learn, []

    def interrupt(*arguments):
        calls.append(arguments)
        if len(calls) == call:
            raise KeyboardInterrupt
        return learn(*arguments)

    monkeypatch.setattr(cls, "learn", interrupt)


@few_steps
@noise
@edge
@pytest.mark.parametrize(
    "where", ["learning", pytest.param("check", marks=pytest.mark.slow)]
)
def test_an_interrupted_search_goes_on_from_its_backup(
    monkeypatch, tmp_path, where
):
    build_model = net(layers.BatchNormalization)
    options = {"multiples": (0.3, 1.0), "epochs": 4}
    whole = tune(build_model, **options)
    monkeypatch.setattr(backup_file, "SECONDS", 0)
    with monkeypatch.context() as context:
        if where == "learning":
            interrupted_learning(context, 3)
        else:
            train = stack_trainer.StackTrainer.epoch

            def epoch(self, chunk, number):
                if number == 2:
                    raise KeyboardInterrupt
                return train(self, chunk, number)

            context.setattr(stack_trainer.StackTrainer, "epoch", epoch)
        with pytest.warns(UserWarning, match="was interrupted"):
            part = tune(build_model, **options, backup_dir=tmp_path)
    if where == "learning":
        np.testing.assert_allclose(
            part.learning_path["a"][:2], whole.learning_path["a"][:2], rtol=1e-4
        )
        assert np.isnan(part.learning_path["a"][2:]).all()
        assert set(part.learned) == {"a", "b"}
        assert np.isnan(part.validation_loss).all()
        with pytest.raises(ValueError, match="no strength to choose"):
            _ = part.strengths
        part.summary(print_fn=lambda text: None)
    else:
        assert part.learned == pytest.approx(whole.learned, rel=1e-4)
    assert list(tmp_path.iterdir())
    again = tune(build_model, **options, backup_dir=tmp_path)
    for key, path in whole.learning_path.items():
        np.testing.assert_allclose(again.learning_path[key], path, rtol=1e-4)
    assert_same(again, whole, rtol=1e-3, atol=1e-5)
    assert not list(tmp_path.iterdir())


@few_steps
@noise
def test_a_backup_of_other_strengths_is_refused(monkeypatch, tmp_path):
    interrupted_learning(monkeypatch, 2)
    monkeypatch.setattr(backup_file, "SECONDS", 0)
    with pytest.warns(UserWarning, match="was interrupted"):
        tune(net(), backup_dir=tmp_path)
    with pytest.raises(ValueError, match="other arguments or other data"):
        tune(net(), backup_dir=tmp_path, initial=0.1)


def untouched(strengths):
    """Asks for what it does not use."""
    _ = strengths["c"]
    return net()(strengths)


def with_keras(strengths):
    model = keras.Sequential(
        [
            keras.Input((6,)),
            layers.Dense(
                3, kernel_regularizer=keras.regularizers.L2(strengths["a"])
            ),
        ]
    )
    model.compile("adam", "mse")
    return model


def with_activity(strengths):
    model = keras.Sequential(
        [
            keras.Input((6,)),
            layers.Dense(3, "softmax", activity_regularizer=L2(strengths["a"])),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy")
    return model


def frozen(strengths):
    model = net()(strengths)
    model.layers[0].trainable = False
    model.compile("adam", "sparse_categorical_crossentropy")
    return model


class OwnStep(keras.Sequential):
    def train_step(self, *arguments):
        return super().train_step(*arguments)


def with_own_step(strengths):
    model = OwnStep(net()(strengths).layers)
    model.compile("adam", "sparse_categorical_crossentropy")
    return model


def changing(strengths):
    """Asks for another strength once it knows that there are two."""
    if isinstance(strengths, dict):
        _ = strengths["d"]
    return net()(strengths)


MISTAKES = {
    "unused": (untouched, {}, ValueError, "Not used is 'c'"),
    "of Keras": (with_keras, {}, TypeError, "a regularizer of l2keras"),
    "none": (lambda strengths: net()({"a": 0, "b": 0}), {}, ValueError, "none"),
    "a number": (
        lambda strengths: net()({"a": float(strengths["a"]), "b": 0}),
        {},
        TypeError,
        "must do without the values",
    ),
    "listed": (lambda s: net()(dict(s)), {}, TypeError, "cannot be listed"),
    "no string": (lambda s: net()({"a": s[0]}), {}, TypeError, "by strings"),
    "others": (changing, {}, KeyError, "At first it asked for"),
    "activity": (with_activity, {}, ValueError, "'a' cannot be learned"),
    "frozen": (frozen, {}, ValueError, "'a' cannot be learned"),
    "a step": (with_own_step, {}, ValueError, "a `train_step` of its own"),
    "no function": (3, {}, TypeError, "must be a function"),
    "no model": (lambda s: s["a"], {}, TypeError, "must return a Keras model"),
    "keys": (net(), {"initial": {"a": 0.1, "c": 0.1}}, ValueError, "'a', 'b'"),
    "zero": (net(), {"initial": 0.0}, ValueError, "from 1e-07 to 1"),
    "text": (net(), {"initial": "a"}, TypeError, "initial"),
    "multiples": (net(), {"multiples": (1, 0)}, ValueError, "`multiples`"),
    "no multiples": (net(), {"multiples": ()}, ValueError, "`multiples`"),
    "singles": (
        net(),
        {"single_strengths": (-1,)},
        ValueError,
        "`single_strengths`",
    ),
    "epochs": (net(), {"epochs": 0}, ValueError, "`epochs`"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_told_of(name):
    build_model, arguments, error, message = MISTAKES[name]
    with pytest.raises(error, match=message):
        tune(build_model, **arguments)


def test_folds_that_do_not_train_together_are_told_of(monkeypatch):
    stack = stack_trainer._STACKS[BACKEND]
    monkeypatch.setattr(stack, "learns_as_alone", lambda *_: False)
    with pytest.raises(ValueError, match=f"{BACKEND} trains a stack to other"):
        tune(net())


def test_random_numbers_are_put_back():
    draws = []
    for search in (lambda: None, lambda: mistaken(untouched)):
        keras.utils.set_random_seed(3)
        search()
        draws.append(np.random.rand(2))  # noqa: NPY002
    np.testing.assert_array_equal(*draws)


def mistaken(build_model):
    with pytest.raises(ValueError, match="Not used"):
        tune(build_model)
