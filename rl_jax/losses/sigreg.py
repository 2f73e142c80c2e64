"""SIGReg: embeddings as an isotropic Gaussian, seen from random directions."""

import math

import chex
import jax
import jax.numpy as jnp

from rl_jax.errors import UsageError, check_integer, checked
from rl_jax.losses.normalize import normalize
from rl_jax.pairwise import sharded

TILE = 2**21
"""Cosines that a device forms at a time: 8 MiB, and a few arrays of that size."""


@checked
def sigreg(
    rng: chex.PRNGKey,
    z: chex.Array,
    *,
    slices: int = 1024,
    knots: int = 17,
    t_max: float = 3.0,
) -> chex.Array:
    """Sketched isotropic Gaussian regularisation (Balestriero & LeCun 2025).

    arXiv:2511.08544. With M directions a_m, drawn evenly on the sphere, and s_bm =
    ⟨a_m, z_b⟩: the mean over m of the statistic of Epps & Pulley (1983) for N(0, 1),

      B ∫_{−T}^{T} |1/B Σ_b exp(i t s_bm) − exp(−t²/2)|² exp(−t²/2) dt,

    by the trapezoidal rule. The integrand is even: knots lie in [0, T] and count twice.
    For rows drawn from N(0, I) it is 1.05 on average, whatever B; of any other
    distribution it grows with B. The characteristic function is that of the whole
    batch, however it is shared out over devices; directions are the same on all.

    Cosines are formed anew for the gradient, of a few directions at a time: memory
    grows with B·V·D, not with the B·V·M·K numbers of all of them.

    Args:
      rng: of the directions; a fresh one each step.
      z: [B, D] embeddings, raw: what is tested is their scale too. Or [B, V, D], V
        views: each is tested by itself, in the same directions, and the mean is taken.
        float32 here.
      slices: M ≥ 1; the paper's listing has 256, its experiments 1024.
      knots: K ≥ 2 values of t from 0 to T, both ends among them.
      t_max: T > 0. The authors' code has 17 knots to 3, the paper's listing 17 from −5
        to 5: knots=9, t_max=5. For |s| < 5 the integral over the whole axis is within
        1e-5 of its value at knots=17, t_max=5.

    Returns:
      Scalar float32 ≥ 0.

    Raises:
      UsageError: for values out of range, or shapes other than [B, D] and [B, V, D].
    """
    _check(z, slices, knots, t_max)
    z = z.astype(jnp.float32).reshape(len(z), -1, z.shape[-1])
    directions = normalize(jax.random.normal(rng, (slices, z.shape[-1])))
    # At t = 0 both characteristic functions are 1.
    t = jnp.linspace(0.0, t_max, knots)[None, None, 1:]
    gaussian = jnp.exp(-t * t / 2)
    weight = (2 * t_max / (knots - 1) * gaussian).at[..., -1].divide(2)

    # Else the gradient would keep the cosines of every direction.
    @jax.checkpoint
    def statistic(directions):
        s = jnp.einsum("bvd,md->bvm", z, directions, precision="highest")
        angle = s[..., None] * t[None]
        real, imaginary = jnp.cos(angle).mean(0), jnp.sin(angle).mean(0)
        distance = jnp.square(real - gaussian) + jnp.square(imaginary)
        return len(z) * jnp.sum(weight * distance, -1).mean(0)

    block, blocks = _blocks(z, slices, knots)
    directions = jnp.pad(directions, ((0, blocks * block - slices), (0, 0)))
    found = jax.lax.map(statistic, directions.reshape(blocks, block, -1))
    return jnp.mean(found.reshape(-1)[:slices])


def _blocks(z: chex.Array, slices: int, knots: int) -> tuple[int, int]:
    """Directions looked at together, and how often: as few equal blocks as fit."""
    rows = math.ceil(len(z) / sharded.devices()) * z.shape[1]
    blocks = math.ceil(slices / max(1, TILE // (rows * knots)))
    return math.ceil(slices / blocks), blocks


def _check(z: chex.Array, slices: int, knots: int, t_max: float) -> None:
    if z.ndim not in (2, 3) or not math.prod(z.shape):
        raise UsageError(f"sigreg: expected z [B, D] or [B, V, D], got {z.shape}")
    if not jnp.issubdtype(z.dtype, jnp.floating):
        raise UsageError(
            f"sigreg: embeddings must be floating, float32 say, got {z.dtype}"
        )
    sharded.check_axes("sigreg", z)
    for name, value, least in (("slices", slices, 1), ("knots", knots, 2)):
        check_integer(f"sigreg: {name}", value)
        if value < least:
            raise UsageError(f"sigreg: {name} must be at least {least}, got {value}")
    if not 0 < t_max < math.inf:
        raise UsageError(f"sigreg: t_max must be > 0 and finite, got {t_max}")
