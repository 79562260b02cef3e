"""`compact` beside Torch-Pruning, on one network with the same zeros.

    pip install torch-pruning
    KERAS_BACKEND=torch python benchmarks/torch_pruning_beside.py

Trains the convolutional network of `trained_digits.py`, whose batch
normalizations have an `L1` on their scales under `Proximal`, copies its weights
into the same network of plain PyTorch, and removes the channels of scale zero:
with `l2keras.compact`; with Torch-Pruning, layer by layer; and with it again,
but only those that are zero in all layers that are coupled by an addition.
Prints parameters, the test accuracy, and the largest difference of an output as
a fraction of the largest output.
"""

import argparse
import copy

import keras
import machine
import numpy as np
import torch
import torch_pruning
import trained_digits
from torch import nn

import l2keras


class Network(nn.Module):
    """The same network in PyTorch, channels first."""

    def __init__(self):
        super().__init__()
        sizes = [(1, 32), (32, 64), (64, 32)]
        self.convolutions = nn.ModuleList(
            nn.Conv2d(*size, 3, padding="same") for size in sizes
        )
        self.normalizations = nn.ModuleList(
            nn.BatchNorm2d(filters, eps=1e-3) for _, filters in sizes
        )
        self.dense = nn.Linear(32 * 4 * 4, 96)
        self.output = nn.Linear(96, 10)

    def forward(self, x):
        first, second, third = (
            lambda x, c=c, n=n: n(c(x))
            for c, n in zip(self.convolutions, self.normalizations, strict=True)
        )
        x = torch.relu(first(x))
        x = torch.relu(x + third(torch.relu(second(x))))
        x = nn.functional.max_pool2d(x, 2).flatten(1)
        return self.output(torch.relu(self.dense(x)))

    @classmethod
    def like(cls, model):
        """Returns one with the weights of a Keras model."""
        made = cls().eval()
        of_kind = {
            kind: [layer for layer in model.layers if isinstance(layer, kind)]
            for kind in (
                keras.layers.Conv2D,
                keras.layers.BatchNormalization,
                keras.layers.Dense,
            )
        }
        convolutions, normalizations, (dense, output) = of_kind.values()
        with torch.no_grad():
            for mine, layer in zip(
                made.convolutions, convolutions, strict=True
            ):
                kernel, bias = layer.get_weights()
                mine.weight.copy_(torch.tensor(kernel.transpose(3, 2, 0, 1)))
                mine.bias.copy_(torch.tensor(bias))
            for mine, layer in zip(
                made.normalizations, normalizations, strict=True
            ):
                targets = (
                    mine.weight,
                    mine.bias,
                    mine.running_mean,
                    mine.running_var,
                )
                for target, value in zip(
                    targets, layer.get_weights(), strict=True
                ):
                    target.copy_(torch.tensor(value))
            kernel, bias = dense.get_weights()
            # Keras flattens (4, 4, 32), and PyTorch (32, 4, 4).
            kernel = kernel.reshape(4, 4, 32, 96).transpose(3, 2, 0, 1)
            made.dense.weight.copy_(torch.tensor(kernel.reshape(96, -1)))
            made.dense.bias.copy_(torch.tensor(bias))
            kernel, bias = output.get_weights()
            made.output.weight.copy_(torch.tensor(kernel.T))
            made.output.bias.copy_(torch.tensor(bias))
        return made


def pruned(network, images, only_if_all):
    """Returns a copy that Torch-Pruning took the zero channels out of.

    Args:
        network: The network.
        images: Examples, with which it traces the network.
        only_if_all: Whether a channel must be zero in all coupled layers.
    """
    network = copy.deepcopy(network)
    for convolution, normalization in zip(
        network.convolutions, network.normalizations, strict=True
    ):
        graph = torch_pruning.DependencyGraph().build_dependency(
            network, example_inputs=images
        )
        prune = torch_pruning.prune_conv_out_channels
        off = normalization.weight.detach() == 0
        if only_if_all:
            every = list(range(len(off)))
            group = graph.get_pruning_group(convolution, prune, idxs=every)
            for dependency, _ in group:
                module = dependency.target.module
                if isinstance(module, nn.BatchNorm2d):
                    off &= module.weight.detach() == 0
        removed = off.nonzero().flatten().tolist()[: len(off) - 1]
        if removed:
            graph.get_pruning_group(convolution, prune, idxs=removed).prune()
    off = (network.dense.weight.detach() == 0).all(1)
    graph = torch_pruning.DependencyGraph().build_dependency(
        network, example_inputs=images
    )
    removed = off.nonzero().flatten().tolist()[: len(off) - 1]
    if removed:
        graph.get_pruning_group(
            network.dense,
            torch_pruning.prune_linear_out_channels,
            idxs=removed,
        ).prune()
    return network


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--epochs", type=int, default=30)
    arguments = parser.parse_args()
    machine.describe()
    print(f"Torch-Pruning {torch_pruning.__version__}")
    model = trained_digits.train("digits-convolutional", arguments.epochs)
    _, _, images, labels = trained_digits.load()
    network = Network.like(model)
    tensor = torch.tensor(images.transpose(0, 3, 1, 2))

    def outputs(of):
        with torch.no_grad():
            return of(tensor).numpy()

    before = model.predict(images, verbose=0)
    np.testing.assert_allclose(outputs(network), before, rtol=1e-3, atol=1e-3)

    def show(name, parameters, after):
        right = np.mean(after.argmax(axis=1) == labels)
        difference = np.abs(after - before).max() / np.abs(before).max()
        print(
            f"  {name:36s} {parameters:8,} parameters, {right:.3f} right, "
            f"difference {difference:.0e}"
        )

    show("the network", model.count_params(), before)
    small, report = l2keras.compact(model)
    show("compact", report.parameters[1], small.predict(images, verbose=0))
    for name, only_if_all in (
        ("Torch-Pruning, layer by layer", False),
        ("Torch-Pruning, zero in all coupled", True),
    ):
        smaller = pruned(network, tensor[:1], only_if_all)
        # With the statistics of the normalizations, as Keras counts.
        number = sum(p.numel() for p in smaller.parameters())
        number += sum(
            b.numel() for b in smaller.buffers() if b.is_floating_point()
        )
        show(name, number, outputs(smaller))


if __name__ == "__main__":
    main()
