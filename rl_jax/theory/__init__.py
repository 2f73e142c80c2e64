"""Closed forms and small solvers: what the methods are checked against."""

from rl_jax.theory.bottleneck import (
    Bottleneck,
    discrete_bottleneck,
    discrete_curve,
    mutual_information,
)
from rl_jax.theory.gaussian import canonical_correlations, gaussian_information
from rl_jax.theory.gaussian_bottleneck import (
    GaussianBottleneck,
    gaussian_bottleneck,
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
from rl_jax.theory.simplex import simplex_etf, simplex_gram
from rl_jax.theory.sphere import info_nce_limit, log_mean_exp_cosine, uniformity_limit
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
    "InfoNCEBound",
    "Family",
    "GaussianBottleneck",
    "Sufficiency",
    "bayes_risk",
    "canonical_correlations",
    "discrete_bottleneck",
    "discrete_curve",
    "gamma",
    "gaussian",
    "gaussian_bottleneck",
    "gaussian_curve",
    "gaussian_information",
    "gaussian_mean",
    "gaussian_sufficiency",
    "info_nce_bound",
    "info_nce_limit",
    "likelihood_ratio_spread",
    "log_density_ratio",
    "log_mean_exp_cosine",
    "log_mean_ratio",
    "mixture_log_posterior",
    "mixture_statistic",
    "mutual_information",
    "pair_information",
    "scalar_rate",
    "scalar_relevance",
    "simplex_etf",
    "simplex_gram",
    "uniformity_limit",
]
