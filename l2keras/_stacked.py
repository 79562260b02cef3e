"""Many replicas of one model, trained at once.

Replicas differ in their weights, in the strength of their regularizers, and in
the rows of the data that they see, but not in what is computed: so it is
computed for all of them together, on weights that are stacked along new first
axes. What a replica ends with is what `model.fit` would have ended with, from
the same weights over the same batches. How to map a computation over the
replicas, each backend has its own way, and a class here.

The arrays of a stack have the axes (folds, strengths, ...); the folds of one
stack have as many rows for training as each other, and as many for validation.
"""

import abc
import functools
import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from l2keras import _backend, _control, _keras_private, _paths
from l2keras._tuned_strength import Cell
from l2keras._types import Tensor

Arrays = list[Any]


class Rows(NamedTuple):
    """The rows of an epoch's batches, for each fold.

    Attributes:
        full: Integers of shape (folds, batches, batch size).
        rest: Integers of shape (folds, rows of the last, smaller batch).
    """

    full: np.ndarray
    rest: np.ndarray


def batches(rows: np.ndarray, batch_size: int) -> Rows:
    """Returns rows of shape (folds, rows) cut into batches as `fit` does."""
    folds, number = rows.shape
    whole = number - number % batch_size
    return Rows(rows[:, :whole].reshape(folds, -1, batch_size), rows[:, whole:])


class Start(NamedTuple):
    """The values that a replica's variables have before training."""

    trainable: list[np.ndarray]
    others: list[np.ndarray]
    random: Any = None  # PyTorch's, which no variable holds.


class Means(NamedTuple):
    """Means over the batches of a pass, of shape (folds, strengths)."""

    data_loss: np.ndarray
    metrics: dict[str, np.ndarray]


class Replica:
    """What is computed for one replica, as functions without side effects.

    Args:
        model: A built and compiled model.
        cell: Holds the strength that the model's regularizers read.
        data: Tuple `(x, y, sample_weight)`, each a tree of arrays or `None`.
    """

    def __init__(self, model: keras.Model, cell: Cell, data: Any) -> None:
        self.model = model
        self._cell = cell
        self._structure = data
        self._has_training, self._loss_has_training = (
            "training" in inspect.signature(method).parameters
            for method in (model.call, model.compute_loss)
        )
        clock, _ = _control.connect_clock(model)
        if clock is not None:
            clock.driven = True
        self.clock = clock

    def loss(
        self,
        trainable: Arrays,
        others: Arrays,
        metrics: Arrays,
        strength: Tensor,
        batch: Arrays,
        training: bool,
    ) -> tuple[Tensor, tuple[Tensor, Arrays, Arrays]]:
        """Returns loss; and data loss, and the new values of the variables."""
        model = self.model
        x, y, sample_weight = self._unflatten(batch)
        options = {"training": training} if self._has_training else {}
        self._cell.value = strength
        y_pred, others, losses = model.stateless_call(
            trainable, others, x, return_losses=True, **options
        )
        mapping = [
            *zip(model.trainable_variables, trainable, strict=True),
            *zip(model.non_trainable_variables, others, strict=True),
            *zip(model.metrics_variables, metrics, strict=True),
        ]
        compute_loss = functools.partial(
            model.compute_loss, x, y, y_pred, sample_weight
        )
        if self._loss_has_training:
            compute_loss = functools.partial(compute_loss, training=training)
        with keras.StatelessScope(state_mapping=mapping) as scope:
            with (
                _keras_private.losses_given(model, losses),
                _keras_private.compiled_losses(model) as data_losses,
            ):
                loss = compute_loss()
            model.compute_metrics(x, y, y_pred, sample_weight)
        if _control.adds_losses_up(model):
            data_loss = data_losses[0] if data_losses else ops.zeros(())
        else:
            with (
                keras.StatelessScope(state_mapping=mapping),
                _keras_private.losses_given(model, [ops.zeros(())]),
            ):
                data_loss = compute_loss()
        metrics = [
            scope.get_current_value(variable)
            for variable in model.metrics_variables
        ]
        return loss, (data_loss, others, metrics)

    def _unflatten(self, leaves: Arrays) -> Any:
        """Returns the arrays of a batch as `(x, y, sample_weight)`."""
        leaves = list(leaves)
        return tuple(
            None
            if each is None
            else keras.tree.pack_sequence_as(
                each, [leaves.pop(0) for _ in keras.tree.flatten(each)]
            )
            for each in self._structure
        )

    def results(self, metrics: Arrays) -> dict[str, Tensor]:
        """Returns the values of the compiled metrics."""
        model = self.model
        mapping = list(zip(model.metrics_variables, metrics, strict=True))
        with keras.StatelessScope(state_mapping=mapping):
            results = model.get_metrics_result()
        losses = {"loss", *_keras_private.names_of_output_losses(model)}
        return {k: v for k, v in results.items() if k not in losses}

    def with_step(self, others: Arrays, step: Tensor) -> Arrays:
        """Returns the other variables, the schedules' clock put to `step`."""
        if self.clock is None:
            return others
        return [
            ops.cast(step, self.clock.state.dtype)
            if variable is self.clock.state
            else value
            for variable, value in zip(
                self.model.non_trainable_variables, others, strict=True
            )
        ]


