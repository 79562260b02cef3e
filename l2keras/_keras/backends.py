"""The few lines that differ between TensorFlow, JAX and PyTorch.

Everything else in the package speaks `keras.ops`. The frameworks are imported
inside the functions, so that only the one that Keras runs on is loaded.
"""

import contextlib
import functools
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np

from l2keras._keras import call_stack, pure_updates
from l2keras._types import Tensor

# What is done for each of these three is done for no other: there a schedule
# would stand still and a split of the loss be wrong, without an error.
if keras.backend.backend() not in ("tensorflow", "jax", "torch"):
    raise ImportError(
        "l2keras knows Keras's backends tensorflow, jax and torch. Received: "
        f"{keras.backend.backend()}. Set KERAS_BACKEND to one of the three. "
        "For a model that is to run elsewhere, save it after "
        "`l2keras.strip_regularizers(model)`: then it needs Keras alone."
    )


def is_symbolic(value: Tensor) -> bool:
    """Tells whether `value` stands for a number that is not known yet."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        return tf.is_symbolic_tensor(value)
    if backend == "jax":
        import jax

        return isinstance(value, jax.core.Tracer)
    if backend == "torch":
        return getattr(value, "is_meta", False)
    return False


def is_tracing() -> bool:
    """Tells whether a function is being compiled that will run later."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        return tf.inside_function()
    if backend == "jax":
        import jax

        # Whatever is made while JAX compiles is a tracer.
        return isinstance(jax.numpy.zeros(()), jax.core.Tracer)
    return False


def eagerly() -> contextlib.AbstractContextManager:
    """Returns a scope in which variables have values, in compiled code too.

    Those that they have while it is compiled, once for all.
    """
    if keras.backend.backend() == "tensorflow" and is_tracing():
        import tensorflow as tf

        return tf.init_scope()
    return contextlib.nullcontext()


def this_thread() -> int:
    """Returns the identifier of the thread that runs this or compiles it."""
    # `torch.compile` looks at one thread, and cannot ask which it is.
    return 0 if _is_in_torch_compile() else threading.get_ident()


def runs_in(thread: int) -> bool:
    """Tells whether a thread, by its identifier, runs this or compiles it."""
    return _is_in_torch_compile() or threading.get_ident() == thread


def _is_in_torch_compile() -> bool:
    if keras.backend.backend() != "torch":
        return False
    import torch

    return torch.compiler.is_compiling()


def call_uncompiled(function: Callable[..., Any], *arguments: Any) -> Any:
    """Returns what a function returns, which `torch.compile` does not look at.

    It would fail on the frames of the call stack.
    """
    if keras.backend.backend() == "torch":
        import torch

        if torch.compiler.is_compiling():
            function = torch.compiler.disable(function)
    return function(*arguments)


def ask_host(function: Callable[[], np.ndarray]) -> Tensor:
    """Returns what a function returns whenever compiled code of JAX runs.

    Args:
        function: Returns an integer, as an array of shape `()`.
    """
    import jax

    like = function()
    return jax.pure_callback(
        function, jax.ShapeDtypeStruct(like.shape, like.dtype)
    )


def to_float32(value: Tensor) -> Tensor:
    """Returns `value` as a float32 tensor, at no cost if it is one.

    `ops.cast` returns the tensor then as well, but takes PyTorch, which
    compiles nothing away, as long as an addition.
    """
    if (
        hasattr(value, "dtype")
        and not isinstance(value, keras.Variable)
        and keras.backend.standardize_dtype(value.dtype) == "float32"
    ):
        return value
    return keras.ops.cast(value, "float32")


def as_step(value: Any) -> Tensor:
    """Returns a step as an integer tensor if it is one, and else as float32.

    Float32 holds no integers beyond 2**24 but even ones.
    """
    if isinstance(value, int) and abs(value) >= 2**31:
        return to_float32(value)
    tensor = keras.ops.convert_to_tensor(value)
    if "int" in keras.backend.standardize_dtype(tensor.dtype):
        return tensor
    return to_float32(tensor)


def at_least_float32(value: Tensor) -> Tensor:
    """Returns `value` in a type that sums do not overflow or coarsen."""
    dtype = keras.backend.standardize_dtype(value.dtype)
    return (
        value
        if dtype in ("float32", "float64")
        else keras.ops.cast(value, "float32")
    )


def stack_detached(values: list[Tensor]) -> Tensor:
    """Returns numbers as a float32 vector that no gradient flows through.

    PyTorch takes a third of the time without the checks of `ops.stack`.
    """
    if keras.backend.backend() == "torch":
        import torch

        device = next(v.device for v in values if torch.is_tensor(v))
        return torch.stack(
            [
                torch.as_tensor(value, dtype=torch.float32, device=device)
                for value in values
            ]
        ).detach()
    return keras.ops.stop_gradient(
        keras.ops.stack([to_float32(value) for value in values])
    )


