"""Correlated Gaussian pairs: their information, the best critic, InfoNCE at it."""

import functools
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from rl_jax.errors import UsageError, checked

TILE = 2**18
"""Values of the critic held at a time."""


@checked
def pair_information(rho: chex.Numeric) -> chex.Array:
    """Mutual information of Gaussian pairs: −½ Σ_p log(1 − ρ_p²), over independent p.

    Args:
      rho: correlation of x_p and y_p, |ρ| < 1: a number, or [P], one of each pair.

    Returns:
      Scalar ≥ 0 in nats, what `gaussian_information` is for the diagonal covariances.

    Raises:
      UsageError: for |ρ| ≥ 1, or a rank above 1.
    """
    return -0.5 * jnp.sum(
        jnp.log1p(-jnp.square(_correlations("pair_information", rho)))
    )


@checked
def log_density_ratio(x: chex.Array, y: chex.Array, *, rho: chex.Numeric) -> chex.Array:
    """The critic no other is better than (van den Oord et al. 2018, arXiv:1807.03748).

    f(x, y) = log p(x, y) / p(x)p(y) = log p(y|x) / p(y) of standard normal pairs:
    ½ Σ_p [y_p² − (y_p − ρ_p x_p)²/(1 − ρ_p²) − log(1 − ρ_p²)]. Its mean is I(X;Y), that
    of e^f over independent x and y is 1.

    Args:
      x, y: [..., P], broadcast against each other.
      rho: correlation, |ρ| < 1: [P], or a number for all pairs.

    Returns:
      [...], in nats.

    Raises:
      UsageError: for |ρ| ≥ 1, or a number of pairs that does not fit.
    """
    rho = _fitting("log_density_ratio", x, y, rho)
    rho = rho.reshape((1,) * (max(x.ndim, y.ndim) - 1) + rho.shape)
    return jnp.sum(_of_one_pair(x, y, rho), axis=-1)


@checked
def log_mean_ratio(x: chex.Array, y: chex.Array, *, rho: chex.Numeric) -> chex.Array:
    """Log of the mean of e^{f(x_i, y_j)} over all j, f as in `log_density_ratio`.

    The N × K values are never held: some rows at a time, one at least.

    Args:
      x: [N, P].
      y: [K, P].
      rho: as in `log_density_ratio`.

    Returns:
      [N], in nats.

    Raises:
      UsageError: for |ρ| ≥ 1, or shapes that do not fit.
    """
    if x.ndim != 2 or y.ndim != 2:
        raise UsageError(
            f"log_mean_ratio: expected x [N, P], y [K, P], got {x.shape}, {y.shape}"
        )
    rho = _fitting("log_mean_ratio", x, y, rho)

    # One after another: XLA would form the values of all pairs before it adds them up.
    columns, rho = y.T, jnp.broadcast_to(rho, y.shape[1:])

    def row(x):
        return jax.nn.logsumexp(sum(map(_of_one_pair, x, columns, rho)))

    at_a_time = max(TILE // len(y), 1)
    return lax.map(row, x, batch_size=at_a_time) - np.log(len(y))


class InfoNCEBound(NamedTuple):
    """InfoNCE's lower bound on I(X;Y) in nats, each estimate with its standard error.

    Attributes:
      exact: I(X;Y) − mean log mean_j e^f, the exact mean of f in place of the sample's.
      exact_error: ten to a hundred times below the other for K ≥ 1024.
      plain: log K − InfoNCE, as training sees it; never above log K.
      plain_error: the smaller one for few candidates, where f of the pair also stands
        in the sum.
    """

    exact: chex.Array
    exact_error: chex.Array
    plain: chex.Array
    plain_error: chex.Array


@checked
def info_nce_bound(
    rng: chex.PRNGKey,
    *,
    rho: chex.Numeric,
    num_candidates: int,
    num_queries: int = 256,
    repeats: int = 64,
) -> InfoNCEBound:
    """InfoNCE of the best critic (van den Oord et al. 2018, arXiv:1807.03748).

    I_NCE(K) = E[f(x, y_1) − log 1/K Σ_j e^{f(x, y_j)}], (x, y_1) a pair and the other
    y_j independent of x: at most I(X;Y) and log K, and equal to I(X;Y) as K → ∞ (Poole
    et al. 2019, arXiv:1905.06922). Only the expectation is bounded: an estimate lies
    above I(X;Y) about as often as below it once K is large.

    Args:
      rng: of the samples.
      rho: as in `pair_information`.
      num_candidates: K ≥ 2, the pair's own y among them.
      num_queries: rows x of one draw that share K candidates, at most K of them.
      repeats: independent draws, at least 2, from which the errors are.

    Returns:
      A `InfoNCEBound`. Memory is that of the K candidates and a tile of values.

    Raises:
      UsageError: for |ρ| ≥ 1, or counts too small.
    """
    rho = _correlations("info_nce_bound", rho)
    for name, count, least in (
        ("num_candidates", num_candidates, 2),
        ("num_queries", num_queries, 1),
        ("repeats", repeats, 2),
    ):
        if count < least:
            raise UsageError(
                f"info_nce_bound: {name} must be at least {least}, got {count}"
            )
    queries = min(num_queries, num_candidates)
    terms = _draws(jax.random.split(rng, repeats), rho, num_candidates, queries)
    exact, plain = pair_information(rho) - terms[:, 1], terms[:, 0] - terms[:, 1]
    root = repeats**0.5
    return InfoNCEBound(
        exact.mean(), exact.std(ddof=1) / root, plain.mean(), plain.std(ddof=1) / root
    )


@functools.partial(jax.jit, static_argnames=("candidates", "queries"))
def _draws(rngs, rho, candidates, queries):
    """[R, 2], for each key the means of f of the pairs and of log mean e^f."""

    def one(rng):
        rng_y, rng_x = jax.random.split(rng)
        y = jax.random.normal(rng_y, (candidates, len(rho)), jnp.float32)
        noise = jax.random.normal(rng_x, (queries, len(rho)), jnp.float32)
        x = rho[None] * y[:queries] + jnp.sqrt(1 - rho**2)[None] * noise
        own = log_density_ratio(x, y[:queries], rho=rho)
        return jnp.stack([own.mean(), log_mean_ratio(x, y, rho=rho).mean()])

    return lax.map(one, rngs)


def _of_one_pair(x, y, rho):
    """The log ratio, entry by entry."""
    # Written with x·y and both squares it would lose four digits at ρ = 0.99.
    rest = 1 - rho**2
    return 0.5 * (y**2 - (y - rho * x) ** 2 / rest - jnp.log(rest))


def _correlations(name, rho):
    """[P] floating correlations inside (−1, 1)."""
    if not isinstance(rho, jax.core.Tracer) and not np.all(np.abs(rho) < 1):
        raise UsageError(f"{name}: rho must be inside (-1, 1), got {rho}")
    rho = jnp.asarray(rho, float)
    if rho.ndim > 1:
        raise UsageError(f"{name}: rho must be a number or [P], got {rho.shape}")
    return jnp.atleast_1d(rho)


def _fitting(name, x, y, rho):
    """Correlations [P], or the one there is for all P pairs."""
    rho = _correlations(name, rho)
    sizes = {x.shape[-1:], y.shape[-1:]}
    if len(sizes) > 1 or () in sizes or not y.size or len(rho) not in (1, x.shape[-1]):
        raise UsageError(
            f"{name}: expected x, y [..., P] and rho a number or [P], got {x.shape}, "
            f"{y.shape}, {rho.shape}"
        )
    return jnp.broadcast_to(rho, x.shape[-1:])
