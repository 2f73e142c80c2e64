"""What is made of the logits of a row: the functions a tile loop folds over its tiles.

Every reduction is a sum over j of φ(s_ij), so its gradient by the logits is
W_ij = g_i φ'(s_ij), and one product with W gives the gradient of the rows.
"""

import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import chex
import jax
import jax.numpy as jnp
from jax import lax

Kind = Literal["exp", "running_exp", "softplus"]
Sums = tuple[chex.Array, ...]

# float32 normals span exp(±87); the rest is head-room for a = g/l, |g| ≤ 1.
_LOG_RANGE = 80.0


class Reduction(NamedTuple):
    """A reduction of logits over rows (and, at once, over columns), as pure functions.

    Attributes:
      empty: `(shape) -> carry`: the sums of nothing, [blocks, T] each.
      add: `(carry, i, s, axis) -> carry`: adds tile s, reduced over `axis`, to block i.
      sums: `(carry) -> tuple` of [blocks, T]: all there is to know of a row.
      result: `(sums) -> [...]`: the value of each row.
      join: `(sums, sums) -> sums` of two disjoint sets of columns.
      across: `(sums, axis_name) -> sums` over the devices of a mesh axis.
      side: `(sums, g) -> tuple` of arrays: what the weights need of a row, from its
        sums and the cotangent g in [−1, 1] of its result. Where sums are inf, no
        weight is left.
      weigh: `(s, row, column) -> W`: the weights of a tile from the sides of its rows
        and of its columns, the latter None where no column has a cotangent.
    """

    empty: Callable[[tuple[int, int]], Any]
    add: Callable[..., Any]
    sums: Callable[[Any], Sums]
    result: Callable[[Sums], chex.Array]
    join: Callable[[Sums, Sums], Sums]
    across: Callable[[Sums, str], Sums]
    side: Callable[[Sums, chex.Array], Sums]
    weigh: Callable[..., chex.Array]


def of(kind: Kind, shift: chex.Numeric | None) -> Reduction:
    """The reduction called `kind`."""
    if kind == "exp":
        return exp_sums(shift)
    return running_exp_sums() if kind == "running_exp" else softplus_sums()


def exp_sums(shift: chex.Numeric) -> Reduction:
    """Log Σ_j exp(s_ij) with a constant shift: no maximum has to be found first.

    With l = Σ_j exp(s_ij − c) and a = g/l, both directions of a symmetric matrix cost
    one exponential: W_ij = exp(s_ij − c)(a_i + a_j). l itself is kept and not its
    logarithm, whose rounding would keep the weights of a row from adding up to g.
    """

    def add(carry, i, s, axis):
        return carry.at[i].add(jnp.exp(s - shift).sum(axis))

    def sums(carry):
        return carry, jnp.full(carry.shape, shift, jnp.float32)

    def side(sums, g):
        return (_share(g, sums[0]),)

    def weigh(s, row, column):
        return jnp.exp(s - shift) * _both(row[0], None if column is None else column[0])

    return Reduction(_zeros, add, sums, _lse, _join, _across, side, weigh)


def running_exp_sums() -> Reduction:
    """Log Σ_j exp(s_ij) with a running maximum: for logits of any size."""

    def empty(shape):
        return _zeros(shape), jnp.full(shape, -jnp.inf, jnp.float32)

    def add(carry, i, s, axis):
        total, peak = carry
        new = lax.stop_gradient(jnp.maximum(peak[i], s.max(axis)))
        base = _finite(new)  # −inf while nothing has been counted
        sums = total[i] * jnp.exp(peak[i] - base)
        sums += jnp.exp(s - jnp.expand_dims(base, axis)).sum(axis)
        return total.at[i].set(sums), peak.at[i].set(new)

    def side(sums, g):
        total, peak = sums
        # An empty row has peak −inf; +inf makes its weights zero.
        return jnp.where(jnp.isneginf(peak), jnp.inf, peak), _share(g, total)

    def weigh(s, row, column):
        peak, share = row
        w = jnp.exp(s - peak[:, None]) * share[:, None]
        if column is not None:
            peak, share = column
            w += jnp.exp(s - peak[None]) * share[None]
        return w

    return Reduction(empty, add, tuple, _lse, _join, _across, side, weigh)


def softplus_sums() -> Reduction:
    """Σ_j log(1 + exp(s_ij)), whose derivative is the logistic function."""

    def add(carry, i, s, axis):
        return carry.at[i].add(jax.nn.softplus(s).sum(axis))

    def weigh(s, row, column):
        return jax.nn.sigmoid(s) * _both(row[0], None if column is None else column[0])

    return Reduction(
        empty=_zeros,
        add=add,
        sums=lambda carry: (carry,),
        result=lambda sums: sums[0],
        join=lambda one, two: (one[0] + two[0],),
        across=lambda sums, axis_name: (lax.psum(sums[0], axis_name),),
        # What fills up a block has sums inf and g 0: its weights are 0.
        side=lambda sums, g: (g,),
        weigh=weigh,
    )


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


def _zeros(shape):
    return jnp.zeros(shape, jnp.float32)


def _finite(x):
    return jnp.where(jnp.isfinite(x), x, 0.0)


def _share(g, total):
    """g/l, 0 for an empty row."""
    return jnp.where(total > 0, g / jnp.where(total > 0, total, 1.0), 0.0)


def _both(rows, columns):
    return rows[:, None] if columns is None else rows[:, None] + columns[None]


def _lse(sums):
    total, peak = sums
    return jnp.log(total) + _finite(peak)


def _join(one, two):
    peak = jnp.maximum(one[1], two[1])
    return _to(one, peak) + _to(two, peak), peak


def _across(sums, axis_name):
    peak = lax.pmax(lax.stop_gradient(sums[1]), axis_name)
    return lax.psum(_to(sums, peak), axis_name), peak


def _to(sums, peak):
    """The total of sums whose peak is moved up to `peak`."""
    # Where nothing was counted the peak is −inf: whatever it counts as, not overflow.
    return sums[0] * jnp.exp(jnp.minimum(_finite(sums[1]) - _finite(peak), 0.0))