def output_shape(
    function: Callable[[Tensor], Tensor], variable: keras.Variable
) -> tuple[int, ...]:
    """Returns the shape of what a function makes of a variable.

    JAX would compile each operation for each shape in order to compute it.
    """
    if keras.backend.backend() == "jax":
        import jax

        like = jax.ShapeDtypeStruct(variable.shape, variable.dtype)
        output = jax.eval_shape(function, like)
    else:
        output = function(variable)
    return tuple(getattr(output, "shape", ()))


def on_gradient(value: Tensor, notify: Callable[[], None]) -> Tensor:
    """Returns `value`, and calls `notify` when a gradient passes through it.

    Under compilation that is once, while the gradient is traced.
    """

    def notify_of_training() -> None:
        # Writing a SavedModel traces gradients too, and trains nothing.
        if not call_stack.is_exporting():
            notify()

    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        def gradient(upstream: Tensor) -> Tensor:
            notify_of_training()
            return upstream

        return tf.custom_gradient(lambda x: (tf.identity(x), gradient))(value)
    if backend == "jax":
        import jax

        # A rule for forward mode serves both modes, so `jax.hessian` works.
        @jax.custom_jvp
        def identity(x: Tensor) -> Tensor:
            return x

        @identity.defjvp
        def _(primals: Any, tangents: Any) -> Any:
            notify_of_training()
            return primals[0], tangents[0]

        return identity(value)
    if backend == "torch" and value.requires_grad:
        value.register_hook(lambda upstream: notify())
    return value


def on_each_gradient(
    value: Tensor,
    is_due: Callable[[], bool],
    notify: Callable[[int], None],
    variable: keras.Variable,
    count: Tensor,
    key: Any,
) -> Tensor:
    """Returns `value`, and calls `notify` whenever a gradient is taken.

    In compiled code too: on JAX in it, on TensorFlow before each call of it,
    until the variable has moved from one call to the next.

    Args:
        value: The tensor that the gradient passes through.
        is_due: Asked when a gradient passes, and while it is traced. If it
            says no, `notify` is not called.
        notify: Called with a number that is another after each assignment to
            the variable.
        variable: An integer variable that counts.
        count: Its value where the gradient is taken.
        key: Compiled code of TensorFlow calls once for each key.
    """
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        seen: set[int] = set()

        def call() -> Tensor:
            with tf.init_scope():
                counted = keras.ops.convert_to_tensor(variable)
                # To read it takes time, so it is not done for ever.
                if len(seen) < 2 and not is_symbolic(counted):
                    seen.add(int(keras.ops.convert_to_numpy(counted)))
                    if len(seen) < 2:
                        notify(*seen)
            return tf.zeros(())

        def watch() -> None:
            if is_due():
                if tf.inside_function():
                    _call_with_function(call, key)
                else:
                    call()

        return on_gradient(value, watch)
    if backend == "jax" and is_symbolic(count):
        import jax

        @jax.custom_jvp
        def identity(x: Tensor, count: Tensor) -> Tensor:
            return x

        @identity.defjvp
        def _(primals: Any, tangents: Any) -> Any:
            if is_due():
                jax.debug.callback(lambda count: notify(int(count)), primals[1])
            return primals[0], tangents[0]

        return identity(value, count)

    def notify_if_due() -> None:
        if is_due():
            # To read the number, PyTorch would wait for its device.
            notify(
                variable.value._version if backend == "torch" else int(count)
            )

    return on_gradient(value, notify_if_due)


def _call_with_function(function: Callable[[], Tensor], key: Any) -> None:
    """Has TensorFlow call a function before each call of what it compiles.

    What it returns would be an input of the compiled function, to which its
    value when it is called is handed. Once for the same key.
    """
    import tensorflow as tf

    graph = tf.compat.v1.get_default_graph()
    while getattr(graph.outer_graph, "building_function", False):
        graph = graph.outer_graph
    graph.capture_call_time_value(function, tf.TensorSpec([]), key=key)


def multiply(variables: list[Any], factor: Tensor | float) -> None:
    """Multiplies variables by `1 - factor`, in an optimizer's update.

    PyTorch does them all at once: one by one, each would cost the overhead.
    """
    if keras.backend.backend() == "torch" and not pure_updates.is_pure():
        import torch

        values = [_native(variable) for variable in variables]
        with torch.no_grad():
            torch._foreach_mul_(values, 1 - factor)
    else:
        update(
            lambda value, factor: value - value * factor,
            variables,
            [factor] * len(variables),
        )


