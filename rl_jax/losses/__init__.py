"""Losses: arrays in, a scalar out."""

from rl_jax.losses.assignment import (
    prototype_scores,
    sinkhorn,
    swapped_cross_entropy,
)
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
from rl_jax.losses.normalize import normalize
from rl_jax.losses.redundancy import (
    barlow_twins,
    barlow_twins_terms,
    vicreg,
    vicreg_terms,
)

__all__ = [
    "alignment",
    "barlow_twins",
    "barlow_twins_terms",
    "clip",
    "info_nce",
    "negative_cosine",
    "normalize",
    "nt_xent",
    "prototype_scores",
    "sigmoid",
    "sinkhorn",
    "sup_con",
    "swapped_cross_entropy",
    "uniformity",
    "vicreg",
    "vicreg_terms",
]
