"""Models, data, truths and programs that the tests share.

The most common are imported from here, `from tests.support import ...`,
and the rest from the module of its subject.
"""

from tests.support.backend import (
    BACKEND,
    number,
    runs_several_steps,
    takes_functions,
    torch_compile_only,
)
from tests.support.documented_model import (
    documented_data,
    documented_model,
    falling,
    falling_schedule,
    linear_data,
    rising,
    rising_schedule,
)
from tests.support.numpy_simulation import (
    Simulation,
    assert_means,
    assert_splits,
    assert_weights,
    simulate,
    simulate_linear,
    simulated_losses,
)
from tests.support.processes import (
    devices,
    outputs,
    run_program,
    run_python,
    start_program,
    start_python,
)

__all__ = [
    "BACKEND",
    "Simulation",
    "assert_means",
    "assert_splits",
    "assert_weights",
    "devices",
    "documented_data",
    "documented_model",
    "falling",
    "falling_schedule",
    "linear_data",
    "number",
    "outputs",
    "rising",
    "rising_schedule",
    "run_program",
    "run_python",
    "runs_several_steps",
    "simulate",
    "simulate_linear",
    "simulated_losses",
    "start_program",
    "start_python",
    "takes_functions",
    "torch_compile_only",
]