def update(
    function: Callable[..., Tensor],
    variables: list[Any],
    *arguments: list[Tensor | float],
) -> None:
    """Sets each variable to `function(value, *arguments)`, in an optimizer.

    TensorFlow's distribution strategies want to be told so, as they are by
    Keras's own optimizers, and give each replica its share of the arguments.

    Args:
        function: Called with tensors of the variable's type, or Python floats.
        variables: Variables of Keras, or of TensorFlow.
        arguments: Lists of tensors or floats, one for each variable.
    """

    def updated(value: Any, *arguments: Any) -> Tensor:
        dtype = keras.backend.standardize_dtype(value.dtype)
        return function(
            value,
            *(
                # TensorFlow would cast a float by way of float32.
                each if isinstance(each, float) else keras.ops.cast(each, dtype)
                for each in arguments
            ),
        )

    if keras.backend.backend() == "tensorflow" and not pure_updates.is_pure():
        import tensorflow as tf

        def assign(variable: Any, *arguments: Any) -> None:
            variable.assign(updated(variable, *arguments))

        def update_replicas(strategy: Any, variables: Any, *lists: Any) -> None:
            for variable, *own in zip(variables, *lists, strict=True):
                strategy.extended.update(
                    variable, assign, args=tuple(own), group=False
                )

        tf.__internal__.distribute.interim.maybe_merge_call(
            update_replicas,
            tf.distribute.get_strategy(),
            [_native(variable) for variable in variables],
            *arguments,
        )
        return
    for variable, *own in zip(variables, *arguments, strict=True):
        variable.assign(updated(variable.value, *own))


def _native(variable: Any) -> Any:
    """Returns the backend's variable that a Keras variable holds."""
    return variable.value if isinstance(variable, keras.Variable) else variable


def train_uncompiled(model: keras.Model) -> None:
    """Has Keras train a model without compiling, where that is faster once."""
    if keras.backend.backend() == "tensorflow":
        model.run_eagerly = True


@contextlib.contextmanager
def compiled_quickly() -> Iterator[None]:
    """Has JAX compile inside with few optimizations, in half of the time."""
    if keras.backend.backend() != "jax":
        yield
        return
    import jax

    option = "jax_disable_most_optimizations"
    before = jax.config.read(option)
    jax.config.update(option, True)
    try:
        yield
    finally:
        jax.config.update(option, before)


def is_out_of_memory(error: BaseException) -> bool:
    """Tells whether a backend raised an error for want of memory."""
    backend = keras.backend.backend()
    if isinstance(error, MemoryError):
        return True
    if backend == "tensorflow":
        import tensorflow as tf

        return isinstance(error, tf.errors.ResourceExhaustedError)
    if backend == "jax":
        import jax

        # Its errors have a code, and no class of their own.
        return isinstance(error, jax.errors.JaxRuntimeError) and (
            "RESOURCE_EXHAUSTED" in str(error)
        )
    if backend == "torch":
        import torch

        # On a CPU it is a plain error of the allocator.
        return isinstance(error, torch.OutOfMemoryError) or (
            isinstance(error, RuntimeError) and "allocate" in str(error)
        )
    return False


def variable_scope(model: keras.Model) -> contextlib.AbstractContextManager:
    """Returns the scope in which the variables of `model` must be made.

    TensorFlow's distribution strategies mirror only what is made inside it.
    """
    strategy = getattr(model, "distribute_strategy", None)
    return contextlib.nullcontext() if strategy is None else strategy.scope()


def from_numpy(array: np.ndarray) -> Tensor:
    """Returns an array as a tensor.

    Where Keras makes the value of a new variable, JAX compiles a program for
    each shape to take in what is not one of its own arrays.
    """
    if keras.backend.backend() == "jax":
        import jax

        return jax.device_put(array)
    return keras.ops.convert_to_tensor(array)


def num_replicas(model: keras.Model) -> int:
    """Returns by what Keras divides each replica's loss, on TensorFlow."""
    strategy = getattr(model, "distribute_strategy", None)
    return 1 if strategy is None else strategy.num_replicas_in_sync


def is_nnx_enabled() -> bool:
    """Tells whether Keras trains JAX models by way of Flax NNX."""
    enabled = getattr(keras.config, "is_nnx_enabled", None)
    return enabled is not None and enabled()


