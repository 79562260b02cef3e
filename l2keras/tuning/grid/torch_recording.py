"""Records what PyTorch computes for one batch, to compute it for others.

To go through Keras, `torch.func.vmap` and autograd takes longer than to compute
on small tensors. All three end in operations on tensors, one after another.
They are written down while they are done, and the list is shortened: what has
no effect is left out, and what is always the same is computed once.

`torch.fx.experimental.proxy_tensor.make_fx` writes down the same, but takes a
hundred times as long, knows of no state, and shortens nothing.
"""

import operator
from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple

from l2keras._types import Tensor

# What they return depends on the shape of their argument only.
_READ_NO_VALUES = {
    f"aten::{name}"
    for name in (
        "zeros_like",
        "ones_like",
        "full_like",
        "new_zeros",
        "new_ones",
        "new_full",
    )
}

# Methods of tensors that are no operations.
_TELL_VALUES = {"numpy", "tolist", "__array__", "__dlpack__"}

Function = Callable[[Sequence[Tensor]], list[Any]]


def record(
    function: Function, inputs: Sequence[Tensor], state: Sequence[Tensor]
) -> tuple[list[Any], Function | None]:
    """Calls a function; returns its outputs, and one that does the same.

    Args:
        function: Function from a list of tensors to a list of tensors, or of
            `None` for those that there are not.
        inputs: What it is called with.
        state: Tensors that it reads and changes in place. Whatever else it
            reads is taken for constant.

    Returns:
        The outputs; and a function for other inputs of the same shapes, or
        `None` if what is computed depends on the values of tensors otherwise
        than by operations on tensors.
    """
    # Two inputs may be one tensor this time, and not the next.
    inputs = [each.clone() for each in inputs]
    recorder = _Recorder(inputs, state)
    outputs = recorder.call(function, inputs)
    return outputs, recorder.repetition(outputs)


class _Number(int):
    """The number of a tensor, among arguments that may be integers as well."""


class _Operation(NamedTuple):
    """One operation, as it was done.

    Attributes:
        function: One of `torch.ops`.
        arguments: All of them in a flat list, tensors by their numbers.
        structure: What the arguments were before they were flat.
        outputs: What it returned: a tensor's number, or several, or `None`.
        written: The memory that it changed in place.
        is_random: Whether it draws random numbers.
    """

    function: Any
    arguments: list[Any]
    structure: Any
    outputs: _Number | list[_Number | None] | None
    written: set[int]
    is_random: bool

    @property
    def made(self) -> list[_Number]:
        """The tensors that it returned, by their numbers."""
        several = (
            self.outputs if isinstance(self.outputs, list) else [self.outputs]
        )
        return [each for each in several if each is not None]

    @property
    def read(self) -> list[_Number]:
        """The tensors among the arguments, by their numbers."""
        return [each for each in self.arguments if type(each) is _Number]