class Stack(abc.ABC):
    """Replicas that are trained at once.

    One replica alone is not mapped: its arrays have no axes of their own in
    front, so that whatever Keras can train is computed as in `fit`.

    Args:
        replica: What is computed for each.
        data: All rows of the data, as a flat list of arrays.
        shape: The numbers of folds and of strengths.
    """

    def __init__(
        self, replica: Replica, data: Arrays, shape: tuple[int, int]
    ) -> None:
        self.replica = replica
        self.shape = shape
        self.is_mapped = shape != (1, 1)
        self._data = [ops.convert_to_tensor(each) for each in data]

    @abc.abstractmethod
    def start(self, starts: Sequence[Start], strengths: np.ndarray) -> None:
        """Puts the replicas to their first weights.

        Args:
            starts: What the replicas of each fold start from.
            strengths: Of shape (strengths,).
        """

    @abc.abstractmethod
    def train(self, rows: Rows) -> Means:
        """Trains for an epoch; returns the means over its batches."""

    @abc.abstractmethod
    def evaluate(self, rows: Rows) -> Means:
        """Returns the means over the batches without training."""

    @abc.abstractmethod
    def state(self) -> list[np.ndarray]:
        """Returns all that training changes."""

    @abc.abstractmethod
    def restore(self, state: list[np.ndarray]) -> None:
        """Goes back to what `state` returned."""

    def is_right(
        self, starts: Sequence[Start], strengths: np.ndarray, rows: Rows
    ) -> bool:
        """Tells whether a replica in the stack is trained as it is alone.

        `jax.vmap` and `torch.func.vmap` either map exactly or raise an error.
        """
        return True

    def _stacked(self, values: Iterable[tuple[np.ndarray, ...]]) -> Arrays:
        """Returns arrays given for each fold with the axes of the replicas."""
        if not self.is_mapped:
            return [ops.convert_to_tensor(each) for (each,) in values]
        return [
            ops.convert_to_tensor(
                np.stack(
                    [
                        np.broadcast_to(each, (self.shape[1], *each.shape))
                        for each in folds
                    ]
                )
            )
            for folds in values
        ]

    def _repeated(self, variables: Sequence[keras.Variable]) -> Arrays:
        """Returns the values of variables, the same for each replica."""
        values = (to_numpy(variable) for variable in variables)
        return self._stacked((value,) * self.shape[0] for value in values)

    def _lambdas(self, strengths: np.ndarray) -> Tensor:
        values = strengths.astype("float32")
        return ops.convert_to_tensor(values if self.is_mapped else values[0])

    def _to_means(self, data_loss: Tensor, metrics: dict[str, Tensor]) -> Means:
        def array(value: Tensor) -> np.ndarray:
            return ops.convert_to_numpy(value).reshape(self.shape)

        return Means(
            array(data_loss),
            {name: array(value) for name, value in metrics.items()},
        )


