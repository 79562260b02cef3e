"""The lines that differ between TensorFlow, JAX and PyTorch, by their names.

Everything else in the package speaks `keras.ops`. A backend is a class derived
from this one, in a file of its own, with the methods in which it differs.
"""

import contextlib
import os
import threading
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from l2keras._keras import precision
from l2keras._types import Tensor


class AnyBackend:
    """A backend that runs each operation at once, on a CPU."""

    # Values and compiled code -------------------------------------------------

    def is_symbolic(self, value: Tensor) -> bool:
        """Tells whether `value` stands for a number that is not known yet."""
        raise NotImplementedError

    def is_tracing(self) -> bool:
        """Tells whether a function is being compiled that will run later."""
        return False

    def outside_trace(self) -> contextlib.AbstractContextManager:
        """Returns a scope in which variables have values, in compiled code too.

        Those that they have while it is compiled, once for all.
        """
        return contextlib.nullcontext()

    def this_thread(self) -> int:
        """The identifier of the thread that runs this or compiles it."""
        return threading.get_ident()

    def runs_in(self, thread: int) -> bool:
        """Tells whether the thread of this identifier runs or compiles this."""
        return threading.get_ident() == thread

    def call_uncompiled(
        self, function: Callable[..., Any], *arguments: Any
    ) -> Any:
        """Returns the function's result, computed outside `torch.compile`.

        Which would fail on the frames of the call stack.
        """
        return function(*arguments)

    def host_callback(self, function: Callable[[], np.ndarray]) -> Tensor:
        """Returns the function's result, whenever compiled code of JAX runs.

        Args:
            function: Returns an integer, as an array of shape `()`.
        """
        raise NotImplementedError

    def train_uncompiled(self, model: keras.Model) -> None:
        """Has Keras train a model without compiling, where that saves time."""

    def compiled_quickly(self) -> contextlib.AbstractContextManager:
        """Returns a scope in which JAX compiles in half of the time."""
        return contextlib.nullcontext()

    # Tensors ------------------------------------------------------------------

    def from_numpy(self, array: np.ndarray) -> Tensor:
        """Returns an array as a tensor."""
        return keras.ops.convert_to_tensor(array)

    def stack_detached(self, values: list[Tensor]) -> Tensor:
        """Stacks numbers in a float32 vector that no gradient flows through."""
        numbers = [precision.to_float32(value) for value in values]
        return keras.ops.stop_gradient(keras.ops.stack(numbers))

    def output_shape(
        self, function: Callable[[Tensor], Tensor], variable: keras.Variable
    ) -> tuple[int, ...]:
        """Returns the shape of a function's result for a variable."""
        return tuple(getattr(function(variable), "shape", ()))

    # Gradients ----------------------------------------------------------------

    def on_gradient(self, value: Tensor, notify: Callable[[], None]) -> Tensor:
        """Returns `value`, and calls `notify` when a gradient passes through.

        Under compilation that is once, while the gradient is traced.
        """
        raise NotImplementedError

    def on_each_gradient(
        self,
        value: Tensor,
        is_due: Callable[[], bool],
        notify: Callable[[int], None],
        variable: keras.Variable,
        count: Tensor,
        key: Any,
    ) -> Tensor:
        """Returns `value`, and calls `notify` whenever a gradient is taken.

        In compiled code too: on JAX in it, on TensorFlow before each call of
        it, until the variable has moved from one call to the next.

        Args:
            value: The tensor that the gradient passes through.
            is_due: Asked when a gradient passes, and while it is traced. If it
                says no, `notify` is not called.
            notify: Called with a number that is another after each assignment
                to the variable.
            variable: An integer variable that counts.
            count: Its value where the gradient is taken.
            key: Compiled code of TensorFlow calls once for each key.
        """

        def notify_if_due() -> None:
            if is_due():
                notify(int(count))

        return self.on_gradient(value, notify_if_due)

    # Changes of variables -----------------------------------------------------

    def multiply(self, variables: list[Any], factor: Tensor | float) -> None:
        """Multiplies variables by `1 - factor`, in an optimizer's update."""
        self.update(
            lambda value, factor: value - value * factor,
            variables,
            [factor] * len(variables),
        )

    def update(
        self,
        function: Callable[..., Tensor],
        variables: list[Any],
        *arguments: list[Tensor | float],
    ) -> None:
        """Sets each variable to `function(value, *arguments)`, in an optimizer.

        TensorFlow's distribution strategies want to be told so, as they are by
        Keras's own optimizers, and give each replica its share of the
        arguments.

        Args:
            function: Called with tensors of the variable's type, or Python
                floats.
            variables: Variables of Keras, or of TensorFlow.
            arguments: Lists of tensors or floats, one for each variable.
        """
        for variable, *own in zip(variables, *arguments, strict=True):
            variable.assign(self.updated(function, variable.value, *own))

    def updated(
        self, function: Callable[..., Tensor], value: Any, *arguments: Any
    ) -> Tensor:
        """Returns `function(value, *arguments)`, in the type of the value."""
        dtype = keras.backend.standardize_dtype(value.dtype)
        # TensorFlow would cast a float by way of float32.
        own = [
            argument
            if isinstance(argument, float)
            else keras.ops.cast(argument, dtype)
            for argument in arguments
        ]
        return function(value, *own)

    def add_to(
        self, variable: keras.Variable, row: Tensor, factor: Tensor
    ) -> None:
        """Adds a row to a variable's last, and its multiple to the first."""
        rows = keras.ops.stack([row * factor, row])
        variable.assign(variable.value + rows)

    # Distribution -------------------------------------------------------------

    def variable_scope(
        self, model: keras.Model
    ) -> contextlib.AbstractContextManager:
        """Returns the scope in which the variables of `model` must be made."""
        return contextlib.nullcontext()

    def num_replicas(self, model: keras.Model) -> int:
        """Returns the number by which Keras divides each replica's loss."""
        return 1

    # Devices and their memory -------------------------------------------------

    def device_name(self) -> str:
        """The device that Keras computes on, a GPU by its model's name."""
        return "CPU"

    def computes_on_torch_cpu(self) -> bool:
        """Tells whether PyTorch computes, and on the CPU."""
        return False

    def is_out_of_memory(self, error: BaseException) -> bool:
        """Tells whether an error is raised for want of memory."""
        return isinstance(error, MemoryError)

    def shares_memory(self) -> bool:
        """Tells whether Keras computes in the host's memory."""
        return self.device_name() in ("CPU", "MPS")

    def free_memory(self) -> int:
        """Returns the number of bytes that are free where Keras computes."""
        unknown = 4 * 2**30  # TensorFlow does not tell, nor do some others.
        if not self.shares_memory():
            return unknown
        try:
            return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        except (AttributeError, OSError, ValueError):  # Not on Linux.
            return unknown

    def limit_threads(self, number: int) -> None:
        """Has this process compute with so many threads.

        For a process that has not computed yet: later it has no effect, but on
        PyTorch.
        """
        raise NotImplementedError

    # Random numbers -----------------------------------------------------------

    def random_state(self) -> list[np.ndarray]:
        """Returns the state of the generators that Keras's layers draw from.

        Those of PyTorch. On the other backends it is in variables.
        """
        return []

    def set_random_state(self, states: list[np.ndarray]) -> None:
        """Sets the generators to states that `random_state` returned."""

    def random_states_kept(self) -> contextlib.AbstractContextManager:
        """Returns a scope after which PyTorch's generators are as before."""
        return contextlib.nullcontext()  # Keras seeds it on its backend only.


def native(variable: Any) -> Any:
    """Returns the backend's variable that a Keras variable holds."""
    return variable.value if isinstance(variable, keras.Variable) else variable