class _Recorder:
    """Writes down what is done to tensors.

    A tensor is known by its place in memory: PyTorch may show the same one as
    several objects. All are kept, so that no place is used twice.

    Args:
        inputs: As for `record`, each with a memory of its own.
        state: As for `record`.
    """

    def __init__(
        self, inputs: Sequence[Tensor], state: Sequence[Tensor]
    ) -> None:
        self._tensors: list[Tensor] = []
        self._numbers: dict[Hashable, _Number] = {}
        self._operations: list[_Operation] = []
        self._inputs = [self._number(each) for each in inputs]
        # What was there before, other than the inputs.
        self._captured: list[_Number] = []
        self._state = {_memory(each) for each in state}
        # The memory of what is not the same each time.
        self._varying = self._state | {_memory(each) for each in inputs}
        self._is_repeatable = True

    def call(self, function: Function, inputs: Sequence[Tensor]) -> list[Any]:
        """Calls a function, and writes down what it does."""
        from torch.overrides import TorchFunctionMode
        from torch.utils._python_dispatch import TorchDispatchMode

        recorder = self

        class Operations(TorchDispatchMode):
            def __torch_dispatch__(
                self,
                function: Any,
                types: Any,
                args: Any = (),
                kwargs: Any = None,
            ) -> Any:
                results = function(*args, **(kwargs or {}))
                recorder._write_down(function, args, kwargs or {}, results)
                return results

        class Calls(TorchFunctionMode):
            def __torch_function__(
                self,
                function: Any,
                types: Any,
                args: Any = (),
                kwargs: Any = None,
            ) -> Any:
                result = function(*args, **(kwargs or {}))
                if getattr(function, "__name__", "") in _TELL_VALUES:
                    recorder._note_use_of_values(args[:1])
                return result

        with Operations(), Calls():
            return function(inputs)

    def _write_down(
        self, function: Any, args: Any, kwargs: Any, results: Any
    ) -> None:
        import torch
        from torch.utils import _pytree as pytree

        flat, structure = pytree.tree_flatten((args, kwargs))
        tensors = [each for each in flat if torch.is_tensor(each)]
        returned = [
            each
            for each in (
                results if isinstance(results, (list, tuple)) else [results]
            )
            if each is not None
        ]
        tags = getattr(function, "tags", ())
        if torch.Tag.data_dependent_output in tags:
            self._note_use_of_values(tensors)
            return
        if (
            _has_shape_by_values(function, tensors)
            or torch.Tag.inplace_view in tags
            or getattr(function, "_schema", None) is None
            or not all(map(torch.is_tensor, returned))
        ):
            self._is_repeatable = False
            return
        arguments = [
            self._captured_number(each) if torch.is_tensor(each) else each
            for each in flat
        ]
        written = {_memory(each) for each in _written(function, args, kwargs)}
        is_random = torch.Tag.nondeterministic_seeded in tags
        is_varying = is_random or (
            function._schema.name not in _READ_NO_VALUES
            and self._varying.intersection(map(_memory, tensors))
        )
        if is_varying:
            self._varying |= written
            self._varying.update(map(_memory, returned))
        numbers = {self._number(each) for each in returned}
        if written or numbers - {self._number(each) for each in tensors}:
            # If not, it returned what it was given.
            outputs: Any = None
            if isinstance(results, (list, tuple)):
                outputs = [
                    None if each is None else self._number(each)
                    for each in results
                ]
            elif results is not None:
                outputs = self._number(results)
            self._operations.append(
                _Operation(
                    function, arguments, structure, outputs, written, is_random
                )
            )

    def _note_use_of_values(self, tensors: Sequence[Tensor]) -> None:
        """Notes that Python was told the values of tensors."""
        if self._varying.intersection(map(_memory, tensors)):
            self._is_repeatable = False

    def _number(self, tensor: Tensor) -> _Number:
        place = (
            _memory(tensor),
            tensor.storage_offset(),
            tuple(tensor.shape),
            tensor.stride(),
            tensor.dtype,
            tensor.is_conj(),
            tensor.is_neg(),
        )
        if place not in self._numbers:
            self._numbers[place] = _Number(len(self._tensors))
            self._tensors.append(tensor)
        return self._numbers[place]

    def _captured_number(self, tensor: Tensor) -> _Number:
        """Returns the number of an argument, which may be from outside."""
        known = len(self._tensors)
        number = self._number(tensor)
        if number == known:
            self._captured.append(number)
            memory = _memory(tensor)
            if memory in self._varying - self._state:
                # A view of what is known, but made by no operation.
                self._is_repeatable = False
        return number

    def repetition(self, outputs: Sequence[Any]) -> Function | None:
        """Returns a function that repeats what was written down."""
        import torch

        wanted: list[_Number | None] = [
            None if each is None else self._captured_number(each)
            for each in outputs
        ]
        written = {
            memory for each in self._operations for memory in each.written
        }
        outside = {
            _memory(self._tensors[each])
            for each in (*self._captured, *self._inputs)
        }
        # What is changed must be the state, or made here.
        if not self._is_repeatable or written & outside - self._state:
            return None
        operations, same, at_hand = self._shortened(written)
        wanted = [None if n is None else same.get(n, n) for n in wanted]
        operations = _used(operations, wanted)
        operations = self._overwriting(operations, wanted, written)

        graph = torch.fx.Graph()
        nodes = {
            each: graph.placeholder(f"input_{each}") for each in self._inputs
        }
        read = [number for each in operations for number in each.read]
        used = dict.fromkeys(
            number
            for number in (*read, *wanted)
            if number in at_hand and number not in nodes
        )
        nodes |= {each: graph.placeholder(f"held_{each}") for each in used}
        for operation in operations:
            _add_to_graph(graph, nodes, operation)
        graph.output([None if each is None else nodes[each] for each in wanted])
        forward = torch.fx.GraphModule(torch.nn.Module(), graph).forward
        held = [self._tensors[each] for each in used]
        return lambda inputs: forward(*inputs, *held)

    def _shortened(
        self, written: set[int]
    ) -> tuple[list[_Operation], dict[_Number, _Number], set[_Number]]:
        """Leaves out what need not be done each time.

        Args:
            written: All memory that is changed in place.

        Returns:
            The operations that are left; the tensors that are the same as
            others; and those that are at hand without an operation.
        """
        memory = [_memory(each) for each in self._tensors]
        same: dict[_Number, _Number] = {}
        at_hand = set(self._captured)
        left: list[_Operation] = []
        done: dict[Hashable, list[_Number]] = {}
        changes = dict.fromkeys(memory, 0)
        for operation in self._operations:
            arguments = [
                same.get(each, each) if type(each) is _Number else each
                for each in operation.arguments
            ]
            operation = operation._replace(arguments=arguments)
            made = operation.made
            places = {memory[each] for each in made}
            for each in operation.written:
                changes[each] += 1
            if operation.is_random or operation.written:
                left.append(operation)
                continue
            is_view = bool(places & {memory[each] for each in operation.read})
            if is_view and at_hand.issuperset(operation.read):
                at_hand.update(made)  # It stays where it is.
                continue
            if places & written:
                left.append(operation)
                continue
            if not places & self._varying:
                at_hand.update(made)  # It is a constant.
                continue
            key = (
                operation.function,
                operation.structure,
                *((type(each), each) for each in arguments),
                *(changes[memory[each]] for each in operation.read),
            )
            if key in done:
                same.update(zip(made, done[key], strict=True))
                continue
            done[key] = made
            left.append(operation)
        return left, same, at_hand

    def _overwriting(
        self,
        operations: list[_Operation],
        wanted: Sequence[_Number | None],
        written: set[int],
    ) -> list[_Operation]:
        """Has operations write over what nothing reads after them.

        Of large tensors, to add two takes no longer than to fetch memory for
        the sum that is not in the processor's cache.
        """
        import torch

        places = [_memory(each) for each in self._tensors]
        last_read = {
            places[number]: index
            for index, operation in enumerate(operations)
            for number in operation.read
        }
        for each in wanted:
            if each is not None:
                last_read[places[each]] = len(operations)
        moved: dict[int, int] = {}

        def place(number: _Number) -> int:
            found = places[number]
            while found in moved:
                found = moved[found]
            return found

        made: set[int] = set()
        result = []
        for index, operation in enumerate(operations):
            output = operation.outputs
            if (
                isinstance(output, _Number)
                and torch.Tag.pointwise in operation.function.tags
                and place(output) not in made | written
            ):
                for each in operation.read:
                    there = [
                        n for n in operation.read if place(n) == place(each)
                    ]
                    if (
                        place(each) in made - written
                        and last_read[place(each)] == index
                        and set(there) == {each}
                        and _layout(self._tensors[each])
                        == _layout(self._tensors[output])
                    ):
                        overwriting = _overwriting(operation, each)
                        if overwriting is not None:
                            operation = overwriting
                            last_read[place(each)] = last_read.get(
                                place(output), index
                            )
                            moved[place(output)] = place(each)
                            break
            made.update(
                {place(each) for each in operation.made}
                - {place(each) for each in operation.read}
            )
            result.append(operation)
        return result


