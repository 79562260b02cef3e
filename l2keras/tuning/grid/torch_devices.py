"""The replicas of a stack dealt to several devices, on PyTorch.

A GPU only notes what it is told to compute, and Python goes on. So one thread
tells the devices in turn, batch by batch, and they compute at the same time.
"""

from l2keras._keras import backends
from l2keras.tuning.grid.dealt_stack import DealtStack
from l2keras.tuning.grid.stack import Means, Rows
from l2keras.tuning.grid.torch_stack import TorchStack


class DealtTorchStack(DealtStack):
    """Has all devices begin a batch before the first is told of the next."""

    _class_of_parts = TorchStack

    def _train_epoch(self, rows: Rows) -> Means:
        return self._pass(rows, training=True)

    def evaluate(self, rows: Rows) -> Means:
        return self._pass(rows, training=False)

    def _pass(self, rows: Rows, training: bool) -> Means:
        import torch

        batches = [part.stack.batches(part.rows(rows)) for part in self._parts]
        sums = [part.stack.no_sums() for part in self._parts]
        with torch.no_grad():
            for of_parts in zip(*batches, strict=True):
                for index, part in enumerate(self._parts):
                    with backends.on_device(part.device):
                        sums[index] = part.stack.after_batch(
                            sums[index], of_parts[index], training
                        )
            means = []
            for index, part in enumerate(self._parts):
                with backends.on_device(part.device):
                    means.append(part.stack.means(sums[index], rows))
        return self._means(means)
