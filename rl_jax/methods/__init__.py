"""Methods: one factory each; `__all__` is the list everything else reads."""

from rl_jax.methods.autoencoder import autoencoder, linear_autoencoder
from rl_jax.methods.barlow_twins import barlow_twins
from rl_jax.methods.bert import bert
from rl_jax.methods.byol import byol
from rl_jax.methods.clip import clip
from rl_jax.methods.context import context
from rl_jax.methods.cpc import cpc
from rl_jax.methods.denoising_autoencoder import denoising_autoencoder
from rl_jax.methods.dino import dino
from rl_jax.methods.dino_v2 import dino_v2
from rl_jax.methods.i_jepa import i_jepa
from rl_jax.methods.ibot import ibot
from rl_jax.methods.info_nce import info_nce
from rl_jax.methods.ivae import ivae
from rl_jax.methods.jigsaw import jigsaw
from rl_jax.methods.lejepa import lejepa
from rl_jax.methods.mae import mae
from rl_jax.methods.memory_bank import memory_bank
from rl_jax.methods.moco import moco
from rl_jax.methods.moco_v3 import moco_v3
from rl_jax.methods.nnclr import nnclr
from rl_jax.methods.probe import with_probe
from rl_jax.methods.rotation import rotation
from rl_jax.methods.siglip import siglip
from rl_jax.methods.simclr import simclr
from rl_jax.methods.simcse import simcse
from rl_jax.methods.simmim import simmim
from rl_jax.methods.simsiam import simsiam
from rl_jax.methods.sparse_autoencoder import sparse_autoencoder
from rl_jax.methods.sup_con import sup_con
from rl_jax.methods.supervised import supervised
from rl_jax.methods.swav import swav
from rl_jax.methods.vae import vae
from rl_jax.methods.vib import contrastive_vib, vib
from rl_jax.methods.vicreg import vicreg

__all__ = [
    "autoencoder",
    "barlow_twins",
    "bert",
    "byol",
    "clip",
    "context",
    "contrastive_vib",
    "cpc",
    "denoising_autoencoder",
    "dino",
    "dino_v2",
    "i_jepa",
    "ibot",
    "info_nce",
    "ivae",
    "jigsaw",
    "lejepa",
    "linear_autoencoder",
    "mae",
    "memory_bank",
    "moco",
    "moco_v3",
    "nnclr",
    "rotation",
    "siglip",
    "simclr",
    "simcse",
    "simmim",
    "simsiam",
    "sparse_autoencoder",
    "sup_con",
    "supervised",
    "swav",
    "vae",
    "vib",
    "vicreg",
    "with_probe",
]
