"""The three backends, and any other."""

from tests.support import run_program


def test_an_unknown_backend_is_refused():
    printed = run_program("import_on_unknown_backend")
    assert printed == (
        "l2keras knows Keras's backends tensorflow, jax and torch. Received: "
        "mlx. Set KERAS_BACKEND to one of the three. For a model that is to "
        "run elsewhere, save it after "
        "`l2keras.strip_regularizers(model)`: then it needs Keras alone.\n"
    )
