"""The benchmarks, one after another, on each backend that is installed.

    python benchmarks/run_all.py                       all, for hours
    python benchmarks/run_all.py --backends jax torch --only tune_strength
    python benchmarks/run_all.py --small               only whether they run

Each is a process of its own. What it prints goes to
`benchmarks/results/NAME-BACKEND-DEVICE.txt`, the device being `cpu` or `gpu`:
on a machine with a GPU nothing else has to be done. (`--small` writes nothing.)
Not among them is `torch_pruning_beside.py`, which needs another package.
Exits with 1 if one failed.
"""

import argparse
import importlib.util
import os
import subprocess
import sys
import time
from pathlib import Path

FOLDER = Path(__file__).parent

# By name: the script and its options, and those that only try it.
BENCHMARKS = {
    "placement": ("placement", "", ""),
    "step_time": (
        "step_time",
        "--models documented",
        "--models documented --rounds 1 --steps 2",
    ),
    "weight_decay": (
        "weight_decay",
        "",
        "--models documented --rounds 1 --steps 2",
    ),
    "proximal_step": ("proximal_step", "", "--rounds 1 --steps 2"),
    "apply_regularizers": ("apply_regularizers", "", "--rounds 1 --steps 2"),
    "compact": ("compact", "", "--models MobileNetV2 --rounds 1 --images 1"),
    # 160 replicas, and 10 and 1,000, which are 200 strengths in 5 folds.
    "tune_strength-by_hand": (
        "tune_strength",
        "--skip-loops --growth 2 200",
        "--skip-loops --growth --strengths 2 --epochs 1 --rounds 1",
    ),
    "tune_strength": (
        "tune_strength",
        "--growth --rounds 1 --skip-grid-search",
        "--growth --strengths 2 --every 2 --epochs 1 --rounds 1 "
        "--skip-grid-search",
    ),
    "tune_strength-convolutional": (
        "tune_strength",
        "--convolutional --strengths 8 --every 4 --epochs 5",
        "--convolutional --strengths 2 --every 2 --epochs 1",
    ),
    "tune_strengths": ("tune_strengths", "--splits 2", "--quick"),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    backends = ["tensorflow", "jax", "torch"]
    parser.add_argument("--backends", nargs="+", choices=backends)
    parser.add_argument("--only", nargs="+", choices=list(BENCHMARKS))
    parser.add_argument("--small", action="store_true")
    arguments = parser.parse_args()
    failed = []
    for backend in arguments.backends or filter(
        importlib.util.find_spec, backends
    ):
        for name in arguments.only or BENCHMARKS:
            script, options, small = BENCHMARKS[name]
            began = time.perf_counter()
            printed, status = run(
                backend, script, small if arguments.small else options
            )
            seconds = time.perf_counter() - began
            if status:
                failed.append(f"{name} on {backend}")
            elif not arguments.small:
                device = "gpu" if "GPU" in printed.splitlines()[0] else "cpu"
                path = FOLDER / "results" / f"{name}-{backend}-{device}.txt"
                path.write_text(printed)
            print(f"== {name} on {backend}: {seconds:.0f} s, status {status}\n")
    for name in failed:
        print(f"failed: {name}")
    return 1 if failed else 0


def run(backend, script, options):
    """Runs a script and shows what it prints; returns that and its status."""
    process = subprocess.Popen(
        [sys.executable, "-u", FOLDER / f"{script}.py", *options.split()],
        env={**os.environ, "KERAS_BACKEND": backend},
        text=True,
        stdout=subprocess.PIPE,
    )
    lines = []
    for line in process.stdout:
        print(line, end="", flush=True)
        lines.append(line)
    return "".join(lines), process.wait()


if __name__ == "__main__":
    sys.exit(main())
