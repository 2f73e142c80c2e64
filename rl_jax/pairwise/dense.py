"""The same quantities with the whole matrix in memory: the reference, by autodiff."""

import chex
import jax
import jax.numpy as jnp
from jax import lax

from rl_jax.pairwise import tiles
from rl_jax.pairwise.streaming import Operands


def values(given: Operands, *, kind: str, both: bool, precision):
    """As `streaming.values`, forming S [N, M]; memory N·M·4 bytes."""
    x = tiles.split(given.x, precision)
    y = x if given.y is None else tiles.split(given.y, precision)
    s = tiles.outer(x, y) * given.scale
    if given.offset is not None:
        s += given.offset
    if given.bias is not None:
        s += given.bias[None]
    if given.exclude is not None:
        group = jnp.arange(s.shape[1]) if given.group is None else given.group
        s = jnp.where(group[None] == given.exclude[:, None], -jnp.inf, s)
    if given.y is None:
        s = jnp.where(jnp.eye(len(s), dtype=bool), -jnp.inf, s)
    reduced = _softplus if kind == "softplus" else _logsumexp
    rows = reduced(s, 1)
    return (rows, reduced(s, 0)) if both else rows


def _softplus(s: chex.Array, axis: int) -> chex.Array:
    out = jnp.isneginf(s)
    return jnp.where(out, 0.0, jax.nn.softplus(jnp.where(out, 0.0, s))).sum(axis)


def _logsumexp(s: chex.Array, axis: int) -> chex.Array:
    """As `jax.nn.logsumexp`, with a zero gradient where everything is −inf."""
    peak = lax.stop_gradient(s.max(axis, keepdims=True))
    empty = jnp.isneginf(peak)
    total = jnp.exp(s - jnp.where(empty, 0.0, peak)).sum(axis, keepdims=True)
    value = jnp.log(jnp.where(empty, 1.0, total)) + peak
    return jnp.squeeze(value, axis)
