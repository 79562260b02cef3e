"""Several strengths learned at once, and checked by cross-validation."""

import pathlib
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from l2keras import _validation
from l2keras._keras.random_states import random_states_kept
from l2keras.strengths.tuned import NoValueError
from l2keras.tuning import fingerprint
from l2keras.tuning.arguments import check_arguments, check_strengths
from l2keras.tuning.asked import AskedStrengths, NamedStrengths
from l2keras.tuning.backup_file import BackupFile
from l2keras.tuning.candidates import warn_of_lost
from l2keras.tuning.grid import stackable
from l2keras.tuning.grid.learner import HIGHEST, LOWEST
from l2keras.tuning.grid.stack import StackingError
from l2keras.tuning.learned import Candidate, LearnedStrengths
from l2keras.tuning.learning import Learning, keys_in_chains, learn
from l2keras.tuning.learning_curves import LearningCurves
from l2keras.tuning.search import Outcome, search
from l2keras.tuning.settings import BuildModel, Settings
from l2keras.tuning.stack_trainer import Prototype, build_prototype, built

_MULTIPLES = (0.0, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
_SINGLE_STRENGTHS = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1)

# With fewer steps what is learned depends on where it began.
_FEW_STEPS = 300
# Below this the mean signal may as well be zero.
_NOISE = 2.0
# By what part the loss falls, at least, where it has not come to rest.
_FLAT = 0.01


