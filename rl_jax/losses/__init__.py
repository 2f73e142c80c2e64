"""Losses: arrays in, a scalar out."""

from rl_jax.losses.assignment import (
    patch_cross_entropy,
    prototype_scores,
    sinkhorn,
    swapped_cross_entropy,
)
from rl_jax.losses.bootstrap import negative_cosine
from rl_jax.losses.centring import sinkhorn_centre
from rl_jax.losses.contrastive import (
    alignment,
    clip,
    info_nce,
    nt_xent,
    sigmoid,
    sup_con,
    uniformity,
)
from rl_jax.losses.distillation import Distilled, patch_distillation
from rl_jax.losses.koleo import koleo
from rl_jax.losses.masked import (
    absolute_error,
    normalise_patches,
    patch_statistics,
    smooth_l1,
    squared_error,
    weighted_cross_entropy,
)
from rl_jax.losses.normalize import normalize
from rl_jax.losses.reconstruction import kl_sparsity, l1, squared_distance
from rl_jax.losses.redundancy import (
    barlow_twins,
    barlow_twins_terms,
    vicreg,
    vicreg_terms,
)
from rl_jax.losses.sigreg import sigreg
from rl_jax.losses.variational import (
    bernoulli_log_likelihood,
    free_bits,
    gaussian_kl,
    gaussian_log_likelihood,
    gaussian_sample,
)

__all__ = [
    "Distilled",
    "absolute_error",
    "alignment",
    "barlow_twins",
    "barlow_twins_terms",
    "bernoulli_log_likelihood",
    "clip",
    "free_bits",
    "gaussian_kl",
    "gaussian_log_likelihood",
    "gaussian_sample",
    "info_nce",
    "kl_sparsity",
    "koleo",
    "l1",
    "negative_cosine",
    "normalise_patches",
    "normalize",
    "nt_xent",
    "patch_cross_entropy",
    "patch_distillation",
    "patch_statistics",
    "prototype_scores",
    "sigmoid",
    "sigreg",
    "sinkhorn",
    "sinkhorn_centre",
    "smooth_l1",
    "squared_distance",
    "squared_error",
    "sup_con",
    "swapped_cross_entropy",
    "uniformity",
    "vicreg",
    "vicreg_terms",
    "weighted_cross_entropy",
]
