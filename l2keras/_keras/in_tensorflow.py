"""The backend TensorFlow."""

import contextlib
import functools
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from l2keras._keras import call_stack, pure_updates
from l2keras._keras.any_backend import AnyBackend, native
from l2keras._types import Tensor


class TensorFlow(AnyBackend):
    """TensorFlow, which compiles graphs and distributes them."""

    def is_symbolic(self, value: Tensor) -> bool:
        return tf.is_symbolic_tensor(value)

    def is_tracing(self) -> bool:
        return tf.inside_function()

    def outside_trace(self) -> contextlib.AbstractContextManager:
        return tf.init_scope() if self.is_tracing() else super().outside_trace()

    def train_uncompiled(self, model: keras.Model) -> None:
        model.run_eagerly = True

    def on_gradient(self, value: Tensor, notify: Callable[[], None]) -> Tensor:
        def gradient(upstream: Tensor) -> Tensor:
            # Writing a SavedModel traces gradients too, and trains nothing.
            if not call_stack.is_exporting():
                notify()
            return upstream

        return tf.custom_gradient(lambda x: (tf.identity(x), gradient))(value)

    def on_each_gradient(
        self,
        value: Tensor,
        is_due: Callable[[], bool],
        notify: Callable[[int], None],
        variable: keras.Variable,
        count: Tensor,
        key: Any,
    ) -> Tensor:
        seen: set[int] = set()

        def call() -> Tensor:
            with tf.init_scope():
                counted = keras.ops.convert_to_tensor(variable)
                # To read it takes time, so it is not done for ever.
                if len(seen) < 2 and not self.is_symbolic(counted):
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

        return self.on_gradient(value, watch)

    def update(
        self,
        function: Callable[..., Tensor],
        variables: list[Any],
        *arguments: list[Tensor | float],
    ) -> None:
        if pure_updates.is_pure():
            super().update(function, variables, *arguments)
            return

        def assign(variable: Any, *arguments: Any) -> None:
            variable.assign(self.updated(function, variable, *arguments))

        def update_replicas(strategy: Any, variables: Any, *lists: Any) -> None:
            for variable, *own in zip(variables, *lists, strict=True):
                strategy.extended.update(
                    variable, assign, args=tuple(own), group=False
                )

        tf.__internal__.distribute.interim.maybe_merge_call(
            update_replicas,
            tf.distribute.get_strategy(),
            [native(variable) for variable in variables],
            *arguments,
        )

    def variable_scope(
        self, model: keras.Model
    ) -> contextlib.AbstractContextManager:
        # Distribution strategies mirror only variables made inside it.
        strategy = model.distribute_strategy
        if strategy is None:
            return super().variable_scope(model)
        return strategy.scope()

    def num_replicas(self, model: keras.Model) -> int:
        strategy = model.distribute_strategy
        return 1 if strategy is None else strategy.num_replicas_in_sync

    def device_name(self) -> str:
        gpus = tf.config.list_physical_devices("GPU")
        if not gpus:
            return "CPU"
        details = tf.config.experimental.get_device_details(gpus[0])
        return f"GPU ({details.get('device_name', 'unnamed')})"

    def is_out_of_memory(self, error: BaseException) -> bool:
        kinds = (MemoryError, tf.errors.ResourceExhaustedError)
        return isinstance(error, kinds)

    def limit_threads(self, number: int) -> None:
        with contextlib.suppress(RuntimeError):  # It has begun to compute.
            tf.config.threading.set_intra_op_parallelism_threads(number)
            tf.config.threading.set_inter_op_parallelism_threads(number)


def _call_with_function(function: Callable[[], Tensor], key: Any) -> None:
    """Has TensorFlow call a function before each call of its compiled step.

    The result is an input of the compiled step, and not used in it. Once for
    the same key.
    """
    graph = tf.compat.v1.get_default_graph()
    while getattr(graph.outer_graph, "building_function", False):
        graph = graph.outer_graph
    graph.capture_call_time_value(function, tf.TensorSpec([]), key=key)


@functools.cache
def register_bitcast() -> None:
    """Lets `tf.vectorized_map` map a bitcast, which Keras's `argmax` contains.

    Without a converter TensorFlow runs it in a loop, which takes as long as
    all the rest of a small model's step.
    """

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
