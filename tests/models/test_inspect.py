"""Saved models that are inspected from the command line."""

import keras
import pytest
from keras import ops

import l2keras
from l2keras.__main__ import main
from tests.support import rising_schedule, run_python
from tests.support.audited_models import (
    dense,
    sequential,
    summary,
    trained,
    two,
)


def inspect(file, capsys, *arguments):
    """Returns the exit status and the printed text."""
    status = main(["inspect", *arguments, str(file)])
    captured = capsys.readouterr()
    assert bool(captured.err) == bool(status)
    return status, captured.err if status else captured.out


def test_a_saved_model_is_inspected(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    model = trained(
        two(l2keras.L2(rising_schedule()), None),
        l2keras.RegularizationLogger(),
    )
    model.save(tmp_path / "model.keras")
    status, out = inspect(tmp_path / "model.keras", capsys)
    assert status == 0
    assert out == f"{summary(model, 100)}\n"
    assert "- No penalty, unlike other kernels: output/kernel" in out


def test_a_missing_file_is_reported(tmp_path, capsys):
    file = tmp_path / "missing.keras"
    assert inspect(file, capsys) == (2, f"There is no file {file}\n")


@pytest.mark.parametrize("name", ["model.h5", "model", "folder.keras"])
def test_other_kinds_of_files_are_refused(name, tmp_path, capsys):
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
        dense("hidden", l2keras.L2(0.25)),
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


def test_an_unregistered_layer_cannot_be_loaded(tmp_path, capsys):
    class Unknown(keras.layers.Dense):
        pass

    file = tmp_path / "model.keras"
    sequential(Unknown(2, name="hidden")).save(file)
    status, out = inspect(file, capsys)
    assert status == 1
    (line,) = out.splitlines()
    assert line.startswith(f"{file} cannot be inspected: ")


def test_import_registers_the_layers_of_a_module(tmp_path, capsys, monkeypatch):
    (tmp_path / "layers_of_mine.py").write_text(
        "import keras\n\n\n"
        "@keras.saving.register_keras_serializable(package='mine')\n"
        "class Mine(keras.layers.Dense):\n    pass\n"
    )
    file, program = tmp_path / "model.keras", tmp_path / "program.py"
    program.write_text(
        "import sys\nimport keras, l2keras, layers_of_mine\n"
        "layer = layers_of_mine.Mine(2, kernel_regularizer=l2keras.L2(0.5))\n"
        "keras.Sequential([keras.Input((3,)), layer]).save(sys.argv[1])\n"
    )
    run_python(program, str(file))
    status, out = inspect(file, capsys)
    assert status == 1
    assert "Mine" in out
    monkeypatch.syspath_prepend(tmp_path)
    status, out = inspect(file, capsys, "--import", "layers_of_mine")
    assert status == 0
    assert "L2(l2=0.5)" in out
    assert inspect(file, capsys, "--import", "no_such_module") == (
        2,
        "no_such_module cannot be imported: ModuleNotFoundError: No module "
        "named 'no_such_module'\n",
    )


def test_a_model_that_was_not_built_cannot_be_inspected(tmp_path, capsys):
    file = tmp_path / "model.keras"
    with pytest.warns(UserWarning, match="not yet been built"):
        keras.Sequential([keras.layers.Dense(2)], name="small").save(file)
    assert inspect(file, capsys) == (
        1,
        f"{file} cannot be inspected: Model 'small' is not built, "
        "so it has no weights yet. Call `model.build(input_shape)` first, or "
        "call it on data.\n",
    )


@keras.saving.register_keras_serializable(package="l2keras_tests_inspect")
class Failing(keras.regularizers.Regularizer):
    """Fails once it was told to."""

    fails = False

    def __call__(self, weights):
        if self.fails:
            raise ZeroDivisionError("no such penalty")
        return ops.sum(weights)

    def get_config(self):
        return {}


def test_a_regularizer_that_cannot_be_computed_is_named(
    tmp_path, capsys, monkeypatch
):
    file = tmp_path / "model.keras"
    sequential(dense("hidden", Failing())).save(file)
    monkeypatch.setattr(Failing, "fails", True)
    assert inspect(file, capsys) == (
        1,
        f"{file} cannot be inspected: Regularizer Failing() cannot "
        "be computed for weight 'hidden/kernel' of shape (4, 3): no such "
        "penalty\n",
    )


def test_an_unknown_loss_is_loaded_without_its_optimizer(tmp_path, capsys):
    def own_loss(truth, prediction):
        return ops.mean(ops.square(truth - prediction))

    model, plain = (two(l2keras.L2(0.25), None) for _ in range(2))
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
