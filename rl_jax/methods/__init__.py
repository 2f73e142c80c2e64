"""Methods: one factory each; `__all__` is the list everything else reads."""

from rl_jax.methods.barlow_twins import barlow_twins
from rl_jax.methods.byol import byol
from rl_jax.methods.dino import dino
from rl_jax.methods.moco import moco
from rl_jax.methods.probe import with_probe
from rl_jax.methods.simclr import simclr
from rl_jax.methods.simsiam import simsiam
from rl_jax.methods.swav import swav
from rl_jax.methods.vicreg import vicreg

__all__ = [
    "barlow_twins",
    "byol",
    "dino",
    "moco",
    "simclr",
    "simsiam",
    "swav",
    "vicreg",
    "with_probe",
]
