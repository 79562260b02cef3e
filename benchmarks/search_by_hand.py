"""The search of `tune_strength.py`, written by hand for this one search.

What a programmer would write who knows framework, model and optimizer, and who
wants nothing else: Dense(64, relu), Dense(3, softmax), L2 on both kernels,
Adam, and after each epoch the loss and the accuracy on the rows held out. All
replicas at once, with the axes (folds, strengths, ...).

Each function takes the weights to begin with, [kernel, bias, kernel, bias] of
shape (folds, ...); the data; the strengths; the rows of each fold to train on
and to judge on; and returns the validation losses, (strengths, folds, epochs).
"""

import numpy as np

RATE, BETA_1, BETA_2, EPSILON = 0.001, 0.9, 0.999, 1e-7


def in_tensorflow(initial, x, y, strengths, train, held_out, epochs, batch):
    import tensorflow as tf

    number = len(strengths)
    x, y = tf.constant(x), tf.constant(y, tf.float32)
    strengths = tf.constant(strengths, tf.float32)
    weights = [
        # A bias has an axis for the rows that are added to it.
        tf.Variable(_repeated(each, number))
        for each in initial
    ]
    first = [tf.Variable(tf.zeros_like(each)) for each in weights]
    second = [tf.Variable(tf.zeros_like(each)) for each in weights]
    step = tf.Variable(0.0)

    def losses(rows):
        inputs = tf.gather(x, rows)[:, None]
        labels = tf.gather(y, rows)[:, None]
        w1, b1, w2, b2 = weights
        hidden = tf.nn.relu(tf.matmul(inputs, w1) + b1[..., None, :])
        logits = tf.matmul(hidden, w2) + b2[..., None, :]
        log = tf.nn.log_softmax(logits)
        loss = -tf.reduce_mean(tf.reduce_sum(labels * log, -1), -1)
        right = tf.argmax(logits, -1) == tf.argmax(labels, -1)
        return loss, tf.reduce_mean(tf.cast(right, tf.float32), -1)

    @tf.function
    def epoch(train, held_out):
        means = tf.zeros((2, len(initial[0]), number))
        for i in tf.range(train.shape[1] // batch):
            with tf.GradientTape() as tape:
                loss, accuracy = losses(train[:, i * batch : (i + 1) * batch])
                penalty = strengths * (
                    tf.reduce_sum(weights[0] ** 2, (-1, -2))
                    + 0.1 * tf.reduce_sum(weights[2] ** 2, (-1, -2))
                )
                total = tf.reduce_sum(loss + penalty)
            gradients = tape.gradient(total, weights)
            step.assign_add(1.0)
            rate = RATE * tf.sqrt(1 - BETA_2**step) / (1 - BETA_1**step)
            for w, m, v, g in zip(
                weights, first, second, gradients, strict=True
            ):
                m.assign_add((g - m) * (1 - BETA_1))
                v.assign_add((g * g - v) * (1 - BETA_2))
                w.assign_sub(rate * m / (tf.sqrt(v) + EPSILON))
            means += tf.stack([loss, accuracy])
        return means, tf.stack(losses(held_out))

    train, held_out = tf.constant(train), tf.constant(held_out)
    results = [epoch(train, held_out) for _ in range(epochs)]
    return np.stack([held[0].numpy().T for _, held in results], axis=-1)


def in_jax(initial, x, y, strengths, train, held_out, epochs, batch):
    import jax
    import jax.numpy as jnp

    x, y = jnp.asarray(x), jnp.asarray(y)
    batches = train.reshape(len(train), -1, batch)

    def evaluate(weights, rows):
        w1, b1, w2, b2 = weights
        logits = jax.nn.relu(x[rows] @ w1 + b1) @ w2 + b2
        loss = -(y[rows] * jax.nn.log_softmax(logits)).sum(-1).mean()
        right = logits.argmax(-1) == y[rows].argmax(-1)
        return loss, right.mean()

    def objective(weights, strength, rows):
        loss, accuracy = evaluate(weights, rows)
        penalty = (weights[0] ** 2).sum() + 0.1 * (weights[2] ** 2).sum()
        return loss + strength * penalty, (loss, accuracy)

    def replica(weights, batches, held_out, strength):
        def update(state, rows):
            weights, first, second, step = state
            gradients, means = jax.grad(objective, has_aux=True)(
                weights, strength, rows
            )
            step = step + 1
            first = jax.tree.map(
                lambda m, g: m + (g - m) * (1 - BETA_1), first, gradients
            )
            second = jax.tree.map(
                lambda v, g: v + (g * g - v) * (1 - BETA_2), second, gradients
            )
            rate = RATE * jnp.sqrt(1 - BETA_2**step) / (1 - BETA_1**step)
            weights = jax.tree.map(
                lambda w, m, v: w - rate * m / (jnp.sqrt(v) + EPSILON),
                weights,
                first,
                second,
            )
            return (weights, first, second, step), means

        def epoch(state, _):
            state, means = jax.lax.scan(update, state, batches)
            return state, (means, evaluate(state[0], held_out))

        zeros = jax.tree.map(jnp.zeros_like, weights)
        state = weights, zeros, zeros, 0.0
        return jax.lax.scan(epoch, state, length=epochs)[1][1][0]

    search = jax.vmap(jax.vmap(replica, (None, None, None, 0)), (0, 0, 0, None))
    losses = jax.jit(search)(
        initial, batches, held_out, strengths.astype("float32")
    )
    return np.asarray(losses).transpose(1, 0, 2)


def in_torch(initial, x, y, strengths, train, held_out, epochs, batch):
    import torch

    number = len(strengths)
    x, y = torch.as_tensor(x), torch.as_tensor(y)
    strengths = torch.as_tensor(strengths, dtype=torch.float32)
    # Replicas in one axis, for `torch.baddbmm`.
    w1, b1, w2, b2 = weights = [
        torch.as_tensor(_repeated(each, number)).flatten(0, 1)
        for each in initial
    ]
    strengths = strengths.repeat(len(initial[0]))
    for each in weights:
        each.requires_grad_()
    first = [torch.zeros_like(each) for each in weights]
    second = [torch.zeros_like(each) for each in weights]

    def forward(rows):
        # The replicas of a fold see the same rows.
        inputs = x[rows].repeat_interleave(number, 0)
        labels = y[rows].repeat_interleave(number, 0)
        hidden = torch.baddbmm(b1[:, None], inputs, w1).relu()
        logits = torch.baddbmm(b2[:, None], hidden, w2)
        loss = -(labels * logits.log_softmax(-1)).sum(-1).mean(-1)
        right = logits.argmax(-1) == labels.argmax(-1)
        return loss, right.float().mean(-1)

    step, results = 0, []
    for _ in range(epochs):
        means = torch.zeros(2, len(strengths))
        for i in range(0, train.shape[1], batch):
            loss, accuracy = forward(train[:, i : i + batch])
            penalty = w1.square().sum((1, 2)) + 0.1 * w2.square().sum((1, 2))
            total = (loss + strengths * penalty).sum()
            gradients = torch.autograd.grad(total, weights)
            step += 1
            rate = RATE * (1 - BETA_2**step) ** 0.5 / (1 - BETA_1**step)
            with torch.no_grad():
                torch._foreach_lerp_(first, gradients, 1 - BETA_1)
                torch._foreach_mul_(second, BETA_2)
                torch._foreach_addcmul_(
                    second, gradients, gradients, 1 - BETA_2
                )
                scale = torch._foreach_sqrt(second)
                torch._foreach_add_(scale, EPSILON)
                torch._foreach_addcdiv_(weights, first, scale, -rate)
                means += torch.stack([loss, accuracy])
        with torch.no_grad():
            results.append(forward(held_out)[0].reshape(-1, number).T)
    return torch.stack(results, -1).numpy()


def _repeated(values, number):
    """Returns (folds, ...) as (folds, strengths, ...)."""
    shape = len(values), number, *values.shape[1:]
    return np.broadcast_to(values[:, None], shape).copy()