def tune_strengths(
    build_model: Callable[[Any], keras.Model],
    x: Any,
    y: Any,
    *,
    folds: Any = 5,
    epochs: int,
    initial: float | Mapping[str, float] = 1e-3,
    multiples: Any = _MULTIPLES,
    single_strengths: Any = _SINGLE_STRENGTHS,
    batch_size: int = 32,
    sample_weight: Any = None,
    groups: Any = None,
    shuffle: bool = True,
    seed: int = 0,
    at_once: int | None = None,
    n_jobs: int | None = None,
    backup_dir: str | pathlib.Path | None = None,
    verbose: int = 1,
) -> LearnedStrengths:
    """Learns several strengths at once, and checks them by cross-validation.

    `build_model` asks for strengths by names of its own, `strengths["digit"]`
    and `strengths["noise"]`, say. It pays where parts of a model differ in what
    they are worth, such as inputs or branches of which some tell more than
    others. The layers of one chain need one strength only: between ReLUs, the
    size of one kernel is that of another, and nothing but the product of their
    strengths matters. The result names such chains.

    First the strengths are learned. The models of all folds are trained
    together and share the strengths. After each step every fold looks at a
    batch of the rows that it does not train on: would their loss be lower if a
    penalty had been stronger? The mean answer of the folds moves the logarithm
    of each strength, by Adam, between 1e-7 and 1. What is learned is the
    geometric mean over the second half of the steps.

    Then multiples of the learned strengths, none among them, and single
    strengths for all keys alike are compared by cross-validation, as by
    `tune_strength` and on the same folds. The best of them is the result.

    Reference:
        Luketina et al., *Scalable Gradient-Based Tuning of Continuous
        Regularization Hyperparameters*, ICML 2016, for the signal of a step.

    Args:
        build_model: Function from strengths to a compiled model. It gets what a
            dictionary is to it, whose values can be multiplied, divided, and
            handed to l2keras's regularizers, or to `DecoupledWeightDecay`, in
            place of numbers; and later from you the numbers.
        x: Array, or list or dictionary of arrays: all the rows.
        y: The same, the targets.
        folds: Number of folds, into which the rows are dealt at random; or a
            splitter of scikit-learn; or pairs of index arrays (rows to train
            on, rows to judge on). Defaults to `5`.
        epochs: Number of epochs, of learning and of the check. There should be
            300 steps or more in them.
        initial: What the strengths are before they are learned: a number from
            1e-7 to 1, or a dictionary by key. Defaults to `1e-3`.
        multiples: Of the learned strengths, for the check: finite numbers >= 0,
            rising. Defaults to 0, 0.03, 0.1, 0.3, 1, 3 and 10.
        single_strengths: For the check, one for all keys: finite numbers >= 0,
            rising, or none. Defaults to 1e-5, 1e-4, 1e-3, 0.01 and 0.1.
        batch_size: Number of rows in a batch. Defaults to `32`.
        sample_weight: Weight for each row, or `None`.
        groups: Label for each row, or `None`. Rows of one label are never on
            both sides of a fold, if `folds` is a number; a splitter takes them
            by this name.
        shuffle: Whether each epoch sees the rows in another order. If not, it
            is that of the fold. Defaults to `True`.
        seed: Of the folds, the initial weights, and the order of rows. What
            NumPy, Python and the backend draw afterwards does not depend on it:
            their generators are put back to where they were.
        at_once: How many replicas of the check are trained together. Defaults
            to as many as the memory has room for, or to one where a layer is
            faster alone.
        n_jobs: How many processes train in the check, as for `tune_strength`.
        backup_dir: Folder in which all is kept while it runs. Called again with
            the same arguments, it goes on where it was broken off. It raises an
            error if `build_model` returns something else by then.
        verbose: 1 for a progress bar of each part, 0 for none.

    Returns:
        What was learned, and the check. After Ctrl-C too, of what was done
        until then.

    Raises:
        TypeError: If an argument is of the wrong type, or `build_model` returns
            no compiled model, asks for the value of a strength, or hands one to
            a regularizer of Keras.
        ValueError: If an argument is out of its bounds, as for
            `tune_strength`; `build_model` asks for no strength, or for one that
            it does not use on a weight that is trained; `initial` has other
            keys than it asks for; the folds cannot be trained together; or
            `backup_dir` cannot be written, or has the file of another search,
            or one that cannot be read.

    Example:

    >>> import keras, l2keras, numpy as np
    >>> def build_model(strengths):
    ...     inputs = keras.Input((2,)), keras.Input((20,))
    ...     parts = [
    ...         keras.layers.Dense(1, kernel_regularizer=l2keras.L2(strength))
    ...         for strength in (strengths["few"], strengths["many"])
    ...     ]
    ...     outputs = keras.layers.add([p(i) for p, i in zip(parts, inputs)])
    ...     model = keras.Model(inputs, outputs)
    ...     model.compile(keras.optimizers.SGD(0.05), "mse")
    ...     return model
    >>> rng = np.random.default_rng(0)
    >>> few, many = rng.normal(size=(60, 2)), rng.normal(size=(60, 20))
    >>> y = few @ [3.0, -3.0] + many @ np.full(20, 0.2) + rng.normal(size=60)
    >>> result = l2keras.tune_strengths(
    ...     build_model, [few, many], y, epochs=200, folds=3, initial=0.1,
    ...     multiples=[1.0], single_strengths=[0.01, 0.1], verbose=0,
    ... )
    >>> result.learned["many"] > 10 * result.learned["few"], result.choice
    (True, 'learned x 1')
    """
    factors = check_strengths(multiples, "multiples")
    singles = np.zeros(0)
    if np.asarray(single_strengths).size:
        singles = check_strengths(single_strengths, "single_strengths")
    with random_states_kept():
        keys = _keys_asked_for(build_model)
        start = _check_initial(initial, keys)
        data, settings = check_arguments(
            build_model,
            x,
            y,
            sample_weight,
            folds,
            groups,
            candidates=start[None],
            keys=keys,
            epochs=epochs,
            batch_size=batch_size,
            shuffle=shuffle,
            seed=seed,
            at_once=at_once,
            n_jobs=n_jobs,
            backup_dir=backup_dir,
            verbose=verbose,
        )

        def build(strengths: Sequence[Any]) -> keras.Model:
            named = zip(keys, strengths, strict=True)
            return build_model(NamedStrengths(named))

        prototype = _prototype(build, data, settings)
        file = _file(prototype, data, settings)
        try:
            learning = learn(prototype, data, settings, file)
        except StackingError as error:
            raise _not_together(str(error)) from error
        candidates = _candidates(keys, learning.strengths, factors, singles)
        values = [list(each.strengths.values()) for each in candidates]
        settings = settings._replace(candidates=np.array(values))
        outcome = Outcome(LearningCurves.of_shape(settings.shape), None, True)
        if not learning.was_interrupted:
            outcome = search(build, data, settings)
            if file is not None and not outcome.was_interrupted:
                file.remove()
    curves = outcome.curves
    result = LearnedStrengths(
        dict(zip(keys, learning.strengths.tolist(), strict=True)),
        dict(zip(keys, learning.path.T, strict=True)),
        candidates,
        curves.validation_loss,
        curves.train_loss,
        curves.metrics,
        settings.folds,
        keys_in_chains(prototype),
        outcome.why_one_by_one,
    )
    _warn_of_learning(learning, keys)
    warn_of_lost(
        result, outcome.was_interrupted, lambda index: candidates[index].name
    )
    _warn_of_edge(result, factors)
    return result


def _keys_asked_for(build_model: Any) -> tuple[str, ...]:
    """Returns the keys that `build_model` asks for, in that order."""
    asked = AskedStrengths()
    if callable(build_model):
        try:
            built(build_model, asked)
        except NoValueError as error:
            raise TypeError(
                "`build_model` must do without the values of its strengths: "
                f"they are learned while its models are trained. {error}"
            ) from error
        if not asked.keys_asked_for:
            raise ValueError(
                "`build_model` must ask for its strengths by name, as in "
                "`strengths['output']`. It asked for none."
            )
    return asked.keys_asked_for


