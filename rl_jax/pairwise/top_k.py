"""Largest inner products of each query with a bank, without the similarity matrix."""

import functools

import chex
import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import PartitionSpec

from rl_jax.errors import UsageError, check_integer, checked
from rl_jax.pairwise import sharded, tiles

FEW = 32
"""As many k as are found faster in more rows than in more columns."""


@checked
def top_k(
    query: chex.Array,
    bank: chex.Array,
    *,
    k: int,
    valid: chex.Numeric | None = None,
    exclude: chex.Array | None = None,
    bank_scale: chex.Array | None = None,
    block_size: int | None = None,
) -> tuple[chex.Array, chex.Array]:
    """The k rows of a bank with the largest inner product, for each query.

    scores_i = the k largest ⟨query_i, bank_j⟩ over j < valid, j ≠ exclude_i, in
    decreasing order. A running top k is merged with one tile of products after another,
    so memory is one tile; the result is that of sorting the whole row. Inside
    `jax.set_mesh(mesh)` with a `data` axis the queries are shared out over its devices,
    where they divide evenly; each holds the whole bank.

    Args:
      query: [Q, D] of any float dtype, as it is: nothing is normalised here.
      bank: [n, D] of any float dtype; products are formed in full float32.
      k: in [1, n].
      valid: count of leading bank rows that take part; what lies behind them, NaN
        included, has no influence. None: all.
      exclude: int32 [Q], for each query one bank row to leave out, -1 for none.
      bank_scale: float32 [n], what each bank row is multiplied by, without a copy of
        the bank: one over its length for cosines with unit queries. None: 1.
      block_size: rows of query and of bank in a tile; None: see `_tile`.

    Returns:
      `(scores, indices)`, float32 and int32 [Q, k]. Equal scores: the lower index comes
      first. Where fewer than k rows take part, the rest is −inf with index −1.

    Raises:
      UsageError: k out of range, or shapes that do not fit together.
    """
    _check(query, bank, k, exclude, bank_scale, block_size)
    every = exclude is None and valid is None
    if exclude is None:
        exclude = jnp.full(query.shape[:1], -1, jnp.int32)
    last = len(bank) if valid is None else jnp.minimum(valid, len(bank))
    last = jnp.asarray(last, jnp.int32)
    count = sharded.devices()
    if count == 1 or len(query) % count:
        count = 1
    rows, columns = _tile(query, bank, k, block_size, count)
    sizes = {"k": k, "rows": rows, "columns": columns, "every": every}
    return _on_devices(query, bank, last, exclude, bank_scale, count=count, **sizes)


@functools.partial(jax.jit, static_argnames=("count", "k", "rows", "columns", "every"))
def _on_devices(query, bank, last, exclude, scale, *, count: int, **sizes):
    run = functools.partial(_top_k, **sizes)
    if count > 1:
        mine, everywhere = PartitionSpec(sharded.AXIS), PartitionSpec()
        run = jax.shard_map(
            run,
            in_specs=(mine, everywhere, everywhere, mine, everywhere),
            out_specs=(mine, mine),
            axis_names={sharded.AXIS},
            check_vma=False,
        )
    return run(query, bank, last, exclude, scale)


