"""Methods: one factory each; `__all__` is the list everything else reads."""

from rl_jax.methods.bert import bert
from rl_jax.methods.byol import byol
from rl_jax.methods.mae import mae
from rl_jax.methods.moco import moco
from rl_jax.methods.probe import with_probe
from rl_jax.methods.simclr import simclr

__all__ = ["bert", "byol", "mae", "moco", "simclr", "with_probe"]
