"""Kernels that lie one behind another, so that one's size is another's.

Between two layers that are linear but for ReLUs, the first kernel (and bias)
may be multiplied by any positive number, and the second divided by it: the
model computes the same.
"""

from typing import Any

import keras

from l2keras._keras import graphs

_LINEAR = (
    keras.layers.Dense,
    keras.layers.EinsumDense,
    keras.layers.Conv1D,
    keras.layers.Conv2D,
    keras.layers.Conv3D,
)

# What they make of a multiple is the multiple of what they make.
_PASSING = (
    keras.layers.Dropout,
    keras.layers.Flatten,
    keras.layers.Reshape,
    keras.layers.Permute,
    keras.layers.MaxPooling1D,
    keras.layers.MaxPooling2D,
    keras.layers.MaxPooling3D,
    keras.layers.AveragePooling1D,
    keras.layers.AveragePooling2D,
    keras.layers.AveragePooling3D,
    keras.layers.GlobalMaxPooling1D,
    keras.layers.GlobalMaxPooling2D,
    keras.layers.GlobalMaxPooling3D,
    keras.layers.GlobalAveragePooling1D,
    keras.layers.GlobalAveragePooling2D,
    keras.layers.GlobalAveragePooling3D,
    keras.layers.ZeroPadding1D,
    keras.layers.ZeroPadding2D,
    keras.layers.ZeroPadding3D,
    keras.layers.LeakyReLU,
)

_ACTIVATIONS = (
    keras.activations.linear,
    keras.activations.relu,
    keras.activations.leaky_relu,
)


def relu_chains(model: keras.Model) -> list[list[keras.Variable]]:
    """Returns the kernels of each chain of two or more, first to last.

    Only what the graph of a sequential or functional model shows; not through
    models that are in it.
    """
    function = graphs.function_of(model)
    if function is None:
        return []
    nodes = graphs.nodes(function)
    readers: dict[int, int] = {}
    for tensor in [t for node in nodes for t in node.inputs]:
        readers[id(tensor)] = readers.get(id(tensor), 0) + 1
    for tensor in function.outputs:  # Nobody may change what they are.
        readers[id(tensor)] = readers.get(id(tensor), 0) + 2
    # The chain whose last kernel scales a tensor, by the tensor.
    open_at: dict[int, list[keras.Variable]] = {}
    chains = []
    for node in nodes:
        layer: Any = node.operation
        chain: list[keras.Variable] | None = None
        if len(node.inputs) == 1 and readers[id(node.inputs[0])] == 1:
            chain = open_at.get(id(node.inputs[0]))
        if isinstance(layer, _LINEAR) and _is_called_once(nodes, layer):
            if chain is None:
                chain = []
                chains.append(chain)
            chain.append(layer.kernel)
        if chain is not None and _is_passed_on(layer):
            open_at[id(node.outputs[0])] = chain
    return [chain for chain in chains if len(chain) > 1]


def _is_called_once(nodes: list[graphs.Node], layer: Any) -> bool:
    return sum(node.operation is layer for node in nodes) == 1


def _is_passed_on(layer: Any) -> bool:
    """Tells whether a multiple of a kernel is a multiple of the outputs."""
    if isinstance(layer, (*_LINEAR, keras.layers.Activation)):
        return layer.activation in _ACTIVATIONS
    if isinstance(layer, keras.layers.ReLU):
        return layer.max_value is None and not layer.threshold
    return isinstance(layer, _PASSING)
