"""What HSIC needs of the linear kernels of many layers, in one pass over the rows."""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

Group = tuple[int, ...]
"""Which of all layers, by number, stand on one side of a table."""


class Terms(NamedTuple):
    """Of kernels K = XXᵀ and L = YYᵀ of centred features, diagonals included.

    Attributes:
      products: Σ_ij K_ij L_ij = ‖XᵀY‖².
      diagonals: Σ_i K_ii L_ii.
      traces: tr K · tr L.
    """

    products: np.ndarray
    diagonals: np.ndarray
    traces: np.ndarray


def biased(terms: Terms, n: int) -> np.ndarray:
    """(n − 1)² times the HSIC of Gretton et al. 2005: tr KL of centred kernels."""
    del n
    return terms.products


def unbiased(terms: Terms, n: int) -> np.ndarray:
    """n(n − 3) times the unbiased HSIC of Song et al. 2012 (JMLR 13), eq. 5.

    Rows of centred kernels sum to 0, so those of K without its diagonal to −K_ii.
    """
    products, diagonals, traces = terms
    return products - n / (n - 2) * diagonals + traces / ((n - 1) * (n - 2))


def linear_terms(
    layers: Sequence[chex.Array], tables: Sequence[tuple[Group, Group]], *, size: int
) -> list[Terms]:
    """The terms between layers, without a matrix of the rows.

    Products of a block of rows are formed in full float32 around the mean of the first
    block and summed over the blocks in float64; the mean of all is taken out at the
    end, when it is known. So every row is read once.

    Args:
      layers: [n, D_l] each, of the same n rows; slices of rows are taken of them.
      tables: which layers are compared with which.
      size: rows that are read at once.

    Returns:
      For each table float64 `Terms` [layers of one side, layers of the other].
    """
    n, tables = len(layers[0]), tuple(tables)
    with jax.enable_x64(True):
        sums = units = None
        for first in range(0, n, size):
            count = min(size, n - first)
            block = [_block(x, first, size) for x in layers]
            if units is None:
                units = [_unit(x, count) for x in block]
            new = _of_block(block, units, count, tables=tables)
            sums = new if sums is None else _add(sums, new)
        widths = tuple(x.shape[1] for x in layers)
        return jax.tree.map(np.asarray, _terms(sums, n, tables=tables, widths=widths))


def batch_terms(x: chex.Array, y: chex.Array, *, size: int) -> Terms:
    """The terms of x and y, each with each, for every batch of consecutive rows.

    Args:
      x, y: [n, D] and [n, E]; slices of rows are taken of them.
      size: rows of a batch; those that do not fill one are left out.

    Returns:
      float64 `Terms` [batches, 2, 2].
    """
    found, units = [], None
    with jax.enable_x64(True):
        for first in range(0, len(x) - size + 1, size):
            pair = [_block(v, first, size) for v in (x, y)]
            if units is None:
                units = [_unit(v, size) for v in pair]
            found.append(_of_batch(pair, units))
        return Terms(
            *(np.stack([np.asarray(v) for v in t]) for t in zip(*found, strict=True))
        )


class _Sums(NamedTuple):
    """Sums over rows x [D] and y [E], several layers side by side on each.

    p [La] and q [Lb] are the squared lengths of the row in each layer.
    """

    x_y: chex.Array
    x: chex.Array
    y: chex.Array
    p: chex.Array
    q: chex.Array
    p_q: chex.Array
    x_q: chex.Array
    p_y: chex.Array


class _Unit(NamedTuple):
    """Where the numbers of a layer lie, by its first block: a mean [D] and a size."""

    mean: chex.Array
    scale: chex.Array


def _block(x, first, size):
    """Rows first .. first + size as float32, filled up with zeros."""
    rows = jnp.asarray(x[first : first + size], jnp.float32)
    return jnp.pad(rows, ((0, size - len(rows)), (0, 0)))


