"""Largest inner products of each query with a bank, without the similarity matrix."""

import functools

import chex
import jax
import jax.numpy as jnp
from jax import lax

from rl_jax.errors import UsageError
from rl_jax.pairwise import tiles
from rl_jax.pairwise.tiles import block_size_for


def top_k(
    query: chex.Array,
    bank: chex.Array,
    *,
    k: int,
    valid: chex.Numeric | None = None,
    exclude: chex.Array | None = None,
    block_size: int | None = None,
) -> tuple[chex.Array, chex.Array]:
    """The k rows of a bank with the largest inner product, for each query.

    scores_i = the k largest ⟨query_i, bank_j⟩ over j < valid, j ≠ exclude_i, in
    decreasing order. A running top k is merged with one tile of products after another,
    so memory is one tile; the result is that of sorting the whole row.

    Args:
      query: [Q, D] of any float dtype, as it is: nothing is normalised here.
      bank: [n, D] of any float dtype; products are formed in full float32.
      k: in [1, n].
      valid: count of leading bank rows that take part; what lies behind them, NaN
        included, has no influence. None: all.
      exclude: int32 [Q], for each query one bank row to leave out, -1 for none.
      block_size: rows of query and of bank in a tile; None: see `block_size_for`.

    Returns:
      `(scores, indices)`, float32 and int32 [Q, k]. Equal scores: the lower index comes
      first. Where fewer than k rows take part, the rest is −inf with index −1.

    Raises:
      UsageError: k out of range, or shapes that do not fit together.
    """
    _check(query, bank, k, exclude, block_size)
    if exclude is None:
        exclude = jnp.full(query.shape[:1], -1, jnp.int32)
    rows, columns = (_tile(x, block_size) for x in (query, bank))
    return _top_k(query, bank, valid, exclude, k=k, rows=rows, columns=columns)


@functools.partial(jax.jit, static_argnames=("k", "rows", "columns"))
def _top_k(query, bank, valid, exclude, *, k: int, rows: int, columns: int):
    banks = _blocks(bank, columns)
    starts = jnp.arange(len(banks), dtype=jnp.int32) * columns
    last = len(bank) if valid is None else jnp.minimum(valid, len(bank))

    def block(operands):
        queries, out = operands

        def merge(best, tile):
            rows_of_tile, start = tile
            scores = tiles.outer((queries,), (rows_of_tile,))
            index = start + lax.broadcasted_iota(jnp.int32, scores.shape, 1)
            counts = (index < last) & (index != out[:, None])
            scores = jnp.where(counts, scores, -jnp.inf)
            # What was found before stands in front: `lax.top_k` keeps the first of
            # equals, hence the lower index, and the −1 of `empty` before a masked row.
            scores = jnp.concatenate([best[0], scores], axis=1)
            index = jnp.concatenate([best[1], index], axis=1)
            scores, place = lax.top_k(scores, k)
            return (scores, jnp.take_along_axis(index, place, axis=1)), None

        empty = (
            jnp.full((len(queries), k), -jnp.inf, jnp.float32),
            jnp.full((len(queries), k), -1, jnp.int32),
        )
        return lax.scan(merge, empty, (banks, starts))[0]

    found = lax.map(block, (_blocks(query, rows), _blocks(exclude, rows)))
    scores, index = (v.reshape(-1, k)[: len(query)] for v in found)
    return scores, index


def _tile(x, block_size: int | None) -> int:
    default = block_size_for(len(x), x.shape[1], jax.default_backend())
    return min(block_size or min(default, 512), len(x))


def _blocks(x, size: int):
    """[N, ...] -> [blocks, size, ...], padded with zeros."""
    count = -(-len(x) // size)
    pad = [(0, count * size - len(x))] + [(0, 0)] * (x.ndim - 1)
    return jnp.pad(x, pad).reshape(count, size, *x.shape[1:])


def _check(query, bank, k, exclude, block_size):
    shapes = f"query {query.shape} and bank {bank.shape}"
    if query.ndim != 2 or bank.ndim != 2 or query.shape[1] != bank.shape[1]:
        raise UsageError(f"top_k: expected [Q, D] and [n, D], got {shapes}")
    if not len(query):
        raise UsageError(f"top_k: there must be at least one query, got {shapes}")
    if not 1 <= k <= len(bank):
        raise UsageError(
            f"top_k: k must be in [1, {len(bank)}], the size of the bank, got {k}"
        )
    if exclude is not None and exclude.shape != (len(query),):
        raise UsageError(
            f"top_k: exclude must be [{len(query)}], one bank row for each query, "
            f"got {exclude.shape}"
        )
    if block_size is not None and block_size < 1:
        raise UsageError(f"top_k: block_size must be >= 1, got {block_size}")
