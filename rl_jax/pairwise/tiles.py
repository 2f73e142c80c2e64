"""Rows cut into tiles, the products of two tiles, and the loop over pairs of tiles."""

from collections.abc import Callable
from typing import Literal, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import AxisType

from rl_jax.errors import checked

Precision = Literal["bf16", "bf16x3", "highest"]
Parts = tuple[chex.Array, ...]
"""A matrix as the sum of one array, or of a high and a low bfloat16 part."""


class Rows(NamedTuple):
    """[N, D] rows cut into blocks of T, the last one filled up with zeros.

    Attributes:
      parts: each [blocks, T, D].
      bias: float32 [blocks, T], 0 where a row counts and −inf where it does not, or
        None where all of them count.
      number: int32 [blocks, T], the group of a row, or which of all it is; None: not
        asked.
    """

    parts: Parts
    bias: chex.Array | None
    number: chex.Array | None


@checked
def block_size_for(rows: int, platform: str) -> int:
    """Rows of a tile when none are asked for: `rows` in equal blocks of a fitting size.

    | platform | at most | because |
    |---|---|---|
    | cpu | 1,024 | a tile is 4 MiB; D = 128 and 512: 512 is slower, 2,048 no faster |
    | gpu | 8,192 | products fill the device; a tile is 256 MiB |
    | tpu | 4,096 | products fill the device; a tile is 64 MiB; not measured |

    Args:
      rows: N ≥ 1.
      platform: "cpu", "gpu" or "tpu".

    Returns:
      `rows` up to the limit: a single tile. Beyond, a multiple of 8.
    """
    limit = {"cpu": 1024, "gpu": 8192}.get(platform, 4096)
    if rows <= limit:
        return rows
    blocks = -(-rows // limit)
    return -(-rows // (8 * blocks)) * 8


def split(x: chex.Array, precision: Precision | None) -> Parts:
    """The operands whose products make up those of `x`, as `precision` says."""
    if precision is None:
        return (x,)
    if precision == "highest":
        return (x.astype(jnp.float32),)
    high = x.astype(jnp.bfloat16)
    if precision == "bf16":
        return (high,)
    return high, (x - high.astype(x.dtype)).astype(jnp.bfloat16)


def cut(
    x: chex.Array,
    size: int,
    *,
    precision: Precision | None,
    bias: chex.Array | None = None,
    number: chex.Array | None = None,
) -> Rows:
    """Cuts x [N, D] and what belongs to its rows into blocks of `size`."""
    if bias is None and len(x) % size:
        bias = jnp.zeros(len(x), jnp.float32)
    return Rows(
        tuple(blocks(part, size) for part in split(x, precision)),
        None if bias is None else blocks(bias, size, fill=-jnp.inf),
        None if number is None else blocks(number, size, fill=-2),
    )


def blocks(x: chex.Array, size: int, *, fill=0) -> chex.Array:
    """[N, ...] -> [blocks, size, ...], filled up at the end."""
    count = -(-len(x) // size)
    pad = [(0, count * size - len(x))] + [(0, 0)] * (x.ndim - 1)
    if pad[0][1]:
        x = jnp.pad(x, pad, constant_values=fill)
    return x.reshape(count, size, *x.shape[1:])


def unblock(x: chex.Array, rows: int) -> chex.Array:
    """[blocks, size, ...] -> [rows, ...], the inverse of `blocks`."""
    return x.reshape(-1, *x.shape[2:])[:rows]


def loop(body: Callable, carry, pairs: np.ndarray):
    """Folds `body(carry, i, j)` over a static list of tiles [P, 2]."""
    if len(pairs) == 1:
        return body(carry, int(pairs[0, 0]), int(pairs[0, 1]))
    steps = jnp.asarray(pairs, jnp.int32)
    if inside_shard_map():
        out = jax.eval_shape(body, carry, steps[0, 0], steps[0, 1])
        carry = varying_as(carry, out)
    return lax.scan(lambda c, ij: (body(c, ij[0], ij[1]), None), carry, steps)[0]


def diagonal(count: int) -> np.ndarray:
    """The tiles (i, i)."""
    return np.stack([np.arange(count)] * 2, 1)


def above(count: int) -> np.ndarray:
    """The tiles (i, j) with i < j."""
    return np.stack(np.triu_indices(count, 1), 1)


def grid(rows: int, columns: int) -> np.ndarray:
    """All tiles of a rectangle, row by row."""
    return np.stack(np.indices((rows, columns)), -1).reshape(-1, 2)


def at(parts: Parts, i) -> Parts:
    """Block i."""
    return tuple(part[i] for part in parts)


def product(a: Parts, b: Parts) -> chex.Array:
    """The product a b for a [T, K] and b [K, D], summed in float32.

    float32 operands are multiplied in full float32 on every platform: by itself, an
    accelerator would round them to 10 bits.
    """
    pairs = [(a[0], b[0])]
    if len(a) > 1:
        # What is left out, low times low, lies 2^-16 below.
        pairs += [(a[0], b[1]), (a[1], b[0])]
    full = lax.Precision.HIGHEST
    out = [
        jnp.dot(
            left,
            right,
            precision=full if left.dtype == jnp.float32 else None,
            preferred_element_type=jnp.float32,
        )
        for left, right in pairs
    ]
    return sum(out[1:], out[0])


def outer(a: Parts, b: Parts) -> chex.Array:
    """The product a bᵀ for a [T, D] and b [U, D]."""
    return product(a, tuple(part.T for part in b))


def weighted(w: chex.Array, x: Parts) -> chex.Array:
    """The product w x for weights float32 [T, U], rounded as x [U, D] is."""
    return product(_like(w, x), x)


def weighted_columns(w: chex.Array, x: Parts) -> chex.Array:
    """The product wᵀ x for weights float32 [T, U] and x [T, D]: float32 [U, D]."""
    w_parts = _like(w, x)
    if jax.default_backend() != "cpu":
        return product(tuple(part.T for part in w_parts), x)
    # XLA's product on CPU with a transposed left side is a third slower than xᵀ w; the
    # barriers keep the two small transpositions from being folded into it.
    barrier = lax.optimization_barrier
    transposed = barrier(tuple(part.T for part in x))
    return barrier(barrier(product(transposed, w_parts)).T)


def _like(w: chex.Array, x: Parts) -> Parts:
    if len(x) > 1:
        return split(w, "bf16x3")
    return (w.astype(x[0].dtype),)


def inside_shard_map() -> bool:
    """Whether this is traced in somebody's `shard_map`."""
    return AxisType.Manual in jax.sharding.get_abstract_mesh().axis_types


def varying(tree):
    """Inside a `shard_map`: all leaves vary over the axes that any of them does.

    Somebody's `shard_map` checks that branches, carries and gradients agree in it.
    """
    every = frozenset().union(*(_axes(jax.typeof(v)) for v in jax.tree.leaves(tree)))
    return jax.tree.map(lambda v: _vary(v, every), tree)


def varying_as(tree, like):
    """Leaves that vary over the axes of those of a tree of the same structure, too."""
    return jax.tree.map(lambda v, w: _vary(v, _axes(w)), tree, like)


def _axes(aval) -> frozenset[str]:
    axes = aval.manual_axis_type
    return frozenset() if axes is None else axes.varying


def _vary(v, axes: frozenset[str]):
    missing = tuple(axes - _axes(jax.typeof(v)))
    return lax.pcast(v, missing, to="varying") if missing else v