def _check_initial(initial: Any, keys: tuple[str, ...]) -> np.ndarray:
    """Returns the first strengths in the order of the keys."""
    if not isinstance(initial, Mapping):
        initial = dict.fromkeys(keys, initial)
    if set(initial) != set(keys):
        raise ValueError(
            "Argument `initial` must have the keys that `build_model` asks "
            f"for: {list(keys)}. Received: {list(initial)}"
        )
    values = []
    for key in keys:
        value = _validation.check_number(initial[key], f"initial[{key!r}]")
        if not LOWEST <= value <= HIGHEST:
            raise ValueError(
                f"Argument `initial` must be from {LOWEST:g} to {HIGHEST:g}, "
                f"between which strengths are learned. Received: {value} for "
                f"{key!r}"
            )
        values.append(value)
    return np.array(values)


def _prototype(build: BuildModel, data: Any, settings: Settings) -> Prototype:
    prototype, reason = build_prototype(build, data, settings)
    if prototype is not None:
        reason = stackable.why_not_learned(prototype.model, prototype.starts)
    if reason is not None:
        raise _not_together(reason)
    assert prototype is not None
    return prototype


def _not_together(reason: str) -> ValueError:
    return ValueError(
        "Strengths can be learned only where the folds can be trained "
        f"together: {reason}. `tune_strength` searches one strength for such a "
        "model."
    )


def _file(
    prototype: Prototype, data: Any, settings: Settings
) -> BackupFile | None:
    if settings.backup_dir is None:
        return None
    return BackupFile(
        settings.backup_dir / "learning.npz",
        fingerprint.digest_of_arguments(settings, data),
        [*fingerprint.digests_of_versions(), *prototype.digests()],
    )


def _candidates(
    keys: tuple[str, ...],
    learned: np.ndarray,
    multiples: np.ndarray,
    singles: np.ndarray,
) -> list[Candidate]:
    """Returns what the check compares."""
    named = [(f"learned x {each:g}", each * learned) for each in multiples]
    named += [(f"all {each:g}", np.full(len(keys), each)) for each in singles]
    return [
        Candidate(name, dict(zip(keys, values.tolist(), strict=True)))
        for name, values in named
    ]


def _warn_of_edge(result: LearnedStrengths, multiples: np.ndarray) -> None:
    """Warns if a multiple beyond those of the check may be better."""
    if np.isnan(result.mean_loss).all() or len(multiples) < 2:
        return
    lowest = np.nan_to_num(result.mean_loss, nan=np.inf).min(axis=1)
    before, highest = lowest[len(multiples) - 2 : len(multiples)]
    is_best = result.choice == f"learned x {multiples[-1]:g}"
    if is_best and highest <= (1 - _FLAT) * before:
        warnings.warn(
            f"The best strengths, {result.choice}, are at the edge of the "
            "check, so better ones may lie outside: raise the highest of "
            "`multiples`.",
            stacklevel=3,
        )


def _warn_of_learning(learning: Learning, keys: tuple[str, ...]) -> None:
    """Warns of what makes the learned strengths doubtful."""
    if learning.was_interrupted:
        return
    if learning.steps < _FEW_STEPS:
        warnings.warn(
            f"Strengths were learned in {learning.steps} steps. With fewer "
            f"than {_FEW_STEPS} they depend on where they began: train for "
            "more epochs, or in smaller batches.",
            stacklevel=3,
        )
    if learning.diverged:
        warnings.warn(
            f"In {learning.diverged} of the folds the weights grew beyond all "
            "numbers while strengths were learned, so these are not to be "
            "relied on. A lower learning rate may help.",
            stacklevel=3,
        )
        return
    for key, strength, signal in zip(
        keys, learning.strengths, learning.signal_to_noise, strict=True
    ):
        edges = {
            strength < 1.1 * LOWEST: "No penalty may be needed there.",
            strength > HIGHEST / 1.1: "What it penalizes may be of no use.",
        }
        if True in edges:
            warnings.warn(
                f"The strength {key!r} was learned to be {strength:.2g}, the "
                f"edge of what is searched. {edges[True]}",
                stacklevel=3,
            )
        elif abs(signal) < _NOISE:
            warnings.warn(
                f"What {key!r} does to the loss on held-out rows could not be "
                "told from noise, so its strength stayed about where it began: "
                f"{strength:.2g}.",
                stacklevel=3,
            )
