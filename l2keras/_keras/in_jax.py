"""The backend JAX."""

import contextlib
import os
from collections.abc import Callable, Iterator
from typing import Any

import jax
import keras
import numpy as np

from l2keras._keras import call_stack
from l2keras._keras.any_backend import AnyBackend
from l2keras._types import Tensor


class JAX(AnyBackend):
    """JAX, which traces functions of values."""

    def is_symbolic(self, value: Tensor) -> bool:
        return isinstance(value, jax.core.Tracer)

    def is_tracing(self) -> bool:
        # Every array that is made while JAX compiles is a tracer.
        return self.is_symbolic(jax.numpy.zeros(()))

    def host_callback(self, function: Callable[[], np.ndarray]) -> Tensor:
        like = function()
        return jax.pure_callback(
            function, jax.ShapeDtypeStruct(like.shape, like.dtype)
        )

    @contextlib.contextmanager
    def compiled_quickly(self) -> Iterator[None]:
        option = "jax_disable_most_optimizations"
        before = jax.config.read(option)
        jax.config.update(option, True)
        try:
            yield
        finally:
            jax.config.update(option, before)

    def from_numpy(self, array: np.ndarray) -> Tensor:
        # Where Keras makes the value of a new variable, JAX compiles a program
        # for each shape to take in an array that is not its own.
        return jax.device_put(array)

    def output_shape(
        self, function: Callable[[Tensor], Tensor], variable: keras.Variable
    ) -> tuple[int, ...]:
        # JAX would compile each operation for each shape to compute it.
        like = jax.ShapeDtypeStruct(variable.shape, variable.dtype)
        return tuple(getattr(jax.eval_shape(function, like), "shape", ()))

    def on_gradient(self, value: Tensor, notify: Callable[[], None]) -> Tensor:
        # A rule for forward mode serves both modes, so `jax.hessian` works.
        @jax.custom_jvp
        def identity(x: Tensor) -> Tensor:
            return x

        @identity.defjvp
        def _(primals: Any, tangents: Any) -> Any:
            # Writing a SavedModel traces gradients too, and trains nothing.
            if not call_stack.is_exporting():
                notify()
            return primals[0], tangents[0]

        return identity(value)

    def on_each_gradient(
        self,
        value: Tensor,
        is_due: Callable[[], bool],
        notify: Callable[[int], None],
        variable: keras.Variable,
        count: Tensor,
        key: Any,
    ) -> Tensor:
        if not self.is_symbolic(count):
            return super().on_each_gradient(
                value, is_due, notify, variable, count, key
            )

        @jax.custom_jvp
        def identity(x: Tensor, count: Tensor) -> Tensor:
            return x

        @identity.defjvp
        def _(primals: Any, tangents: Any) -> Any:
            if is_due():
                jax.debug.callback(lambda count: notify(int(count)), primals[1])
            return primals[0], tangents[0]

        return identity(value, count)

    def device_name(self) -> str:
        device = jax.devices()[0]
        if device.platform == "cpu":
            return "CPU"
        return f"{device.platform.upper()} ({device.device_kind})"

    def is_out_of_memory(self, error: BaseException) -> bool:
        # JAX's errors have a code, and no class of their own.
        return super().is_out_of_memory(error) or (
            isinstance(error, jax.errors.JaxRuntimeError)
            and "RESOURCE_EXHAUSTED" in str(error)
        )

    def free_memory(self) -> int:
        statistics = jax.devices()[0].memory_stats() or {}
        if "bytes_limit" not in statistics:
            return super().free_memory()
        used = statistics.get("bytes_in_use", 0)
        return int(statistics["bytes_limit"] - used)

    def limit_threads(self, number: int) -> None:
        # XLA's name for how many cores a process may take for itself.
        os.environ.setdefault("NPROC", str(number))
