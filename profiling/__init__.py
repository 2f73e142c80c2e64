"""Benchmarks: `python -m profiling.NAME`; see README.md in this folder.

Peers (PyTorch, optax, scikit-learn) are used here and nowhere else. Nothing here is in
the wheel.
"""

NAMES = (
    "memory",
    "speed",
    "top_k",
    "convolution",
    "diagnostics",
    "evaluate",
    "sections",
    "experiments",
    "gpu",
    "step",
    "kernels",
    "agreement",
)
"""The benchmarks, each a module of this folder with `main(argv)`."""
