"""How decided the softmax of a contrastive loss is: what shows a wrong temperature."""

import chex
import jax
import jax.numpy as jnp

from rl_jax.losses import normalize

MOST_PAIRS = 2**20
"""Logits formed at most: a few milliseconds on two cores, 4 MiB."""
MOST_ROWS = 256


def sharpness(
    query: chex.Array,
    candidates: chex.Array,
    *,
    scale: chex.Numeric,
    own: chex.Array | None = None,
    valid: chex.Numeric | None = None,
    exclude_self: bool = False,
) -> dict[str, chex.Array]:
    """Metrics of softmax(s·cosines) (Wang & Liu 2021, arXiv:2012.09740), no gradient.

    Of all K candidates, over the first rows only: 256, or fewer where the candidates
    are many, so that at most 2^20 logits are formed.

    Args:
      query: [B, D]; normalised here, in float32.
      candidates: [K, D] of unit length; of other lengths where `own` is None, then
        normalised here.
      scale: s = 1/τ.
      own: [B, D], one more candidate of each query; normalised here.
      valid: how many leading candidates count; None: all.
      exclude_self: query i is candidate i, which does not count.

    Returns:
      `softmax_entropy`, the mean entropy as a share of log K, in [0, 1]; 0 where there
      is one candidate. `max_softmax`, the mean of the largest probability.
    """
    rows = max(1, min(MOST_ROWS, MOST_PAIRS // len(candidates), len(query)))
    query, candidates = (
        jnp.asarray(jax.lax.stop_gradient(x), jnp.float32) for x in (query, candidates)
    )
    query = normalize(query[:rows])
    if own is None:
        candidates = normalize(candidates)
    # Not in the 16 or 19 bits that a GPU or TPU may take by default.
    logits = scale * jnp.matmul(query, candidates.T, precision="highest")
    place = jnp.arange(len(candidates))[None]
    count = jnp.asarray(len(candidates) if valid is None else valid, jnp.float32)
    if valid is not None:
        logits = jnp.where(place < valid, logits, -jnp.inf)
    if exclude_self:
        logits = jnp.where(place == jnp.arange(rows)[:, None], -jnp.inf, logits)
        count -= 1
    if own is not None:
        own = normalize(jax.lax.stop_gradient(own)[:rows])
        first = scale * jnp.sum(query * own, axis=1, keepdims=True)
        logits = jnp.concatenate([first, logits], axis=1)
        count += 1
    p = jax.lax.stop_gradient(jax.nn.softmax(logits, axis=1))
    entropy = jnp.mean(jnp.sum(jax.scipy.special.entr(p), axis=1))
    # One candidate leaves nothing to decide.
    share = jnp.where(count > 1, entropy / jnp.log(jnp.maximum(count, 2.0)), 0.0)
    return {"softmax_entropy": share, "max_softmax": jnp.mean(jnp.max(p, axis=1))}
