"""Losses: arrays in, a scalar out."""

from rl_jax.losses.bootstrap import negative_cosine
from rl_jax.losses.contrastive import alignment, info_nce, nt_xent, uniformity
from rl_jax.losses.normalize import normalize

__all__ = [
    "alignment",
    "info_nce",
    "negative_cosine",
    "normalize",
    "nt_xent",
    "uniformity",
]
