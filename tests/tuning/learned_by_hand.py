"""Strengths learned by a plain loop in NumPy, for two inputs and squares."""

import numpy as np


class Adam:
    """Adam as its paper has it (Kingma & Ba, ICLR 2015, algorithm 1)."""

    def __init__(self, rate):
        self.rate, self.m, self.v, self.t = rate, 0.0, 0.0, 0

    def move(self, gradient):
        self.t += 1
        self.m = 0.9 * self.m + 0.1 * gradient
        self.v = 0.999 * self.v + 0.001 * gradient**2
        m, v = self.m / (1 - 0.9**self.t), self.v / (1 - 0.999**self.t)
        return self.rate * m / (np.sqrt(v) + 1e-12)


def learned_by_hand(x, y, weights, batches, initial, learning_rate=0.05):
    """Returns the strengths after each step, for "a" and "b".

    The model is `x[0] @ w[0] + x[1] @ w[1]`, its loss the mean squared error,
    trained by SGD, and its penalty

        2 * a * sum(w[0]**2) + a * sum(abs(w[1])) + b * sum(w[1]**2)

    Args:
        x: The two inputs.
        y: The targets, a column.
        weights: For each fold, the two first weights.
        batches: For each step, for each fold, the rows to train on, and the
            rows to judge by.
        initial: The first strengths.
        learning_rate: Of SGD.
    """
    x, y = [each.astype("float64") for each in x], y.astype("float64")
    weights = [[w.astype("float64") for w in pair] for pair in weights]
    logs, adam, path = np.log(initial), Adam(min(10 / len(batches), 0.05)), []

    def slopes(pair, rows):
        error = x[0][rows] @ pair[0] + x[1][rows] @ pair[1] - y[rows]
        return [2 * each[rows].T @ error / len(rows) for each in x]

    for folds in batches:
        a, b = np.exp(logs)
        signals = []
        for pair, (train, held_out) in zip(weights, folds, strict=True):
            first, second = slopes(pair, train)
            first = first + 4 * a * pair[0]
            second = second + a * np.sign(pair[1]) + 2 * b * pair[1]
            pair[0] = pair[0] - learning_rate * first
            pair[1] = pair[1] - learning_rate * second
            first, second = slopes(pair, held_out)
            signals.append(
                [
                    -(first * 4 * pair[0]).sum()
                    - (second * np.sign(pair[1])).sum(),
                    -(second * 2 * pair[1]).sum(),
                ]
            )
        logs = logs - adam.move(np.mean(signals, axis=0))
        logs = np.clip(logs, np.log(1e-7), 0.0)
        path.append(np.exp(logs))
    return np.array(path)
