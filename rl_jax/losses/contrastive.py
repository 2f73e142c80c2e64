"""Losses over all pairs of a batch; the pairs are streamed, never held."""

import chex
import jax
import jax.numpy as jnp
from jax import lax

from rl_jax import pairwise
from rl_jax.errors import UsageError
from rl_jax.losses.normalize import normalize


def nt_xent(a: chex.Array, b: chex.Array, *, temperature: chex.Numeric) -> chex.Array:
    """Normalised temperature-scaled cross-entropy (Chen et al. 2020, arXiv:2002.05709).

    Over the N = 2B views z, with s_ij = ⟨z_i, z_j⟩/τ and p(i) the other view of i's
    example: mean_i [log Σ_{j≠i} exp(s_ij) − s_{i,p(i)}]. The mean over all 2B views;
    the authors' code sums the two directions and is twice this.

    Args:
      a, b: [B, D] embeddings of the two views; normalised here, in float32.
      temperature: τ > 0, a float or a scalar array; differentiable.

    Returns:
      Scalar float32 in [0, log(2B − 1) + 2/τ]; log(2B − 1) when all views are equal.

    Raises:
      UsageError: for a temperature ≤ 0 or shapes other than [B, D] twice.
    """
    _check_pair("nt_xent", a, b)
    scale = _scale("nt_xent", temperature)
    a, b = normalize(a), normalize(b)
    # Interleaved, so that a batch shared out over devices needs no exchange.
    views = jnp.stack([a, b], axis=1).reshape(-1, a.shape[1])
    lse = pairwise.logsumexp(views, scale=scale, max_norm=1.0).reshape(-1, 2)
    positive = scale * jnp.sum(a * b, axis=1, keepdims=True)
    # Row by row: the means of both are large, their difference is not.
    return jnp.mean(lse - positive)


def info_nce(
    query: chex.Array,
    key: chex.Array,
    negatives: chex.Array | None = None,
    *,
    temperature: chex.Numeric,
    valid: chex.Numeric | None = None,
) -> chex.Array:
    """InfoNCE (van den Oord et al. 2018, arXiv:1807.03748).

    mean_i [log Σ_j exp(⟨q_i, c_j⟩/τ) − ⟨q_i, k_i⟩/τ]. Without `negatives` the
    candidates c are the keys of the batch, i's own among them; with them, i's own key
    and `negatives[:valid]` (He et al. 2020, arXiv:1911.05722).

    Args:
      query, key: [B, D], positives in the same row; normalised here, in float32.
      negatives: [K, D] or None; normalised here. Nothing is stopped: stop the gradient
        of keys and negatives where the method asks for it.
      temperature: τ > 0, a float or a scalar array; differentiable.
      valid: count of leading rows of `negatives` that take part, None for all.

    Returns:
      Scalar float32 ≥ 0; log(number of candidates) − it is a lower bound on the mutual
      information of query and key, in nats, in expectation.

    Raises:
      UsageError: for a temperature ≤ 0 or shapes that do not fit.
    """
    _check_pair("info_nce", query, key)
    scale = _scale("info_nce", temperature)
    query, key = normalize(query), normalize(key)
    positive = scale * jnp.sum(query * key, axis=1)
    if negatives is None:
        if valid is not None:
            raise UsageError("info_nce: valid counts negatives, but none were given")
        lse = pairwise.logsumexp(query, key, scale=scale, max_norm=1.0)
        return jnp.mean(lse - positive)
    if negatives.ndim != 2 or negatives.shape[1] != query.shape[1]:
        raise UsageError(
            f"info_nce: expected negatives [K, {query.shape[1]}], got {negatives.shape}"
        )
    if valid is not None:
        # Before normalising: what an unfilled slot holds must not reach a gradient.
        filled = jnp.arange(len(negatives)) < valid
        negatives = jnp.where(filled[:, None], negatives, 0)
    others = pairwise.logsumexp(
        query, normalize(negatives), scale=scale, valid=valid, max_norm=1.0
    )
    return jnp.mean(jnp.logaddexp(positive, others) - positive)


def alignment(a: chex.Array, b: chex.Array, *, alpha: float = 2.0) -> chex.Array:
    """Mean distance E ‖a − b‖^α of positives (Wang & Isola 2020, arXiv:2005.10242).

    Args:
      a, b: [B, D] embeddings of the two views; normalised here, in float32.
      alpha: exponent, > 0.

    Returns:
      Scalar float32 in [0, 2^alpha]; 0 when the encoder is invariant to the views.

    Raises:
      UsageError: for alpha ≤ 0 or shapes other than [B, D] twice.
    """
    _check_pair("alignment", a, b)
    if alpha <= 0:
        raise UsageError(f"alignment: alpha must be > 0, got {alpha}")
    square = jnp.sum(jnp.square(normalize(a) - normalize(b)), axis=1)
    if alpha == 2:
        return jnp.mean(square)
    # The root has no gradient at 0: equal rows count as 0 with gradient 0.
    apart = square > 0
    return jnp.mean(jnp.where(apart, jnp.where(apart, square, 1.0) ** (alpha / 2), 0.0))


def uniformity(z: chex.Array, *, t: float = 2.0) -> chex.Array:
    """Log mean Gaussian potential of all pairs (Wang & Isola 2020, arXiv:2005.10242).

    log 1/(N(N−1)) Σ_{i≠j} exp(−t ‖z_i − z_j‖²); on unit rows ‖z_i − z_j‖² is
    2 − 2⟨z_i, z_j⟩, which makes it a log-sum-exp over pairs.

    Args:
      z: [N, D] embeddings, N ≥ 2; normalised here, in float32. No zero rows.
      t: inverse width, > 0.

    Returns:
      Scalar float32 in [−4t, 0]; 0 when all rows are equal, lower when they spread.

    Raises:
      UsageError: for t ≤ 0, N < 2 or a rank other than 2.
    """
    if z.ndim != 2 or len(z) < 2:
        raise UsageError(f"uniformity: expected [N, D] with N >= 2, got {z.shape}")
    if t <= 0:
        raise UsageError(f"uniformity: t must be > 0, got {t}")
    lse = pairwise.logsumexp(normalize(z), scale=2.0 * t, max_norm=1.0)
    pairs = len(z) * (len(z) - 1)
    return jax.nn.logsumexp(lse) - 2.0 * t - jnp.log(float(pairs))


def _check_pair(name: str, a: chex.Array, b: chex.Array) -> None:
    if a.ndim != 2 or a.shape != b.shape:
        raise UsageError(
            f"{name}: expected two [B, D] arrays, got {a.shape}, {b.shape}"
        )


def _scale(name: str, temperature: chex.Numeric) -> chex.Numeric:
    """1/τ, checked where τ has a value; a traced τ cannot be."""
    if not isinstance(temperature, jax.core.Tracer) and not (temperature > 0):
        raise UsageError(f"{name}: temperature must be > 0, got {temperature}")
    if isinstance(temperature, int | float):
        return 1.0 / temperature
    return lax.reciprocal(jnp.asarray(temperature, jnp.float32))
