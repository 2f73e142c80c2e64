"""Losses: arrays in, a scalar out."""

from rl_jax.losses.bootstrap import negative_cosine
from rl_jax.losses.contrastive import (
    alignment,
    clip,
    info_nce,
    nt_xent,
    sigmoid,
    sup_con,
    uniformity,
)
from rl_jax.losses.masked import (
    normalise_patches,
    patch_statistics,
    squared_error,
    weighted_cross_entropy,
)
from rl_jax.losses.normalize import normalize

__all__ = [
    "alignment",
    "clip",
    "info_nce",
    "negative_cosine",
    "normalise_patches",
    "normalize",
    "nt_xent",
    "patch_statistics",
    "sigmoid",
    "squared_error",
    "sup_con",
    "uniformity",
    "weighted_cross_entropy",
]
