"""What Keras compiled for a model, when it no longer holds."""

import functools

import keras

from l2keras._keras import memory, trainer_hooks

# Where a model keeps what splits its loss, which has compiled functions too.
SESSION = "_l2keras_session"


def forget_compiled(model: keras.Model) -> None:
    """Drops the compiled functions; within `fit`, has them made again.

    Those of the models that contain this one too.
    """
    for each in memory.models_around(model):
        training = each.train_function is not None
        each.train_function = each.test_function = None
        session = vars(each).get(SESSION)
        if session is not None:
            session.renew()
        if training:
            if "train_step" in vars(each):
                # JAX would find what it compiled of the same function before.
                each.train_step = functools.partial(each.train_step)
            trainer_hooks.note_state(each)
            each.make_train_function(force=True)
