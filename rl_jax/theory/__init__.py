"""Closed forms and small solvers: what the methods are checked against."""

from rl_jax.theory.activations import (
    NoisyInformation,
    binned_information,
    noisy_information,
)
from rl_jax.theory.binary_bottleneck import (
    binary_rate,
    binary_relevance,
    coin_entropy,
)
from rl_jax.theory.bottleneck import (
    Bottleneck,
    discrete_bottleneck,
    discrete_curve,
    mutual_information,
)
from rl_jax.theory.dictionary import (
    Dictionary,
    fista,
    learn_dictionary,
    sparse_coding_error,
)
from rl_jax.theory.discriminant import discriminant_risk
from rl_jax.theory.gaussian import (
    canonical_correlations,
    gaussian_information,
)
from rl_jax.theory.gaussian_bottleneck import (
    GaussianBottleneck,
    gaussian_bottleneck,
    gaussian_cells,
    gaussian_curve,
    scalar_rate,
    scalar_relevance,
)
from rl_jax.theory.information import (
    InfoNCEBound,
    info_nce_bound,
    log_density_ratio,
    log_mean_ratio,
    pair_information,
)
from rl_jax.theory.pca import linear_autoencoder_error, pca_floor, pca_projector
from rl_jax.theory.score import (
    Mixture,
    denoiser_score,
    mixture_log_density,
    mixture_posterior_mean,
    mixture_score,
    tweedie,
)
from rl_jax.theory.similarity import linear_map_cka
from rl_jax.theory.simplex import (
    simplex_etf,
    simplex_gram,
)
from rl_jax.theory.sphere import (
    info_nce_limit,
    log_mean_exp_cosine,
    uniformity_limit,
)
from rl_jax.theory.sufficiency import (
    Family,
    Sufficiency,
    bayes_risk,
    gamma,
    gaussian,
    gaussian_mean,
    gaussian_sufficiency,
    likelihood_ratio_spread,
    mixture_log_posterior,
    mixture_statistic,
)

__all__ = [
    "Bottleneck",
    "Dictionary",
    "Family",
    "GaussianBottleneck",
    "InfoNCEBound",
    "Mixture",
    "NoisyInformation",
    "Sufficiency",
    "bayes_risk",
    "binary_rate",
    "binary_relevance",
    "binned_information",
    "canonical_correlations",
    "coin_entropy",
    "denoiser_score",
    "discrete_bottleneck",
    "discrete_curve",
    "discriminant_risk",
    "fista",
    "gamma",
    "gaussian",
    "gaussian_bottleneck",
    "gaussian_cells",
    "gaussian_curve",
    "gaussian_information",
    "gaussian_mean",
    "gaussian_sufficiency",
    "info_nce_bound",
    "info_nce_limit",
    "learn_dictionary",
    "likelihood_ratio_spread",
    "linear_autoencoder_error",
    "linear_map_cka",
    "log_density_ratio",
    "log_mean_exp_cosine",
    "log_mean_ratio",
    "mixture_log_density",
    "mixture_log_posterior",
    "mixture_posterior_mean",
    "mixture_score",
    "mixture_statistic",
    "mutual_information",
    "noisy_information",
    "pair_information",
    "pca_floor",
    "pca_projector",
    "scalar_rate",
    "scalar_relevance",
    "simplex_etf",
    "simplex_gram",
    "sparse_coding_error",
    "tweedie",
    "uniformity_limit",
]
