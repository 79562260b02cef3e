"""Who is calling: the models on the call stack.

Keras hands an optimizer a bare list of variables, without the model that they
belong to. But when Keras itself asks, it does so from a method of that model:
`fit`, `train_on_batch`, `train_step`, `compile_from_config`. So the model is
known to the callers, and nothing has to be searched, kept or guessed.
"""

import inspect

import keras


def models_on_stack() -> list[keras.Model]:
    """Returns the models whose methods are running, each once.

    The innermost call comes first. Looked at are the frames of this thread in
    which `self` is a model, closures of its methods included. That holds inside
    compiled functions too, while they are traced, and in the threads of
    TensorFlow's replicas, which each call the model's `train_step`.
    """
    found: dict[int, keras.Model] = {}
    frame = inspect.currentframe()
    while frame is not None:
        caller = frame.f_locals.get("self")
        # Not `isinstance`, which would wake objects that load lazily.
        if issubclass(type(caller), keras.Model):
            found.setdefault(id(caller), caller)
        frame = frame.f_back
    return list(found.values())
