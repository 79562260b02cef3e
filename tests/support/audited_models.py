"""Small models to audit, and their summaries."""

import keras
import numpy as np

import l2keras


def dense(name, regularizer=None, units=3, **arguments):
    return keras.layers.Dense(
        units, name=name, kernel_regularizer=regularizer, **arguments
    )


def sequential(*layers, name="small"):
    return keras.Sequential([keras.Input((4,)), *layers], name=name)


def summary(model, line_length=400):
    """Returns the printed summary, in long lines."""
    texts = []
    l2keras.summary(model, line_length=line_length, print_fn=texts.append)
    (text,) = texts
    return text


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


def exclude(optimizer, *names):
    optimizer.exclude_from_weight_decay(var_names=list(names))
    return optimizer