class JaxStack(Stack):
    """Maps by `jax.vmap`, over steps that `jax.lax.scan` runs."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        import jax

        model = self.replica.model
        self._optimizer = model.optimizer
        self._optimizer.build(model.trainable_variables)
        self._slots = self._repeated(self._optimizer.variables)
        self._first_metrics = [
            ops.convert_to_tensor(to_numpy(variable))
            for variable in model.metrics_variables
        ]
        train, evaluate = self._pass(training=True), self._pass(training=False)
        if self.is_mapped:
            train, evaluate = self._mapped(train), self._mapped(evaluate)
        self._train, self._evaluate = jax.jit(train), jax.jit(evaluate)
        self._state: Any = None

    def start(self, starts: Sequence[Start], strengths: np.ndarray) -> None:
        trainable, others, _ = zip(*starts, strict=True)
        self._state = (
            self._stacked(zip(*trainable, strict=True)),
            self._stacked(zip(*others, strict=True)),
            self._slots,
        )
        self._strengths = self._lambdas(strengths)

    def train(self, rows: Rows) -> Means:
        self._state, means = self._run(self._train, rows)
        return self._to_means(*means)

    def evaluate(self, rows: Rows) -> Means:
        _, means = self._run(self._evaluate, rows)
        return self._to_means(*means)

    def state(self) -> list[np.ndarray]:
        import jax

        return [np.asarray(each) for each in jax.tree.leaves(self._state)]

    def restore(self, state: list[np.ndarray]) -> None:
        import jax

        self._state = jax.tree.unflatten(
            jax.tree.structure(self._state),
            [ops.convert_to_tensor(each) for each in state],
        )

    def _run(self, function: Callable[..., Any], rows: Rows) -> Any:
        if not self.is_mapped:
            rows = Rows(rows.full[0], rows.rest[0])
        return function(self._state, self._strengths, rows, self._data)

    def _mapped(self, function: Callable[..., Any]) -> Callable[..., Any]:
        import jax

        # The strengths of a fold see the same rows: they are mapped apart, so
        # that a batch is not copied for each.
        over_strengths = jax.vmap(function, (0, 0, None, None))
        return jax.vmap(over_strengths, (0, None, 0, None))

    def _pass(self, training: bool) -> Callable[..., Any]:
        """Returns a function that takes one replica over all batches once."""
        import jax

        replica, one_batch = (
            self.replica,
            self._update if training else self._look,
        )

        def run(state: Any, strength: Tensor, rows: Rows, data: Arrays) -> Any:
            def step(carry: Any, chosen: Tensor) -> Any:
                state, metrics, total = carry
                batch = [each[chosen] for each in data]
                state, metrics, loss = one_batch(
                    state, metrics, strength, batch
                )
                return (state, metrics, total + loss * len(chosen)), None

            carry: Any = (state, self._first_metrics, 0.0)
            if rows.full.shape[0]:
                carry, _ = jax.lax.scan(step, carry, rows.full)
            if rows.rest.shape[0]:
                carry, _ = step(carry, rows.rest)
            state, metrics, total = carry
            number = rows.full.size + rows.rest.size
            return state, (total / number, replica.results(metrics))

        return run

    def _update(
        self, state: Any, metrics: Arrays, strength: Tensor, batch: Arrays
    ) -> Any:
        import jax

        trainable, others, slots = state
        replica, optimizer = self.replica, self._optimizer

        def optimizer_scope(slots: Arrays) -> keras.StatelessScope:
            mapping = zip(optimizer.variables, slots, strict=True)
            return keras.StatelessScope(state_mapping=list(mapping))

        def scaled(trainable: Arrays) -> Any:
            loss, rest = replica.loss(
                trainable, others, metrics, strength, batch, training=True
            )
            with optimizer_scope(slots):
                return optimizer.scale_loss(loss), rest

        gradients, rest = jax.grad(scaled, has_aux=True)(trainable)
        data_loss, others, metrics = rest
        trainable, slots = optimizer.stateless_apply(
            slots, gradients, trainable
        )
        with optimizer_scope(slots):
            step = ops.convert_to_tensor(optimizer.iterations)
        return (
            (trainable, replica.with_step(others, step), slots),
            metrics,
            data_loss,
        )

    def _look(
        self, state: Any, metrics: Arrays, strength: Tensor, batch: Arrays
    ) -> Any:
        _, (data_loss, _, metrics) = self.replica.loss(
            state[0], state[1], metrics, strength, batch, training=False
        )
        return state, metrics, data_loss


class _VariableStack(Stack):
    """Keeps the stack in variables, which one optimizer updates.

    TensorFlow and PyTorch have no optimizer without side effects in Keras. One
    that works element by element does not notice that its variables are stacks.
    """

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        model = self.replica.model
        self._trainable = [
            _like(variable, value)
            for variable, value in zip(
                model.trainable_variables,
                self._repeated(model.trainable_variables),
                strict=True,
            )
        ]
        self._others: Arrays = []
        self._metrics = self._repeated(model.metrics_variables)
        # A fresh one: the model's own is for the model's own variables.
        self._optimizer = type(model.optimizer).from_config(
            model.optimizer.get_config()
        )
        self._optimizer.build(self._trainable)
        self._first_slots = [to_numpy(v) for v in self._optimizer.variables]

    def start(self, starts: Sequence[Start], strengths: np.ndarray) -> None:
        trainable, others, _ = zip(*starts, strict=True)
        stacked = self._stacked(zip(*trainable, strict=True))
        self._others = self._stacked(zip(*others, strict=True))
        _assign(self._trainable, stacked)
        _assign(self._optimizer.variables, self._first_slots)
        self._strengths = self._lambdas(strengths)

    def state(self) -> list[np.ndarray]:
        variables = [*self._trainable, *self._optimizer.variables]
        return [
            *(to_numpy(variable) for variable in variables),
            *(ops.convert_to_numpy(each) for each in self._others),
        ]

    def restore(self, state: list[np.ndarray]) -> None:
        variables = [*self._trainable, *self._optimizer.variables]
        _assign(variables, state[: len(variables)])
        self._others = [
            ops.convert_to_tensor(each) for each in state[len(variables) :]
        ]

    def _step(self) -> Tensor:
        """Returns the optimizer's step with the axes of the replicas."""
        step = ops.convert_to_tensor(self._optimizer.iterations)
        return ops.broadcast_to(step, self.shape if self.is_mapped else ())


