"""Methods: one factory each; `__all__` is the list everything else reads."""

from rl_jax.methods.byol import byol
from rl_jax.methods.ivae import ivae
from rl_jax.methods.moco import moco
from rl_jax.methods.probe import with_probe
from rl_jax.methods.simclr import simclr
from rl_jax.methods.vae import vae
from rl_jax.methods.vib import contrastive_vib, vib

__all__ = [
    "byol",
    "contrastive_vib",
    "ivae",
    "moco",
    "simclr",
    "vae",
    "vib",
from rl_jax.methods.cpc import cpc
from rl_jax.methods.info_nce import info_nce
from rl_jax.methods.moco import moco
from rl_jax.methods.probe import with_probe
from rl_jax.methods.simclr import simclr
from rl_jax.methods.sup_con import sup_con

__all__ = [
    "byol",
    "cpc",
    "info_nce",
    "moco",
    "simclr",
    "sup_con",
    "with_probe",
]