def device_name() -> str:
    """Returns the device that Keras computes on, a GPU by its model's name."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        gpus = tf.config.list_physical_devices("GPU")
        if gpus:
            details = tf.config.experimental.get_device_details(gpus[0])
            return f"GPU ({details.get('device_name', 'unnamed')})"
    elif backend == "jax":
        import jax

        device = jax.devices()[0]
        if device.platform != "cpu":
            return f"{device.platform.upper()} ({device.device_kind})"
    elif backend == "torch":
        device = torch_device()
        if device.type == "cuda":
            import torch

            return f"GPU ({torch.cuda.get_device_name(device)})"
        return device.type.upper()
    return "CPU"


def torch_device() -> Any:
    """Returns the device that Keras computes on, on PyTorch."""
    return keras.ops.convert_to_tensor(0.0).device


def computes_on_torch_cpu() -> bool:
    """Tells whether it does, maybe by a `keras.device` of the caller's."""
    return keras.backend.backend() == "torch" and torch_device().type == "cpu"


def random_state() -> list[np.ndarray]:
    """Returns the state of PyTorch's generators, which Keras's layers use.

    On the other backends it is in variables.
    """
    if keras.backend.backend() != "torch":
        return []
    import torch

    states = [torch.get_rng_state()]
    module, device = _torch_generator()
    if module is not None:
        states.append(module.get_rng_state(*device))
    return [state.numpy() for state in states]


def set_random_state(states: list[np.ndarray]) -> None:
    """Goes back to what `random_state` returned."""
    if states:
        import torch

        torch.set_rng_state(torch.as_tensor(states[0]))
        for state in states[1:]:
            module, device = _torch_generator()
            module.set_rng_state(torch.as_tensor(state), *device)


def _torch_generator() -> tuple[Any, list[Any]]:
    """Returns whose generator it is, if not the host's, and of which device."""
    import torch

    device = torch_device()
    module = getattr(torch, device.type, None)
    if device.type == "cpu" or not hasattr(module, "get_rng_state"):
        return None, []
    return module, [] if device.type == "mps" else [device]  # Of which is one.


def free_memory() -> int:
    """Returns how many bytes there are left where Keras computes."""
    backend = keras.backend.backend()
    if backend == "jax":
        import jax

        statistics = jax.devices()[0].memory_stats() or {}
        if "bytes_limit" in statistics:
            return int(
                statistics["bytes_limit"] - statistics.get("bytes_in_use", 0)
            )
    elif backend == "torch" and torch_device().type == "cuda":
        import torch

        return int(torch.cuda.mem_get_info(torch_device())[0])
    elif not shares_memory():
        return 4 * 2**30  # TensorFlow does not tell, nor do some others.
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):  # Not on Linux.
        return 4 * 2**30


def shares_memory() -> bool:
    """Tells whether Keras computes in the host's memory."""
    return device_name() in ("CPU", "MPS")


@functools.cache
def register_bitcast() -> None:
    """Lets `tf.vectorized_map` map a bitcast, which Keras's `argmax` contains.

    Without a converter TensorFlow runs it in a loop, which takes as long as
    all the rest of a small model's step.
    """
    import tensorflow as tf

    def convert(pfor_input: Any) -> Any:
        stacked = pfor_input.stacked_input(0)
        return pfor.wrap(tf.bitcast(stacked, pfor_input.get_attr("type")), True)

    # One that TensorFlow itself registers stays. The registry is not public: if
    # it moves, maps are slower, of which TensorFlow warns, and no less right.
    with contextlib.suppress(
        ImportError, AttributeError, AssertionError, KeyError
    ):
        from tensorflow.python.ops.parallel_for import pfor

        pfor.RegisterPFor("Bitcast")(convert)


def add_to(variable: keras.Variable, row: Tensor, factor: Tensor) -> None:
    """Adds a row, to a variable's second row, and times a factor to its first.

    PyTorch adds in place, without the operations that assigning takes.
    """
    if keras.backend.backend() == "torch":
        import torch

        with torch.no_grad():
            variable.value[0].add_(row, alpha=factor)
            variable.value[1].add_(row)
        return
    rows = keras.ops.stack([row * factor, row])
    variable.assign(variable.value + rows)


@functools.cache
def limit_threads(number: int) -> None:
    """Has this process compute with so many threads.

    For a process that has not computed yet: later it has no effect, but on
    PyTorch.
    """
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        with contextlib.suppress(RuntimeError):  # It has begun to compute.
            tf.config.threading.set_intra_op_parallelism_threads(number)
            tf.config.threading.set_inter_op_parallelism_threads(number)
    elif backend == "jax":
        # XLA's name for how many cores a process may take for itself.
        os.environ.setdefault("NPROC", str(number))
    elif backend == "torch":
        import torch

        torch.set_num_threads(number)
