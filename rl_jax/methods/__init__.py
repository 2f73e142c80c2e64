"""Methods: one factory each; `__all__` is the list everything else reads."""

from rl_jax.methods.byol import byol
from rl_jax.methods.context import context
from rl_jax.methods.jigsaw import jigsaw
from rl_jax.methods.moco import moco
from rl_jax.methods.probe import with_probe
from rl_jax.methods.rotation import rotation
from rl_jax.methods.simclr import simclr
from rl_jax.methods.supervised import supervised

__all__ = [
    "byol",
    "context",
    "jigsaw",
    "moco",
    "rotation",
    "simclr",
    "supervised",
    "with_probe",
]
