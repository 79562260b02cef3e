"""The tables and lines of text in which a result shows itself."""

from typing import Any

import numpy as np

from l2keras.tuning.monitor import DATA_LOSS


def of_all_epochs(result: Any) -> dict[str, np.ndarray]:
    """The columns of a table with a row for each candidate, fold and epoch."""
    shape = result.validation_loss.shape
    candidate, fold, epoch = (index.ravel() for index in np.indices(shape))
    columns = {
        "fold": fold,
        "epoch": epoch + 1,
        "train_loss": result.train_loss.ravel(),
        "validation_loss": result.validation_loss.ravel(),
    }
    if result.parameters is not None:
        parameters = np.full(shape, np.nan)
        parameters[:, :, -1] = result.parameters
        columns["parameters"] = parameters.ravel()
    for name, values in result.metrics.items():
        if values.ndim == 3:
            columns[name] = values.ravel()
            continue
        flat = values.reshape(candidate.size, -1)
        for index, column in enumerate(flat.T):
            columns[f"{name}_{index}"] = column
    strengths = _strengths(result)
    by_key = {key: values[candidate] for key, values in strengths.items()}
    return by_key | columns


def at_best_epochs(result: Any) -> tuple[list[str], list[list[str]]]:
    """The head of a table with a row for each candidate, and its rows."""
    epochs, choices = result.best_epochs, _choices(result)
    columns = {
        key if result.keys else "Strength": [f"{value:.4g}" for value in values]
        for key, values in _strengths(result).items()
    }
    mean, error = result.path()
    columns["Epoch"] = [str(epoch) for epoch in epochs]
    columns[result.monitor] = [f"{number:.5g}" for number in mean]
    columns["Error"] = [f"{number:.2g}" for number in error]
    if result.parameters is not None:
        sizes = result.parameters.mean(axis=1)
        columns["Parameters"] = [
            f"{size:,.0f}" if np.isfinite(size) else "" for size in sizes
        ]
    columns["Choice"] = [
        ", ".join(choices.get(index, [])) for index in range(len(epochs))
    ]
    for name, values in {
        DATA_LOSS: result.validation_loss,
        **result.metrics,
    }.items():
        # A number for each class has no place in one cell.
        if name.startswith("val_") and values.ndim == 3:
            means = values.mean(axis=1)[np.arange(len(epochs)), epochs - 1]
            columns.setdefault(name, [f"{number:.4g}" for number in means])
    return [*columns], [
        list(row) for row in zip(*columns.values(), strict=True)
    ]


def in_two_lines(result: Any) -> str:
    """The size of a search, and its choice."""
    candidates, folds, epochs = result.validation_loss.shape
    noun = "strength" if result.keys is None else "candidate"
    head = (
        f"TuningResult of {_count(candidates, noun)} on "
        f"{_count(folds, 'fold')} for {_count(epochs, 'epoch')}"
    )
    if not has_choice(result):
        return f"{head}\nno {noun} was trained in all folds"
    best, (mean, error) = result.best_strength, result.path()
    index = result.best_index
    text = f"{result.monitor} {mean[index]:.4g}"
    if folds > 1:
        text += f", standard error {error[index]:.2g}"
    if result.keys is not None:
        best = {key: float(f"{value:.4g}") for key, value in best.items()}
    return (
        f"{head}\nbest_strength={best}, best_epoch={result.best_epoch}: {text}"
    )


def has_choice(result: Any) -> bool:
    """Whether a candidate was trained in all folds, so that one is best."""
    return bool(np.isfinite(result.path()[0]).any())


def _strengths(result: Any) -> dict[str, np.ndarray]:
    """The strengths of the candidates, by key."""
    columns = result.strengths.reshape(len(result.strengths), -1).T
    return dict(zip(result.keys or ["strength"], columns, strict=True))


def _choices(result: Any) -> dict[int, list[str]]:
    """The names of the choices, by candidate."""
    if not has_choice(result):
        return {}
    choices = {result.best_index: ["best"]}
    if result.keys is None and result.validation_loss.shape[1] > 1:
        strongest = result.one_standard_error_strength
        index = int(np.flatnonzero(result.strengths == strongest)[0])
        choices.setdefault(index, []).append("one SE")
    return choices


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
