"""Representation learning in JAX (not reinforcement learning)."""

import importlib

__version__ = "0.1.0"

# Imported on first use: `rl-jax --help` must not wait for jax.
__all__ = [
    "augment",
    "data",
    "evaluate",
    "losses",
    "memory",
    "methods",
    "networks",
    "pairwise",
    "report",
    "run",
    "theory",
    "train",
    "types",
]


def __getattr__(name: str):
    if name in __all__:
        return importlib.import_module(f"rl_jax.{name}")
    raise AttributeError(f"module 'rl_jax' has no attribute {name!r}")


def __dir__():
    return sorted([*globals(), *__all__])