def _top_k(
    query, bank, last, exclude, scale, *, k: int, rows: int, columns: int, every: bool
):
    query, bank, last, exclude, scale = tiles.varying(
        (query, bank, last, exclude, scale)
    )
    query, bank = (tiles.split(x, "highest") for x in (query, bank))
    count = len(bank[0])
    starts = jnp.arange(-(-count // columns), dtype=jnp.int32) * columns

    def block(operands):
        queries, out = operands

        def merge(best, wanted, *, every: bool = False):
            # Where the last tile would reach beyond the bank it starts earlier: rows
            # that it has in common with the one before do not count again.
            start = jnp.minimum(wanted, count - columns)
            tile = [lax.dynamic_slice_in_dim(b, start, columns) for b in bank]
            if scale is not None:
                factor = lax.dynamic_slice_in_dim(scale, start, columns)
                tile = [b * factor[:, None] for b in tile]
            scores = tiles.outer(queries, tuple(tile))
            if not every:
                index = start + lax.broadcasted_iota(jnp.int32, scores.shape, 1)
                counts = (wanted <= index) & (index < last) & (index != out[:, None])
                scores = jnp.where(counts, scores, -jnp.inf)
            scores, place = lax.top_k(scores, min(k, columns))
            index = jnp.where(jnp.isneginf(scores), -1, start + place)
            # What was found before stands in front: `lax.top_k` keeps the first of
            # equals, hence the lower index.
            scores = jnp.concatenate([best[0], scores], axis=1)
            index = jnp.concatenate([best[1], index], axis=1)
            scores, place = lax.top_k(scores, k)
            return (scores, jnp.take_along_axis(index, place, axis=1)), None

        empty = (
            jnp.full((rows, k), -jnp.inf, jnp.float32),
            jnp.full((rows, k), -1, jnp.int32),
        )
        empty = tiles.varying_as(empty, (jax.typeof(out), jax.typeof(out)))
        if not every:
            return lax.scan(merge, empty, starts)[0]
        # To look at each number of a column takes as long as the search, and only the
        # last tile has rows that do not count.
        best, _ = lax.scan(functools.partial(merge, every=True), empty, starts[:-1])
        return merge(best, starts[-1])[0]

    queries = tuple(tiles.blocks(part, rows) for part in query)
    found = lax.map(block, (queries, tiles.blocks(exclude, rows)))
    scores, index = (tiles.unblock(v, len(exclude)) for v in found)
    return scores, index


def _tile(query, bank, k: int, block_size: int | None, count: int) -> tuple[int, int]:
    """Rows and columns of a tile.

    On CPU 8 MiB, and wide: a search starts anew with every tile and finds most of its k
    there. With fewer rows the products take longer, which for few k is more. The rows
    of the bank in a tile, which are copied, are at most 8 or 16 MiB.
    """
    queries, dim = len(query) // count, query.shape[1]
    if block_size is not None:
        return min(block_size, queries), min(block_size, len(bank))
    rows, columns = 512, 512  # on accelerators not measured
    if jax.default_backend() == "cpu":
        widest, copied = (8192, 2**21) if k <= FEW else (32768, 2**22)
        columns = min(widest, max(2048, copied // dim))
        rows = 2**21 // columns
    return _even(queries, rows), _even(len(bank), columns)


def _even(count: int, limit: int) -> int:
    """As few equal blocks as possible, beyond one a multiple of 8."""
    if count <= limit:
        return count
    return -(-count // (8 * -(-count // limit))) * 8


def _check(query, bank, k, exclude, bank_scale, block_size):
    shapes = f"query {query.shape} and bank {bank.shape}"
    for x in (query, bank):
        if not jnp.issubdtype(x.dtype, jnp.floating):
            raise UsageError(f"top_k: rows must be floating, got {x.dtype}")
    if query.ndim != 2 or bank.ndim != 2 or query.shape[1] != bank.shape[1]:
        raise UsageError(f"top_k: expected [Q, D] and [n, D], got {shapes}")
    if not len(query):
        raise UsageError(f"top_k: there must be at least one query, got {shapes}")
    check_integer("top_k: k", k)
    if not 1 <= k <= len(bank):
        raise UsageError(
            f"top_k: k must be in [1, {len(bank)}], the size of the bank, got {k}"
        )
    if exclude is not None and exclude.shape != (len(query),):
        raise UsageError(
            f"top_k: exclude must be [{len(query)}], one bank row for each query, "
            f"got {exclude.shape}"
        )
    if bank_scale is not None and bank_scale.shape != (len(bank),):
        raise UsageError(
            f"top_k: bank_scale must be [{len(bank)}], one for each bank row, got "
            f"{bank_scale.shape}"
        )
    if block_size is not None:
        check_integer("top_k: block_size", block_size)
        if block_size < 1:
            raise UsageError(f"top_k: block_size must be >= 1, got {block_size}")
