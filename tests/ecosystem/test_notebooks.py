"""Plots and results show themselves in a notebook, without a further call."""

import pytest

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")

PREPARED = """
import keras, numpy as np, l2keras

history = {"data_loss": [2.0, 1.0], "regularization_loss": [0.5, 0.2]}
loss = np.array([[[0.4], [0.6]], [[0.3], [0.5]]])
result = l2keras.TuningResult(np.array([0.1, 1.0]), loss, loss, {}, [])
dense = keras.layers.Dense(3, kernel_regularizer=l2keras.GroupLasso(0.1))
model = keras.Sequential([keras.Input((4,)), dense])
"""

# Each is the only line of a cell.
SHOWN = {
    "l2keras.plot_loss_split(history)": "image/png",
    "result.plot()": "image/png",
    "l2keras.plot_sparsity(model)": "image/png",
    "result": "text/html",
    "l2keras.penalties(model)": "text/html",
    "l2keras.compact(model)[1]": "text/html",
}


@pytest.fixture(scope="module")
def outputs():
    """The outputs of each cell, as their contents by type."""
    with pytest.MonkeyPatch.context() as patch:
        # That of the tests would draw without showing.
        patch.delenv("MPLBACKEND", raising=False)
        cells = [PREPARED, *SHOWN]
        notebook = nbformat.v4.new_notebook(
            cells=[nbformat.v4.new_code_cell(cell) for cell in cells]
        )
        nbclient.NotebookClient(
            notebook, kernel_name="python3", timeout=1_800
        ).execute()
    return {
        cell.source: [dict(output.get("data", {})) for output in cell.outputs]
        for cell in notebook.cells
    }


@pytest.mark.parametrize("line", SHOWN)
def test_the_last_line_of_a_cell_shows_itself(line, outputs):
    shown = [data[SHOWN[line]] for data in outputs[line] if SHOWN[line] in data]
    assert len(shown) == 1
    if SHOWN[line] == "text/html":
        assert "<table>" in shown[0]
