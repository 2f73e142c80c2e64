"""`rl-jax bench NAME`: the benchmarks of a checkout, which the wheel does not have."""

import os
import pathlib
import subprocess
import sys
from collections.abc import Sequence

from rl_jax.errors import UsageError

ROOT = pathlib.Path(__file__).parents[2]
NAMES = {
    "pairwise": "memory, speed and top_k in their quick form",
    "memory": "bytes of loss and gradient, planned by the compiler",
    "speed": "time of loss and gradient, beside dense JAX, optax and PyTorch",
    "top_k": "nearest rows of a bank, beside the dense matrix and scikit-learn",
    "evaluate": "k-NN and probes beside scikit-learn, CKA maps beside single CKAs",
    "sections": "seconds of each section of the evaluation of a run",
    "experiments": "seconds of each experiment, with and without what was compiled",
    "gpu": "one GPU: its ceilings, the loss, a SimCLR step",
    "step": "the SimCLR step part by part, on an accelerator, beside PyTorch",
    "kernels": "kernels for Hopper GPUs one by one, and a loss by its kernels",
    "convolution": "small convolutions as XLA has them and as products",
    "diagnostics": "what the diagnostics add to a training step",
    "agreement": "losses and more beside other libraries' values; nothing is timed",
}
QUICK = ("memory", "speed", "top_k")


def bench(argv: Sequence[str]) -> None:
    """Runs a benchmark in a process of its own; its exit code is the command's."""
    if argv and argv[0] in ("-h", "--help"):
        print(usage())
        return
    names = ", ".join(NAMES)
    if not argv or argv[0].startswith("-"):
        raise UsageError(f"bench: name a benchmark first; there are: {names}")
    name, *rest = argv
    if name not in NAMES:
        raise UsageError(f"bench: unknown benchmark {name!r}; there are: {names}")
    if not (ROOT / "profiling" / "__init__.py").exists():
        raise UsageError(
            "bench: there is no folder profiling/ beside the package; the benchmarks "
            "are in a checkout of the repository, not in the wheel"
        )
    for module in QUICK if name == "pairwise" else (name,):
        quick = ["--quick"] if name == "pairwise" else []
        code = _run(module, [*quick, *rest])
        if code:
            sys.exit(code)


def usage() -> str:
    """The text of `rl-jax bench --help`."""
    width = max(map(len, NAMES))
    return "\n".join(
        [
            "usage: rl-jax bench NAME [OPTIONS]",
            "",
            *(f"  {name:<{width}}  {text}" for name, text in NAMES.items()),
            "",
            "  rl-jax bench NAME --help    every option of a benchmark",
            "",
            "RL_JAX_TORCH_PYTHON names an interpreter that has PyTorch; pairwise takes "
            "--out alone.",
        ]
    )


def _run(module: str, argv: Sequence[str]) -> int:
    """A fresh process: memory and speed want different devices from jax."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    command = [sys.executable, "-P", "-m", f"profiling.{module}", *argv]
    return subprocess.run(command, env=os.environ | {"PYTHONPATH": path}).returncode
