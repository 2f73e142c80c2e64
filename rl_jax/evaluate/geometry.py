"""How far an embedding fills its space, and whether it has collapsed."""

import chex
import jax
import jax.numpy as jnp
import numpy as np

from rl_jax import verdicts
from rl_jax.errors import UsageError, checked
from rl_jax.evaluate.directions import unit_rows


@checked
@jax.jit
def rank_me(z: chex.Array) -> chex.Array:
    """RankMe, a smooth rank (Garrido et al. 2023, arXiv:2210.02885): exp H(σ/‖σ‖₁).

    σ are the singular values of the matrix as it is, neither centred nor normalised,
    and H(p) = −Σ p log p.

    Args:
      z: [n, D] embeddings of any float dtype.

    Returns:
      Scalar float32 in [1, min(n, D)]; 1 when all rows are parallel or zero. NaN where
      z holds NaN or inf.

    Raises:
      UsageError: not [n, D], or empty.
    """
    z = _over_largest(_matrix("rank_me", z))
    s = _singular(z)
    p = s / jnp.maximum(s.sum(), jnp.finfo(jnp.float32).tiny)
    return jnp.exp(jax.scipy.special.entr(p).sum())


@checked
@jax.jit
def effective_rank(z: chex.Array) -> chex.Array:
    """Effective rank of the covariance (Roy & Vetterli 2007, EUSIPCO): exp H(λ/Σλ).

    λ are the eigenvalues of the covariance and H(p) = −Σ p log p. Where `rank_me` has
    the singular values of the matrix as it is, this has the squares of those of the
    centred one: small directions and the mean count for less.

    Args:
      z: [n, D] embeddings of any float dtype.

    Returns:
      Scalar float32 in [1, min(n − 1, D)]: D where all directions spread the same, 1
      when all rows are on one line, or equal. NaN where z holds NaN or inf.

    Raises:
      UsageError: not [n, D], or empty.
    """
    z = _over_largest(_matrix("effective_rank", z))
    z = _over_largest(z - z.mean(0, keepdims=True))
    variance = jnp.square(_singular(z))
    p = variance / jnp.maximum(variance.sum(), jnp.finfo(jnp.float32).tiny)
    return jnp.exp(jax.scipy.special.entr(p).sum())


def _singular(z: chex.Array) -> chex.Array:
    """Singular values; the sides are not wanted, and full ones would be n × n."""
    return jnp.linalg.svd(z, full_matrices=False, compute_uv=False)


@checked
@jax.jit
def normalized_std(z: chex.Array) -> chex.Array:
    """The collapse meter (Chen & He 2021, arXiv:2011.10566): √D · mean_d std(z/‖z‖)_d.

    Args:
      z: [n, D] embeddings; rows are normalised here, in float32.

    Returns:
      Scalar float32 in [0, 1]: 0 when collapsed to a point, 1 for the uniform
      distribution on the sphere. Features behind a ReLU stay below 1: their mean is
      not zero. NaN where z holds NaN.

    Raises:
      UsageError: not [n, D], or empty.
    """
    spread = jnp.std(unit_rows(_matrix("normalized_std", z)), axis=0)
    return jnp.sqrt(jnp.float32(spread.size)) * spread.mean()


@checked
def collapse_verdict(z: chex.Array) -> str:
    """One plain sentence: is this embedding collapsed?

    By `normalized_std`: up to 0.2 collapsed, from 0.6 on healthy.

    Args:
      z: [n, D] embeddings, n >= 2.

    Returns:
      For instance "collapsed: std 0.002, expected 0.088 for D=128"; of NaN or inf "not
      finite: …".

    Raises:
      UsageError: not [n, D] with two rows or more.
    """
    z = np.asarray(z)
    if z.ndim != 2 or len(z) < 2:
        raise UsageError(
            f"collapse_verdict: expected [n, D] with n >= 2, got {z.shape}"
        )
    if not np.isfinite(z.astype(np.float32)).all():
        return "not finite: the embedding holds NaN or inf"
    return verdicts.spread(float(normalized_std(jnp.asarray(z))), z.shape[1])


def _matrix(function: str, z: chex.Array) -> chex.Array:
    if z.ndim != 2 or not z.size:
        raise UsageError(f"{function}: expected [n, D], not empty, got {z.shape}")
    return z.astype(jnp.float32)


def _over_largest(z: chex.Array) -> chex.Array:
    """Over the largest size, which changes no ratio, so that no sum overflows."""
    largest = jnp.maximum(jnp.abs(z).max(), jnp.finfo(jnp.float32).tiny)
    # One over the largest floats is no normal float.
    return z * jax.lax.rsqrt(largest) * jax.lax.rsqrt(largest)