def _memory(tensor: Tensor) -> int:
    """Returns where the memory of a tensor begins, which views share."""
    storage = tensor.untyped_storage()
    # What has no elements has no memory either.
    return storage.data_ptr() or id(tensor)


def _has_shape_by_values(function: Any, tensors: Sequence[Tensor]) -> bool:
    """Tells whether the shape of what is returned depends on values."""
    import torch

    if function == torch.ops.aten.index.Tensor:  # With a mask only.
        return any(
            each.dtype in (torch.bool, torch.uint8) for each in tensors[1:]
        )
    return torch.Tag.dynamic_output_shape in getattr(function, "tags", ())


def _written(function: Any, args: Any, kwargs: Any) -> list[Tensor]:
    """Returns the tensors that an operation changes in place."""
    from torch.utils import _pytree as pytree

    return [
        tensor
        for index, argument in enumerate(function._schema.arguments)
        if argument.alias_info is not None and argument.alias_info.is_write
        for tensor in pytree.tree_leaves(
            args[index] if index < len(args) else kwargs.get(argument.name)
        )
        if tensor is not None
    ]


def _layout(tensor: Tensor) -> tuple[Any, ...]:
    return tensor.shape, tensor.stride(), tensor.dtype


def _overwriting(operation: _Operation, number: _Number) -> _Operation | None:
    """Returns an operation that writes its output over an argument, if any."""
    import torch
    from torch.utils import _pytree as pytree

    function = operation.function
    packet = function.overloadpacket
    arguments = [(a.name, str(a.type)) for a in function._schema.arguments]
    for name in packet.overloads():
        other = getattr(packet, name)
        given = [
            (a.name, str(a.type))
            for a in other._schema.arguments
            if a.alias_info is None or not a.alias_info.is_write
        ]
        outs = [a for a in other._schema.arguments if a.is_out]
        # Those that PyTorch generates copy what the other returns.
        if (
            given == arguments
            and len(outs) == 1
            and torch.Tag.generated not in other.tags
        ):
            args, kwargs = pytree.tree_unflatten(
                operation.arguments, operation.structure
            )
            flat, structure = pytree.tree_flatten(
                (args, {**kwargs, outs[0].name: number})
            )
            return operation._replace(
                function=other, arguments=flat, structure=structure
            )
    namespace, name = function._schema.name.split("::")
    in_place = getattr(getattr(torch.ops, namespace), f"{name}_", None)
    if operation.arguments[0] is number and in_place is not None:
        other = getattr(in_place, function._overloadname, None)
        if other is not None and torch.Tag.generated not in other.tags:
            return operation._replace(function=other)
    return None


def _used(
    operations: list[_Operation], wanted: Sequence[_Number | None]
) -> list[_Operation]:
    """Returns the operations without those whose outputs nothing reads."""
    read = set(wanted)
    used = []
    for operation in reversed(operations):
        if operation.written or read.intersection(operation.made):
            read.update(operation.read)
            used.append(operation)
    return used[::-1]


def _add_to_graph(
    graph: Any, nodes: dict[_Number, Any], operation: _Operation
) -> None:
    from torch.utils import _pytree as pytree

    args, kwargs = pytree.tree_unflatten(
        [
            nodes[each] if type(each) is _Number else each
            for each in operation.arguments
        ],
        operation.structure,
    )
    node = graph.call_function(operation.function, args, kwargs)
    if not isinstance(operation.outputs, list):
        for number in operation.made:
            nodes.setdefault(number, node)
        return
    for index, each in enumerate(operation.outputs):
        if each is not None and each not in nodes:
            nodes[each] = graph.call_function(operator.getitem, (node, index))
