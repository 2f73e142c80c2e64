"""Log-sum-exp over pairs of rows, tile by tile: the XLA path on one device.

Two shapes of work, each with its forward and its backward:

  triangle   self pairs of z [N, D] without the diagonal. S = scale·z zᵀ is symmetric,
             so only tiles with I ≤ J are formed: each adds its row sums to block I and
             its column sums to block J.
  rectangle  rows of x [N, D] against rows of y [M, D].

A tile of S is formed, reduced and forgotten; the backward forms it again. With
E = exp(S − c), l = E·1 and a = g/l, the gradient is one product with the weights
W_ij = E_ij (a_i + b_j), so both directions cost one exponential per pair.

The shift c is a constant where that is provably safe (`safe_shift`): no maximum has to
be found first. Otherwise `shift=None` selects a running maximum.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

# float32 normals span exp(±87); the rest is head-room for the cotangent in a = g/l.
_LOG_RANGE = 80.0


class Tiles(NamedTuple):
    """How to cut the work: rows of a tile, its columns, precision of the products."""

    rows: int
    columns: int
    precision: str | None


def safe_shift(bound, columns: int):
    """A constant shift for logits in [−bound, bound], and whether it is safe.

    Up to 2·bound = 80 the shift is the bound itself (least rounding). Beyond, it is
    centred so that a sum of `columns` terms stays below e^80 and its smallest term
    above e^−80, which holds while 2·bound ≤ 160 − log(columns): temperature ≥ 0.0138
    for unit rows and two million columns.

    Args:
      bound: largest possible |logit|, a float or a scalar array.
      columns: number of terms in a sum.

    Returns:
      `(shift, safe)`, of the type of `bound`.
    """
    room = _LOG_RANGE - math.log(max(columns, 1))
    where = jnp.where if isinstance(bound, jax.Array) else _where
    shift = where(2 * bound <= _LOG_RANGE, bound, bound - room)
    return shift, 2 * bound <= _LOG_RANGE + room


def _where(condition, x, y):
    return x if condition else y


def dot(a: chex.Array, b: chex.Array, precision: str | None) -> chex.Array:
    """`a @ b` accumulated in float32: operands as they are, or as `precision` says."""
    if precision == "highest":
        f32 = jnp.float32
        return jnp.dot(a.astype(f32), b.astype(f32), precision=lax.Precision.HIGHEST)
    if precision is None:
        return jnp.dot(a, b.astype(a.dtype), preferred_element_type=jnp.float32)
    high = [v.astype(jnp.bfloat16) for v in (a, b)]
    product = jnp.dot(*high, preferred_element_type=jnp.float32)
    if precision == "bf16x3":
        low = [
            (v - h.astype(v.dtype)).astype(jnp.bfloat16)
            for v, h in zip((a, b), high, strict=True)
        ]
        for left, right in ((high[0], low[1]), (low[0], high[1])):
            product += jnp.dot(left, right, preferred_element_type=jnp.float32)
    return product


def _blocks(x: chex.Array, size: int) -> chex.Array:
    """[N, ...] -> [blocks, size, ...], padded with zeros."""
    count = -(-x.shape[0] // size)
    pad = [(0, count * size - x.shape[0])] + [(0, 0)] * (x.ndim - 1)
    return jnp.pad(x, pad).reshape(count, size, *x.shape[1:])


def _unblock(blocks: chex.Array, size: int) -> chex.Array:
    return blocks.reshape(-1, *blocks.shape[2:])[:size]


def _loop(body: Callable, carry, pairs: np.ndarray):
    """Folds `body(carry, i, j)` over the static list of tile indices [P, 2]."""
    if len(pairs) == 1:
        return body(carry, int(pairs[0, 0]), int(pairs[0, 1]))
    steps = jnp.asarray(pairs, jnp.int32)
    return lax.scan(lambda c, ij: (body(c, ij[0], ij[1]), None), carry, steps)[0]


class _Sums(NamedTuple):
    """A running log-sum-exp per row: Σ exp(s − shift), and the shift."""

    total: chex.Array
    shift: chex.Array


def _empty_sums(blocks: int, size: int, shift) -> _Sums:
    start = -jnp.inf if shift is None else shift
    zeros = jnp.zeros((blocks, size), jnp.float32)
    return _Sums(zeros, zeros + start)


def _finite(x):
    return jnp.where(jnp.isfinite(x), x, 0.0)


def _add(sums: _Sums, i, s: chex.Array, *, axis: int) -> _Sums:
    """Adds Σ exp(s) over `axis` to block `i`, moving its maximum."""
    old = sums.shift[i]
    new = jnp.maximum(old, s.max(axis))
    base = _finite(new)  # −inf while nothing has been counted
    total = sums.total[i] * jnp.exp(old - base)
    total += jnp.exp(s - jnp.expand_dims(base, axis)).sum(axis)
    return _Sums(sums.total.at[i].set(total), sums.shift.at[i].set(new))


def _lse(sums: _Sums, size: int) -> chex.Array:
    return _unblock(jnp.log(sums.total) + _finite(sums.shift), size)


def _column_bias(blocks: int, size: int, valid) -> chex.Array:
    """[blocks, size]: 0 where a column counts, −inf where it is padding or invalid."""
    column = lax.broadcasted_iota(jnp.int32, (blocks * size,), 0)
    return jnp.where(column < valid, 0.0, -jnp.inf).reshape(blocks, size)


def _eye_bias(size: int) -> chex.Array:
    return jnp.where(jnp.eye(size, dtype=bool), -jnp.inf, 0.0)


def triangle_lse(z: chex.Array, *, scale, shift, tiles: Tiles) -> chex.Array:
    """Log Σ_{j≠i} exp(scale·⟨z_i, z_j⟩) for z [N, D] -> float32 [N].

    `shift=None` runs with a moving maximum.
    """
    n, size = len(z), tiles.rows
    zb = _blocks(z, size)
    bias = _column_bias(len(zb), size, n)
    eye = _eye_bias(size)

    def logits(i, j):
        return dot(zb[i], zb[j].T, tiles.precision) * scale + bias[j][None]

    def diagonal(sums, i, j):
        s = logits(i, j) + eye
        if shift is None:
            return _add(sums, i, s, axis=1)
        rows = jnp.exp(s - shift).sum(1)
        return sums._replace(total=sums.total.at[i].add(rows))

    def above(sums, i, j):
        s = logits(i, j)
        if shift is None:
            return _add(_add(sums, i, s, axis=1), j, s, axis=0)
        e = jnp.exp(s - shift)
        total = sums.total.at[i].add(e.sum(1)).at[j].add(e.sum(0))
        return sums._replace(total=total)

    blocks = np.arange(len(zb))
    sums = _empty_sums(len(zb), size, shift)
    sums = _loop(diagonal, sums, np.stack([blocks, blocks], 1))
    if len(zb) > 1:
        sums = _loop(above, sums, np.stack(np.triu_indices(len(zb), 1), 1))
    return _lse(sums, n)


def triangle_gradient(
    z: chex.Array, lse: chex.Array, g: chex.Array, *, scale, shift, tiles: Tiles
) -> chex.Array:
    """Σ_{j≠i} (g_i p_ij + g_j p_ji) z_j with p = exp(S − lse): float32 [N, D].

    The gradient of Σ_i g_i lse_i by z is `scale` times this.
    """
    n, size = len(z), tiles.rows
    zb = _blocks(z, size)
    bias = _column_bias(len(zb), size, n)
    eye = _eye_bias(size)
    weights = _weights(lse, g, lse, g, shift, tiles)

    def tile(i, j):
        return dot(zb[i], zb[j].T, tiles.precision) * scale + bias[j][None]

    def diagonal(dz, i, j):
        w = weights(tile(i, j) + eye, i, j)
        return dz.at[i].add(_cast_dot(w, zb[j], tiles))

    def above(dz, i, j):
        w = weights(tile(i, j), i, j)
        dz = dz.at[i].add(_cast_dot(w, zb[j], tiles))
        return dz.at[j].add(_cast_dot(w.T, zb[i], tiles))

    blocks = np.arange(len(zb))
    dz = jnp.zeros(zb.shape, jnp.float32)
    dz = _loop(diagonal, dz, np.stack([blocks, blocks], 1))
    if len(zb) > 1:
        dz = _loop(above, dz, np.stack(np.triu_indices(len(zb), 1), 1))
    return _unblock(dz, n)


def rectangle_lse(
    x: chex.Array, y: chex.Array, *, scale, shift, tiles: Tiles, valid, exclude, both
):
    """Log Σ_j exp(scale·⟨x_i, y_j⟩) over j < valid, j ≠ exclude_i.

    Returns:
      float32 [N], or with `both` also the same over rows: ([N], [M]) in one sweep.
    """
    n, m = len(x), len(y)
    xb, yb, tile = _rectangle(x, y, scale, tiles, valid, exclude, mask_rows=both)

    def body(carry, i, j):
        rows, columns = carry
        s = tile(i, j)
        if shift is None:
            rows = _add(rows, i, s, axis=1)
            columns = _add(columns, j, s, axis=0) if both else None
            return rows, columns
        e = jnp.exp(s - shift)
        rows = rows._replace(total=rows.total.at[i].add(e.sum(1)))
        if both:
            columns = columns._replace(total=columns.total.at[j].add(e.sum(0)))
        return rows, columns

    rows = _empty_sums(len(xb), tiles.rows, shift)
    columns = _empty_sums(len(yb), tiles.columns, shift) if both else None
    rows, columns = _loop(body, (rows, columns), _grid(len(xb), len(yb)))
    return (_lse(rows, n), _lse(columns, m)) if both else _lse(rows, n)


def rectangle_gradient(
    x: chex.Array,
    y: chex.Array,
    lse_rows: chex.Array,
    g_rows: chex.Array,
    lse_columns: chex.Array | None,
    g_columns: chex.Array | None,
    *,
    scale,
    shift,
    tiles: Tiles,
    valid,
    exclude,
    with_y: bool,
):
    """W y [N, D] and, with `with_y`, Wᵀ x [M, D], where W_ij = g_i p_ij + h_j q_ij.

    p = exp(S − lse of the row); q = exp(S − lse of the column), where there is one.
    The gradients of Σ g·lse_rows + Σ h·lse_columns are `scale` times these.
    """
    n, m = len(x), len(y)
    xb, yb, tile = _rectangle(x, y, scale, tiles, valid, exclude, mask_rows=with_y)
    weights = _weights(lse_rows, g_rows, lse_columns, g_columns, shift, tiles)

    def body(carry, i, j):
        dx, dy = carry
        w = weights(tile(i, j), i, j)
        dx = dx.at[i].add(_cast_dot(w, yb[j], tiles))
        if with_y:
            dy = dy.at[j].add(_cast_dot(w.T, xb[i], tiles))
        return dx, dy

    dx = jnp.zeros(xb.shape, jnp.float32)
    dy = jnp.zeros(yb.shape, jnp.float32) if with_y else None
    dx, dy = _loop(body, (dx, dy), _grid(len(xb), len(yb)))
    return _unblock(dx, n), _unblock(dy, m) if with_y else None


def _grid(rows: int, columns: int) -> np.ndarray:
    return np.stack(np.indices((rows, columns)), -1).reshape(-1, 2)


def _rectangle(x, y, scale, tiles: Tiles, valid, exclude, *, mask_rows: bool):
    """Blocks of x and y, and the function that forms one tile of masked logits."""
    n, m = len(x), len(y)
    xb, yb = _blocks(x, tiles.rows), _blocks(y, tiles.columns)
    bias = _column_bias(len(yb), tiles.columns, m if valid is None else valid)
    if mask_rows and n % tiles.rows:
        row_bias = _column_bias(len(xb), tiles.rows, n)
    else:
        row_bias = None
    out = None if exclude is None else _blocks(exclude.astype(jnp.int32), tiles.rows)

    def tile(i, j):
        s = dot(xb[i], yb[j].T, tiles.precision) * scale + bias[j][None]
        if row_bias is not None:
            s += row_bias[i][:, None]
        if out is not None:
            column = j * tiles.columns + lax.broadcasted_iota(jnp.int32, s.shape, 1)
            s = jnp.where(column == out[i][:, None], -jnp.inf, s)
        return s

    return xb, yb, tile


def _weights(lse_rows, g_rows, lse_columns, g_columns, shift, tiles: Tiles):
    """The function `(s, i, j) -> W` of one tile, from the cotangents of both sides."""
    sides = []
    for lse, g, size in (
        (lse_rows, g_rows, tiles.rows),
        (lse_columns, g_columns, tiles.columns),
    ):
        if lse is None:
            sides.append(None)
            continue
        # An empty row has lse = −inf; +inf makes its weights zero.
        lse = jnp.where(jnp.isneginf(lse), jnp.inf, lse)
        if shift is None:
            sides.append((_blocks(lse, size), _blocks(g, size)))
        else:
            sides.append(_blocks(g * jnp.exp(shift - lse), size))
    rows, columns = sides

    def constant(s, i, j):
        a = rows[i][:, None]
        if columns is None:
            return jnp.exp(s - shift) * a
        return jnp.exp(s - shift) * (a + columns[j][None])

    def running(s, i, j):
        lse, g = rows
        w = jnp.exp(s - lse[i][:, None]) * g[i][:, None]
        if columns is not None:
            lse, g = columns
            w += jnp.exp(s - lse[j][None]) * g[j][None]
        return w

    return running if shift is None else constant


def _cast_dot(w: chex.Array, x: chex.Array, tiles: Tiles) -> chex.Array:
    """`w @ x` where the weights take the dtype of the operand."""
    return dot(w.astype(x.dtype), x, tiles.precision)
