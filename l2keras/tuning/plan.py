"""The plan of a search: how its replicas are trained, decided beforehand."""

import dataclasses
from typing import NamedTuple, TypeAlias

import keras
import numpy as np

from l2keras._keras import layer_tree
from l2keras._keras.backend import backend
from l2keras.strengths.placeholder import NoValueError
from l2keras.tuning.probe import Probe
from l2keras.tuning.replicas import (
    Chunk,
    Prototype,
    Trainer,
    build_prototype,
)
from l2keras.tuning.sequential import SequentialTrainer
from l2keras.tuning.settings import Settings
from l2keras.tuning.stack.size import elements_per_step
from l2keras.tuning.stacked import StackedTrainer


@dataclasses.dataclass(frozen=True)
class Stacked:
    """Replicas are trained together.

    Attributes:
        at_once: The largest number that is trained together.
    """

    at_once: int


@dataclasses.dataclass(frozen=True)
class Sequential:
    """Replicas are trained one after another, by `fit`.

    Attributes:
        builds_each: Whether each is a model of its own, or all are trained in
            one that is compiled once.
        reason: Why they are not trained together, if that is slower.
    """

    builds_each: bool
    reason: str | None

    @property
    def at_once(self) -> int:
        return 1


Plan: TypeAlias = Stacked | Sequential


class Planned(NamedTuple):
    """A plan, and its trainer.

    Attributes:
        plan: The plan.
        trainer: Trains by the plan.
        probe: The first steps that the trainer was compared with.
    """

    plan: Plan
    trainer: Trainer
    probe: Probe


