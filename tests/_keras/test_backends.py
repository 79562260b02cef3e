"""The three backends, and any other."""

from pathlib import Path

from helpers import run_python

PROGRAM = Path(__file__).parent / "programs" / "import_l2keras.py"


def test_a_backend_that_is_not_known_is_refused():
    printed = run_python(PROGRAM)
    assert printed == (
        "l2keras knows Keras's backends tensorflow, jax and torch. Received: "
        "mlx. Set KERAS_BACKEND to one of the three. For a model that is to "
        "run elsewhere, save it after "
        "`l2keras.strip_regularizers(model)`: then it needs Keras alone.\n"
    )
