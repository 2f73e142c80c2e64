"""Methods: one factory each; `__all__` is the list everything else reads."""

from rl_jax.methods.byol import byol
from rl_jax.methods.cpc import cpc
from rl_jax.methods.info_nce import info_nce
from rl_jax.methods.memory_bank import memory_bank
from rl_jax.methods.moco import moco
from rl_jax.methods.probe import with_probe
from rl_jax.methods.simclr import simclr
from rl_jax.methods.sup_con import sup_con

__all__ = [
    "byol",
    "cpc",
    "info_nce",
    "memory_bank",
    "moco",
    "simclr",
    "sup_con",
    "with_probe",
]