class TensorflowStack(_VariableStack):
    """Maps by `tf.vectorized_map`, over steps that `tf.while_loop` runs.

    Not by XLA, which returned the losses of weights that were not trained.
    """

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        import tensorflow as tf

        _backend.register_bitcast()
        # As in `fit`, AutoGraph does not rewrite what the model computes.
        self._train, self._evaluate = (
            tf.function(self._pass_of(one_batch), autograph=False)
            for one_batch in (self._update, self._look)
        )

    def train(self, rows: Rows) -> Means:
        return self._train_on(rows, rows.full.shape[1])

    def _train_on(self, rows: Rows, number: int) -> Means:
        """Trains on that many of the full batches, and on the rest."""
        self._others, *means = self._run(self._train, rows, number)
        return self._to_means(*means)

    def evaluate(self, rows: Rows) -> Means:
        _, *means = self._run(self._evaluate, rows, rows.full.shape[1])
        return self._to_means(*means)

    def _run(
        self, function: Callable[..., Any], rows: Rows, number: int
    ) -> Any:
        import tensorflow as tf

        # Python's numbers and NumPy's arrays would be compiled in.
        full, rest, size = (tf.constant(each) for each in (*rows, number))
        return function(self._others, self._strengths, full, rest, size)

    def is_right(
        self, starts: Sequence[Start], strengths: np.ndarray, rows: Rows
    ) -> bool:
        # The last replica, for a batch of each size, beside it run eagerly.
        number = min(1, rows.full.shape[1])
        self._train_on(rows, number)
        stacked = [value[-1, -1] for value in self.state()[: len(starts[0][0])]]
        alone = TensorflowStack(self.replica, self._data, (1, 1))
        alone._train = alone._train.python_function
        alone.start(starts[-1:], strengths[-1:])
        alone._train_on(Rows(rows.full[-1:], rows.rest[-1:]), number)
        # All weights together: of a bias that a normalization cancels, rounding
        # alone decides where Adam moves it.
        apart = moved = 0.0
        for begun, one, other in zip(
            starts[-1].trainable, stacked, alone.state(), strict=False
        ):
            apart += float(np.square(one - other).sum())
            moved += float(np.square(other - begun).sum())
        return not np.isfinite(moved) or apart <= 0.01 * moved + 1e-12

    def _losses(
        self,
        others: Arrays,
        metrics: Arrays,
        strengths: Tensor,
        chosen: Tensor,
        training: bool,
    ) -> Any:
        """Returns the results of `Replica.loss`, and what they depend on."""
        import tensorflow as tf

        trainable = [
            ops.convert_to_tensor(variable) for variable in self._trainable
        ]

        def one(arguments: Any) -> Any:
            return self.replica.loss(*arguments, training=training)  # type: ignore[misc]

        if not self.is_mapped:
            batch = [tf.gather(each, chosen[0]) for each in self._data]
            arguments = trainable, others, metrics, strengths, batch
            return trainable, one(arguments)
        folds, number = self.shape
        chosen = tf.repeat(chosen[:, None], number, axis=1)
        batch = [tf.gather(each, chosen) for each in self._data]
        strengths = tf.tile(strengths[None], [folds, 1])
        results = self._mapped(
            one, (trainable, others, metrics, strengths, batch)
        )
        return trainable, results

    def _mapped(self, function: Callable[..., Any], arrays: Any) -> Any:
        """Returns what a function returns for the arrays of each replica."""
        import tensorflow as tf

        def merge(array: Tensor) -> Tensor:
            return tf.reshape(array, (-1, *array.shape[2:]))

        def split(array: Tensor) -> Tensor:
            return tf.reshape(array, (*self.shape, *array.shape[1:]))

        # One axis for both: a map inside a map takes longer to trace.
        arrays = tf.nest.map_structure(merge, arrays)
        results = tf.vectorized_map(function, arrays)
        return tf.nest.map_structure(split, results)

    def _update(
        self, others: Arrays, metrics: Arrays, strengths: Tensor, chosen: Tensor
    ) -> Any:
        import tensorflow as tf

        with tf.GradientTape() as tape:
            # Convert the variables under the tape, so that it sees them.
            trainable, (loss, rest) = self._losses(
                others, metrics, strengths, chosen, training=True
            )
            total = tf.reduce_sum(loss)
        gradients = tape.gradient(total, trainable)
        self._optimizer.apply(gradients, self._trainable)
        data_loss, others, metrics = rest
        return data_loss, self.replica.with_step(others, self._step()), metrics

    def _look(
        self, others: Arrays, metrics: Arrays, strengths: Tensor, chosen: Tensor
    ) -> Any:
        _, (_, (data_loss, _, metrics)) = self._losses(
            others, metrics, strengths, chosen, training=False
        )
        return data_loss, others, metrics

    def _pass_of(self, one_batch: Callable[..., Any]) -> Callable[..., Any]:
        """Returns a function that goes over all batches once."""
        import tensorflow as tf

        def run(
            others: Arrays,
            strengths: Tensor,
            full: Tensor,
            rest: Tensor,
            number: Tensor,
        ) -> Any:
            def add(
                chosen: Tensor, others: Arrays, metrics: Arrays, total: Tensor
            ) -> Any:
                data_loss, others, metrics = one_batch(
                    others, metrics, strengths, chosen
                )
                size = tf.cast(tf.shape(chosen)[1], data_loss.dtype)
                return others, metrics, total + data_loss * size

            axes = self.shape if self.is_mapped else ()
            carry: Any = (others, self._metrics, tf.zeros(axes))
            seen = number * full.shape[2] + rest.shape[1]
            if full.shape[1]:
                _, *carry = tf.while_loop(
                    lambda index, *_: index < number,
                    lambda index, *carry: (
                        index + 1,
                        *add(full[:, index], *carry),
                    ),
                    (0, *carry),
                )
            if rest.shape[1]:
                carry = add(rest, *carry)
            others, metrics, total = carry
            results = self.replica.results
            metrics = (
                self._mapped(results, metrics)
                if self.is_mapped
                else results(metrics)
            )
            return others, total / tf.cast(seen, total.dtype), metrics

        return run