@jax.jit
def _unit(rows, count):
    rows = rows.astype(jnp.float64)
    inside = jnp.arange(len(rows))[:, None] < count
    mean = jnp.sum(rows, axis=0) / count
    largest = jnp.max(jnp.where(inside, jnp.abs(rows - mean[None]), 0.0))
    # Squares of squares of very small or large features would leave float32.
    return _Unit(mean, jnp.where(largest > 0, largest, 1.0))


def _moved(rows, unit):
    return (rows.astype(jnp.float64) - unit.mean[None]) / unit.scale


@functools.partial(jax.jit, static_argnames="tables")
def _of_block(block, units, count, *, tables):
    inside = jnp.arange(len(block[0]))[:, None] < count
    rows = [
        jnp.where(inside, _moved(x, unit), 0.0).astype(jnp.float32)
        for x, unit in zip(block, units, strict=True)
    ]
    squares = [jnp.sum(jnp.square(x.astype(jnp.float64)), axis=1) for x in rows]
    return [
        _products(*([v[i] for i in group] for group in table for v in (rows, squares)))
        for table in tables
    ]


@functools.partial(jax.jit, donate_argnums=0)
def _add(sums, new):
    return jax.tree.map(jnp.add, sums, new)


def _products(xs, ps, ys, qs):
    x, y = jnp.concatenate(xs, axis=1), jnp.concatenate(ys, axis=1)
    p, q = jnp.stack(ps, axis=1), jnp.stack(qs, axis=1)
    x_y = jnp.dot(x.T, y, precision=lax.Precision.HIGHEST).astype(jnp.float64)
    x, y = x.astype(jnp.float64), y.astype(jnp.float64)
    totals = [v.sum(0) for v in (x, y, p, q)]
    return _Sums(x_y, *totals, p.T @ q, x.T @ q, p.T @ y)


@functools.partial(jax.jit, static_argnames=("tables", "widths"))
def _terms(sums, n, *, tables, widths):
    return [
        _centred(each, n, *([widths[i] for i in group] for group in table))
        for each, table in zip(sums, tables, strict=True)
    ]


def _centred(sums: _Sums, n, widths_a, widths_b) -> Terms:
    """The terms of rows less their mean: x − u, p − 2⟨x, u⟩ + ‖u‖², and so y − v."""
    a, b = _layers(widths_a), _layers(widths_b)
    u, v = sums.x / n, sums.y / n
    gram = sums.x_y - n * u[:, None] * v[None]
    uu, vv = a @ (u * u), b @ (v * v)
    diagonals = (
        sums.p_q
        - 2 * a @ (u[:, None] * sums.x_q)
        - 2 * (sums.p_y * v[None]) @ b.T
        + 4 * a @ (u[:, None] * sums.x_y * v[None]) @ b.T
        + sums.p[:, None] * vv[None]
        + uu[:, None] * sums.q[None]
        - 3 * n * uu[:, None] * vv[None]
    )
    traces = (sums.p - n * uu)[:, None] * (sums.q - n * vv)[None]
    return Terms(a @ (gram * gram) @ b.T, diagonals, traces)


def _layers(widths):
    """[layers, ΣD], 1 where a dimension belongs to a layer."""
    return jnp.asarray(np.repeat(np.eye(len(widths)), widths, axis=1))


@jax.jit
def _of_batch(pair, units):
    kernels = []
    for rows, unit in zip(pair, units, strict=True):
        x = _moved(rows, unit)
        x = (x - x.mean(0, keepdims=True)).astype(jnp.float32)
        kernel = jnp.dot(x, x.T, precision=lax.Precision.HIGHEST)
        kernels.append(kernel.astype(jnp.float64))
    k = jnp.stack(kernels)
    diagonal = jnp.diagonal(k, axis1=1, axis2=2)
    trace = diagonal.sum(1)
    products = jnp.einsum("aij,bij->ab", k, k)
    return Terms(products, diagonal @ diagonal.T, trace[:, None] * trace[None])
