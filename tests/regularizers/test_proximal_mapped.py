"""Proximal steps of many models at once, by each backend's own map."""

import keras
import numpy as np
import pytest
from keras import ops

from l2keras.regularizers.proximal_terms import proximal_terms, stepped
from tests.support import BACKEND
from tests.support.proximal_operators import OPERATORS, drawn

REPLICAS = 5


def mapped(function, *stacks):
    """Maps a function over the entries of stacks, in compiled code."""
    stacks = [ops.array(stack) for stack in stacks]
    if BACKEND == "jax":
        import jax

        return jax.jit(jax.vmap(function))(*stacks)
    if BACKEND == "tensorflow":
        import tensorflow as tf

        @tf.function
        def run(*stacks):
            return tf.vectorized_map(
                lambda each: function(*each),
                stacks,
                fallback_to_while_loop=False,
            )

        return run(*stacks)
    import torch

    return torch.func.vmap(function)(*stacks)


@pytest.mark.parametrize("length", ["of all", "of each weight"])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("name", OPERATORS)
def test_a_vectorized_proximal_step_equals_single_steps(name, dtype, length):
    regularizer, _ = OPERATORS[name]
    weights, lengths = zip(
        *(drawn(0.3, seed) for seed in range(REPLICAS)), strict=True
    )
    weights = np.stack(weights).astype(dtype)
    lengths = np.stack(lengths)
    if length == "of all":
        lengths = lengths.mean(axis=(1, 2, 3))
    terms = proximal_terms(regularizer, weights.shape[1:])
    # Each model has strengths of its own, and one of them none.
    strengths = [
        np.array([0.0, 0.1, 1.0, 3.0, 1e3], "float32") * (1 + place)
        for place in range(len(terms))
    ]

    def step(weights, length, *strengths):
        thresholds = [strength * length for strength in strengths]
        return stepped(terms, weights, thresholds)

    found = mapped(step, weights, lengths, *strengths)
    assert keras.backend.standardize_dtype(found.dtype) == dtype
    assert tuple(found.shape) == weights.shape
    alone = [
        ops.convert_to_numpy(
            step(*(ops.array(stack[index]) for stack in stacks))
        )
        for stacks in [(weights, lengths, *strengths)]
        for index in range(REPLICAS)
    ]
    found = ops.convert_to_numpy(found)
    tolerance = 1e-6 if dtype == "float32" else 1e-3
    np.testing.assert_allclose(found, alone, rtol=tolerance, atol=tolerance)
    np.testing.assert_array_equal(found == 0, np.equal(alone, 0))
    assert (found[0] != 0).any()
    assert (found[-1] == 0).all()
