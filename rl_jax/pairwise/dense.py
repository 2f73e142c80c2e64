"""The same quantities with the whole matrix in memory: the reference, by autodiff."""

import chex
import jax.numpy as jnp
from jax import lax

from rl_jax.pairwise import streaming


def logsumexp(x, y, *, scale, valid, exclude, both: bool, precision) -> chex.Array:
    """As `pairwise.logsumexp`, forming S [N, M]; memory N·M·4 bytes."""
    other = x if y is None else y
    s = streaming.dot(x, other.T, precision) * scale
    column = lax.broadcasted_iota(jnp.int32, s.shape, 1)
    out = jnp.zeros(s.shape, bool)
    if y is None:
        out |= jnp.eye(len(x), dtype=bool)
    if valid is not None:
        out |= column >= valid
    if exclude is not None:
        out |= column == exclude[:, None]
    s = jnp.where(out, -jnp.inf, s)
    rows = _logsumexp(s, 1)
    return (rows, _logsumexp(s, 0)) if both else rows


def _logsumexp(s: chex.Array, axis: int) -> chex.Array:
    """As `jax.nn.logsumexp`, with a zero gradient where everything is −inf."""
    peak = lax.stop_gradient(s.max(axis, keepdims=True))
    empty = jnp.isneginf(peak)
    total = jnp.exp(s - jnp.where(empty, 0.0, peak)).sum(axis, keepdims=True)
    value = jnp.log(jnp.where(empty, 1.0, total)) + peak
    return jnp.squeeze(value, axis)