def make_plan(
    settings: Settings, candidates: np.ndarray, share: int = 1
) -> Planned:
    """The fastest way to train with the same results as a model alone.

    Args:
        settings: Of the search.
        candidates: The strengths, of shape (candidates, keys).
        share: The number of processes that share the replicas.
    """
    # One in the middle: with the strongest, weights may diverge.
    probe = Probe(settings, candidates[len(candidates) // 2])
    # After the probe: `build_model` may return the same model each time.
    try:
        prototype = build_prototype(settings)
        return _plan_for(prototype, settings, candidates, share, probe)
    except NoValueError:
        _check_matters(settings, candidates, probe)
        return _built_each(
            settings, probe, "`build_model` asks for the value of the strength"
        )


def _plan_for(
    prototype: Prototype,
    settings: Settings,
    candidates: np.ndarray,
    share: int,
    probe: Probe,
) -> Planned:
    """The plan for models of which one can stand for all.

    Raises:
        NoValueError: If one asks for the number behind a placeholder.
    """
    reason = probe.changed or _unsupported_reason(prototype.model)
    at_once = _at_once(settings, prototype)
    if settings.at_once is None:
        replicas = len(candidates) * len(settings.folds)
        at_once = max(1, min(at_once // share, -(-replicas // share)))
    if reason is None and at_once > 1:
        stacked = StackedTrainer(settings, prototype)
        reason = "there is no memory for two"
        while at_once > 1:
            chunk = probe.placed_in(_last_of(settings, candidates, at_once))
            try:
                reason = _reason_of(probe.difference(stacked, chunk))
                break
            except Exception as error:
                if backend.is_out_of_memory(error):
                    stacked.close()
                    at_once //= 2
                elif _is_of_l2keras(error):
                    raise
                else:
                    reason = (
                        "the training step cannot be vectorized: "
                        f"{_first_line(error)}"
                    )
                    break
        if reason is None:
            return Planned(Stacked(at_once), stacked, probe)
    if probe.changed is None:
        sequential = SequentialTrainer(settings, prototype)
        try:
            difference = probe.difference(sequential, probe.chunk)
        finally:
            sequential.close()
        if difference is None:
            return Planned(Sequential(False, reason), sequential, probe)
        reason = (
            reason or f"a model used again differs from a new one: {difference}"
        )
    assert reason is not None
    return _built_each(settings, probe, reason)


def _reason_of(difference: str | None) -> str | None:
    if difference is None:
        return None
    return f"the stacked steps differ from those of a model alone: {difference}"


def chunks_of(
    settings: Settings,
    candidates: np.ndarray,
    at_once: int,
    length: int | None = None,
) -> list[Chunk]:
    """All replicas, in chunks of folds that have as many rows.

    Args:
        settings: Of the search.
        candidates: The strengths, of shape (candidates, keys). The last is
            repeated, so that all chunks are as large, and the same compiled
            functions serve them.
        at_once: The largest number of replicas in a chunk.
        length: The number of candidates in a chunk, if that is known.
    """
    sizes: dict[tuple[int, int], list[int]] = {}
    for index, fold in enumerate(settings.folds):
        size = len(fold.train), len(fold.validation)
        sizes.setdefault(size, []).append(index)
    if length is None:
        pieces = -(-len(candidates) // at_once)
        length = -(-len(candidates) // pieces)
    missing = -len(candidates) % length
    padded = np.concatenate([candidates, candidates[-1:].repeat(missing, 0)])
    # Folds in equal parts, too.
    width = max(1, at_once // length)
    chunks = []
    for folds in sizes.values():
        parts = next(
            parts
            for parts in range(1, len(folds) + 1)
            if len(folds) % parts == 0 and len(folds) // parts <= width
        )
        for some in np.split(np.array(folds), parts):
            for first in range(0, len(padded), length):
                chunk = padded[first : first + length]
                chunks.append(Chunk(some.tolist(), chunk))
    return chunks


def _last_of(settings: Settings, candidates: np.ndarray, at_once: int) -> Chunk:
    """The last chunk that ends with the last fold."""
    chunks = chunks_of(settings, candidates, at_once)
    last = len(settings.folds) - 1
    return [chunk for chunk in chunks if chunk.folds[-1] == last][-1]


def _built_each(settings: Settings, probe: Probe, reason: str) -> Planned:
    trainer = SequentialTrainer(settings, None)
    return Planned(Sequential(True, reason), trainer, probe)


def _unsupported_reason(model: keras.Model) -> str | None:
    """The reason why a model cannot be stacked, if it is known."""
    for name in ("train_step", "test_step"):
        if getattr(type(model), name) is not getattr(keras.Model, name):
            return f"the model has a `{name}` of its own"
    if backend.num_replicas(model) > 1:
        return "the model is distributed over devices"
    if keras.backend.backend() == "torch":
        for _, layer in layer_tree.layers_by_path(model):
            if layer_tree.draws_random_numbers(layer):
                return f"layer {layer.name!r} draws random numbers"
    return None


# Layers with weights that cost a stack no more than they cost each replica.
_FAST_TOGETHER = (
    keras.layers.BatchNormalization,
    keras.layers.Dense,
    keras.layers.EinsumDense,
    keras.layers.Embedding,
    keras.layers.LayerNormalization,
    keras.layers.Normalization,
    keras.layers.PReLU,
    keras.Model,
)


def _at_once(settings: Settings, prototype: Prototype) -> int:
    """The number of replicas that fit in memory and are fast together."""
    if settings.at_once is not None:
        return settings.at_once
    model = prototype.model
    # Convolutions with a kernel for each replica, say, are slower together than
    # one after another on a CPU. Without weights replicas are more rows.
    if backend.shares_memory() and not all(
        not layer.weights or isinstance(layer, _FAST_TOGETHER)
        for _, layer in layer_tree.layers_by_path(model)
    ):
        return 1
    bytes_of_one = 4 * elements_per_step(model, settings.batch_size)
    return max(1, backend.free_memory() // 4 // bytes_of_one)


def _check_matters(
    settings: Settings, candidates: np.ndarray, probe: Probe
) -> None:
    """Raises a ValueError if the first strength trains as another does.

    For models of which it cannot be told whether they use their strength.
    """
    if len(candidates) < 2:
        return
    other = Probe(settings, candidates[0])
    if all(
        np.array_equal(one, another, equal_nan=True)
        for one, another in zip(
            (*probe.expected.weights, *probe.expected.results.values()),
            (*other.expected.weights, *other.expected.results.values()),
            strict=True,
        )
    ):
        raise ValueError(
            "`build_model` must use the strength that it is given. Received: "
            f"models that train alike for {settings.name_of(candidates[0])} "
            f"and {settings.name_of(probe.chunk.candidates[0])}"
        )


def _is_of_l2keras(error: Exception) -> bool:
    """Whether an error was raised in this package itself."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    name = trace.tb_frame.f_globals.get("__name__", "") if trace else ""
    return name.partition(".")[0] == __name__.partition(".")[0]


def _first_line(error: Exception) -> str:
    """The first line of an error's own text.

    Keras puts another line before it, and colors of the terminal around it.
    """
    lines = [
        line
        for line in str(error)
        .replace("\x1b[1m", "")
        .replace("\x1b[0m", "")
        .splitlines()
        if line.strip() and not line.startswith("Exception encountered when")
    ]
    text = lines[0].strip().rstrip(".") if lines else ""
    return f"{type(error).__name__}: {text}"
