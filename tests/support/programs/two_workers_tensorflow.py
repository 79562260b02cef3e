"""Prints how far a loop on two workers ends from NumPy's; run by each."""

import keras
import numpy as np

import l2keras
from tests.support import (
    documented_data,
    documented_model,
    falling,
    falling_schedule,
    rising,
    rising_schedule,
    simulate,
)


def main():
    import tensorflow as tf

    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    worker = strategy.cluster_resolver.task_id
    x, y = documented_data(samples=64)
    with strategy.scope():
        model = documented_model(
            l2keras.L2(rising_schedule()), l2keras.L2(falling_schedule())
        )
        optimizer = keras.optimizers.SGD(0.1)
        optimizer.build(model.trainable_variables)
    start = model.get_weights()

    @tf.function
    def train_step(xb, yb):
        def replica_step(xb, yb):
            with tf.GradientTape() as tape:
                losses = keras.losses.categorical_crossentropy(yb, model(xb))
                loss = tf.reduce_sum(losses) / 16 + sum(model.losses) / 2
            gradients = tape.gradient(loss, model.trainable_variables)
            optimizer.apply(gradients, model.trainable_variables)

        strategy.run(replica_step, args=(xb, yb))

    for step in range(8):
        l2keras.set_step(model, optimizer.iterations)
        # Each worker has its half of the batch.
        begin = 16 * (step % 4) + 8 * worker
        where = slice(begin, begin + 8)
        train_step(tf.constant(x[where]), tf.constant(y[where]))
    truth = simulate(start, x, y, first=rising, second=falling, epochs=2)
    weights = zip(model.get_weights(), truth.weights, strict=True)
    print(strategy.num_replicas_in_sync)
    print(max(np.abs(one - other).max() for one, other in weights))


if __name__ == "__main__":
    main()
