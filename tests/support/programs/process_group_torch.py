"""Trains in a group of processes, of which this is the only one.

Keras then calls the model by way of `DistributedDataParallel`, which stands on
the call stack beside the model. Prints its class.
"""

import sys

import numpy as np
import torch

import l2keras
from tests.support import proximal_cases as cases
from tests.support.numpy_trainings import (
    compiled,
    scheduled_model,
    train_like_numpy,
)

torch.set_num_threads(1)  # Two wait for each other on a busy machine.
torch.distributed.init_process_group(
    "gloo", init_method=f"file://{sys.argv[1]}", rank=0, world_size=1
)

model = compiled(scheduled_model())
train_like_numpy(model)
print(type(model.ddp_model).__name__)


model = cases.linear(l2keras.L1(0.05))
history = cases.fit(model, cases.proximal_sgd(momentum=0.8))
kernel, losses = cases.simulate(momentum=0.8)
cases.assert_kernel(model, kernel)
np.testing.assert_allclose(history["loss"], losses, rtol=1e-5)
print(type(model.ddp_model).__name__)

torch.distributed.destroy_process_group()