class TorchStack(_VariableStack):
    """Maps by `torch.func.vmap`, step by step."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._recorded: dict[tuple[bool, int], Callable[..., Any]] = {}

    def start(self, starts: Sequence[Start], strengths: np.ndarray) -> None:
        super().start(starts, strengths)
        if not self.is_mapped:
            # Dropout draws from the one generator of PyTorch.
            _backend.set_random_state(starts[0].random)

    def state(self) -> list[np.ndarray]:
        return [*_backend.random_state(), *super().state()]

    def restore(self, state: list[np.ndarray]) -> None:
        number = len(_backend.random_state())
        _backend.set_random_state(state[:number])
        super().restore(state[number:])

    def train(self, rows: Rows) -> Means:
        return self._pass(rows, training=True)

    def evaluate(self, rows: Rows) -> Means:
        return self._pass(rows, training=False)

    def _pass(self, rows: Rows, training: bool) -> Means:
        import torch

        if not self.is_mapped:
            # Keras's and PyTorch's loaders draw a number each for every pass.
            torch.empty(2, dtype=torch.int64).random_()
        device = self._strengths.device
        full, rest = (torch.as_tensor(each, device=device) for each in rows)
        metrics, total = self._metrics, torch.zeros((), device=device)
        for chosen in [*full.unbind(1), *([rest] if rest.shape[1] else [])]:
            data_loss, metrics = self._one_batch(metrics, chosen, training)
            total = total + data_loss * chosen.shape[1]
        results = self.replica.results
        if self.is_mapped:
            results = torch.func.vmap(torch.func.vmap(results))
        number = rows.full[0].size + rows.rest[0].size
        with torch.no_grad():
            return self._to_means(total / number, results(metrics))

    def _one_batch(
        self, metrics: Arrays, chosen: Tensor, training: bool
    ) -> Any:
        import torch
        from torch.fx.experimental.proxy_tensor import make_fx

        if not self.is_mapped:
            chosen = chosen[0]
        trainable = [variable.value.detach() for variable in self._trainable]
        batch = [each[chosen] for each in self._data]
        arguments = trainable, self._others, metrics, self._strengths, batch
        compute: Callable[..., Any] = functools.partial(self._compute, training)
        if self.is_mapped:
            # To go through Keras and through `vmap` may take longer than to
            # compute: it is done once, and the operations that follow from it
            # are recorded.
            key = training, chosen.shape
            if key not in self._recorded:
                self._recorded[key] = make_fx(compute)(*arguments)
            compute = self._recorded[key]
        with torch.no_grad():
            data_loss, gradients, others, metrics = compute(*arguments)
            if training:
                self._optimizer.apply(gradients, self._trainable)
                self._others = self.replica.with_step(others, self._step())
        return data_loss, metrics

    def _compute(self, training: bool, trainable: Arrays, *others: Any) -> Any:
        """Returns data loss, gradients, and new values of the variables."""
        import torch

        def one(*arguments: Any) -> Any:
            return self.replica.loss(*arguments, training=training)  # type: ignore[misc]

        if self.is_mapped:
            # The strengths of a fold see the same rows.
            one = torch.func.vmap(one, (0, 0, 0, 0, None))
            one = torch.func.vmap(one, (0, 0, 0, None, 0))
        gradients: Sequence[Tensor] = ()
        with torch.set_grad_enabled(training):
            trainable = [each.requires_grad_(training) for each in trainable]
            loss, rest = one(trainable, *others)
            if training:
                gradients = torch.autograd.grad(loss.sum(), trainable)
        data_loss, *rest = keras.tree.map_structure(torch.detach, rest)
        return data_loss, list(gradients), *rest


def to_numpy(variable: keras.Variable) -> np.ndarray:
    """Returns the value of a variable as an array of its own."""
    return np.array(ops.convert_to_numpy(variable))


def _like(variable: keras.Variable, value: Any) -> keras.Variable:
    """Returns a new variable that an optimizer takes for another."""
    like = keras.Variable(value, dtype=variable.dtype, name=variable.name)
    like.constraint = variable.constraint
    like.overwrite_with_gradient = variable.overwrite_with_gradient
    return like


def _assign(variables: Sequence[keras.Variable], values: Arrays) -> None:
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


def new_stack(replica: Replica, data: Arrays, shape: tuple[int, int]) -> Stack:
    """Returns a stack for the backend that Keras runs on."""
    stack = {
        "jax": JaxStack,
        "tensorflow": TensorflowStack,
        "torch": TorchStack,
    }[keras.backend.backend()]
    return stack(replica, data, shape)  # type: ignore[abstract]


def why_not_alone(model: keras.Model) -> str | None:
    """Returns why even one replica cannot be trained but by `fit`, if so."""
    for name in ("train_step", "test_step"):
        if getattr(type(model), name) is not getattr(keras.Model, name):
            return f"the model has a `{name}` of its own"
    if _backend.is_nnx_enabled():
        return "Keras trains by way of Flax NNX"
    if getattr(model, "distribute_strategy", None) is not None and (
        _backend.num_replicas(model) > 1
    ):
        return "the model is distributed over devices"
    if keras.backend.backend() != "jax":
        if hasattr(model.optimizer, "inner_optimizer"):
            return f"{type(model.optimizer).__name__} wraps another optimizer"
        if model.optimizer.loss_scale_factor:
            return "the optimizer scales the loss"
    return None


# What they do to an element does not depend on the others.
_ELEMENTWISE = (
    keras.optimizers.SGD,
    keras.optimizers.RMSprop,
    keras.optimizers.Adam,
    keras.optimizers.AdamW,
    keras.optimizers.Adadelta,
    keras.optimizers.Adagrad,
    keras.optimizers.Adamax,
    keras.optimizers.Nadam,
    keras.optimizers.Ftrl,
    keras.optimizers.Lion,
)


def why_not_mapped(model: keras.Model) -> str | None:
    """Returns why replicas cannot be stacked exactly, if so."""
    if keras.backend.backend() == "jax":
        return None  # Optimizers are mapped as well.
    optimizer = model.optimizer
    name = type(optimizer).__name__
    if _keras_private.public_class(optimizer) not in _ELEMENTWISE:
        return f"{name} may mix the elements of a weight"
    if optimizer.clipnorm or optimizer.global_clipnorm:
        return f"{name} clips by a norm"
    if _keras_private.excludes_variables_from_decay(optimizer):
        return f"{name} excludes variables, not names, from weight decay"
    for weight in _paths.weights(model):
        if weight.variable.constraint is not None:
            return f"weight {weight.path!r} has a constraint"
    if keras.backend.backend() == "torch":
        for _, layer in _keras_private.layers_by_path(model):
            if _keras_private.draws_random_numbers(layer):
                return f"layer {layer.name!r} draws random numbers"
    return None


# Layers that cost a stack no more than they cost each replica.
_CHEAP_TO_MAP = (
    keras.layers.Activation,
    keras.layers.BatchNormalization,
    keras.layers.Dense,
    keras.layers.Dropout,
    keras.layers.EinsumDense,
    keras.layers.Embedding,
    keras.layers.Flatten,
    keras.layers.InputLayer,
    keras.layers.LayerNormalization,
    keras.layers.Normalization,
    keras.layers.ReLU,
    keras.layers.Rescaling,
    keras.layers.Reshape,
    keras.Model,
)


def is_cheap_to_map(model: keras.Model) -> bool:
    """Tells whether mapping makes nothing slower.

    Convolutions with a kernel for each replica, say, are slower together than
    one after another on a CPU.
    """
    return all(
        isinstance(layer, _CHEAP_TO_MAP)
        for _, layer in _keras_private.layers_by_path(model)
    )
