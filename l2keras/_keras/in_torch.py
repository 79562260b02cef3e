"""The backend PyTorch."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import torch

from l2keras._keras import pure_updates
from l2keras._keras.any_backend import AnyBackend, native
from l2keras._types import Tensor


class Torch(AnyBackend):
    """PyTorch, where each operation costs time of its own."""

    def is_symbolic(self, value: Tensor) -> bool:
        return getattr(value, "is_meta", False)

    def this_thread(self) -> int:
        # `torch.compile` looks at one thread, and cannot ask which it is.
        return 0 if torch.compiler.is_compiling() else super().this_thread()

    def runs_in(self, thread: int) -> bool:
        return torch.compiler.is_compiling() or super().runs_in(thread)

    def call_uncompiled(
        self, function: Callable[..., Any], *arguments: Any
    ) -> Any:
        if torch.compiler.is_compiling():
            function = torch.compiler.disable(function)
        return function(*arguments)

    def stack_detached(self, values: list[Tensor]) -> Tensor:
        # A third of the time that the checks of `ops.stack` take.
        device = next(v.device for v in values if torch.is_tensor(v))
        vector = [
            torch.as_tensor(value, dtype=torch.float32, device=device)
            for value in values
        ]
        return torch.stack(vector).detach()

    def on_gradient(self, value: Tensor, notify: Callable[[], None]) -> Tensor:
        if value.requires_grad:
            value.register_hook(lambda upstream: notify())
        return value

    def on_each_gradient(
        self,
        value: Tensor,
        is_due: Callable[[], bool],
        notify: Callable[[int], None],
        variable: keras.Variable,
        count: Tensor,
        key: Any,
    ) -> Tensor:
        def notify_if_due() -> None:
            if is_due():
                # To read the number, PyTorch would wait for its device.
                notify(variable.value._version)

        return self.on_gradient(value, notify_if_due)

    def multiply(self, variables: list[Any], factor: Tensor | float) -> None:
        if pure_updates.is_pure():
            super().multiply(variables, factor)
            return
        # All at once: one by one, each would cost the overhead.
        with torch.no_grad():
            torch._foreach_mul_([native(v) for v in variables], 1 - factor)

    def add_to(
        self, variable: keras.Variable, row: Tensor, factor: Tensor
    ) -> None:
        # In place, without the operations that assigning takes.
        with torch.no_grad():
            variable.value[0].add_(row, alpha=factor)
            variable.value[1].add_(row)

    def device(self) -> torch.device:
        """Returns the device that Keras computes on."""
        return keras.ops.convert_to_tensor(0.0).device

    def device_name(self) -> str:
        device = self.device()
        if device.type == "cuda":
            return f"GPU ({torch.cuda.get_device_name(device)})"
        return device.type.upper()

    def computes_on_torch_cpu(self) -> bool:
        return self.device().type == "cpu"

    def is_out_of_memory(self, error: BaseException) -> bool:
        # On a CPU it is a plain error of the allocator.
        return isinstance(error, MemoryError | torch.OutOfMemoryError) or (
            isinstance(error, RuntimeError) and "allocate" in str(error)
        )

    def free_memory(self) -> int:
        if self.device().type == "cuda":
            return int(torch.cuda.mem_get_info(self.device())[0])
        return super().free_memory()

    def limit_threads(self, number: int) -> None:
        torch.set_num_threads(number)

    def random_state(self) -> list[np.ndarray]:
        states = [torch.get_rng_state()]
        module, device = self._generator()
        if module is not None:
            states.append(module.get_rng_state(*device))
        return [state.numpy() for state in states]

    def set_random_state(self, states: list[np.ndarray]) -> None:
        torch.set_rng_state(torch.as_tensor(states[0]))
        for state in states[1:]:
            module, device = self._generator()
            module.set_rng_state(torch.as_tensor(state), *device)

    def _generator(self) -> tuple[Any, list[Any]]:
        """The module of the device's generator, if any, and the device."""
        device = self.device()
        module = getattr(torch, device.type, None)
        if device.type == "cpu" or not hasattr(module, "get_rng_state"):
            return None, []
        return module, [] if device.type == "mps" else [device]

    @contextlib.contextmanager
    def random_states_kept(self) -> Iterator[None]:
        # Whatever computes, to seed PyTorch seeds all that there is.
        with contextlib.ExitStack() as stack:
            stack.enter_context(torch.random.fork_rng([]))
            for name in "cuda", "xpu":
                module = getattr(torch, name, None)
                if module is not None and module.is_available():
                    numbers = range(module.device_count())
                    stack.enter_context(
                        torch.random.fork_rng(numbers, device_type=name)
                    )
            if torch.backends.mps.is_available():
                state = torch.mps.get_rng_state()
                stack.callback(torch.mps.set_rng_state, state)
            yield
