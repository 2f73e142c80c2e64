"""How classes lie in a representation: far apart, and each close together?"""

import functools
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from rl_jax.errors import UsageError, checked
from rl_jax.evaluate import arguments
from rl_jax.evaluate.labels import classes_of
from rl_jax.pairwise import tiles

_ROWS = 1024
_RANK = 1e-12
"""Below this share of the largest variance within classes one is rounding; so are all
where the largest is below its square, as a share of the total."""


class ClassGeometry(NamedTuple):
    """Distances are in the units of the features; classes in increasing order.

    Attributes:
      classes: int [C], the labels.
      margin: float64 [C], mean signed distance of the examples of a class to the
        nearest boundary between its mean and another one: < 0 where they lie nearer to
        the other.
      separation: float64 [C], distance of the class mean to the nearest other one.
      spread: float64 [C], root mean square distance of the examples to their mean.
      fisher: tr(S_W⁺ S_B), in the directions in which examples spread; infinite where
        they do not spread at all.
      beyond: share of tr S_B in directions without any spread, which `fisher` leaves
        out: above 0 where D > n − C, or where classes have collapsed.
    """

    classes: np.ndarray
    margin: np.ndarray
    separation: np.ndarray
    spread: np.ndarray
    fisher: float
    beyond: float


@checked
def class_geometry(features: chex.Array, labels: chex.Array) -> ClassGeometry:
    """Margins between class means, spread within classes, Fisher's ratio (Fisher 1936).

    With class means μ_c, their mean μ over the examples and residuals r_i = x_i − μ_y:
    S_W = 1/n Σ_i r_i r_iᵀ and S_B = 1/n Σ_i (μ_y − μ)(μ_y − μ)ᵀ. The ratio does not see
    invertible linear maps. In float64, in min(n, D) dimensions: one block of rows at a
    time, but for D > n, where all rows are held to find them.

    Args:
      features: [n, D] of any float dtype, not all equal.
      labels: int [n], ≥ 0, two classes or more. A class of one example has spread 0.

    Returns:
      A `ClassGeometry`.

    Raises:
      UsageError: for shapes that do not fit together, labels < 0, fewer than two
        classes, NaN, or rows that are all equal.
    """
    n = arguments.features("class_geometry", features=features)
    labels = np.asarray(labels)
    if labels.shape != (n,) or not np.issubdtype(labels.dtype, np.integer):
        raise UsageError(
            f"class_geometry: labels must be int [{n}], one for each row, got "
            f"{labels.dtype} {labels.shape}"
        )
    classes, labels = classes_of("class_geometry", labels)
    x = np.asarray(features)
    if (x == x[:1]).all():
        raise UsageError(
            "class_geometry: all rows are equal: the features have collapsed"
        )
    with jax.enable_x64(True):
        found = _geometry(
            jnp.asarray(x), jnp.asarray(labels, jnp.int32), count=len(classes)
        )
        *each, fisher, beyond = (np.asarray(v) for v in found)
    return ClassGeometry(classes, *each, float(fisher), float(beyond))


@functools.partial(jax.jit, static_argnames="count")
def _geometry(x, labels, *, count: int):
    if x.shape[1] > len(x):
        x = _in_their_span(x)
    n, dim = x.shape
    size = min(_ROWS, n)
    # Relative to one row and the largest entry: squares neither overflow nor vanish.
    origin = x[:1].astype(jnp.float64)
    rows, owner = tiles.blocks(x, size), tiles.blocks(labels, size, fill=count)

    def moved(rows, owner):
        return jnp.where((owner < count)[:, None], rows.astype(jnp.float64) - origin, 0)

    def add(carry, block):
        totals, members = carry
        y = jax.nn.one_hot(block[1], count, dtype=jnp.float64)
        return (totals + y.T @ moved(*block), members + y.sum(0)), None

    zero = jnp.zeros((count, dim)), jnp.zeros(count)
    (totals, members), _ = lax.scan(add, zero, (rows, owner))
    means = totals / members[:, None]
    centre = totals.sum(0) / n
    lengths = jnp.sum(means * means, axis=1)
    apart = jnp.sqrt(jnp.maximum(_squares(means, means, lengths), 0.0))
    same = jnp.eye(count, dtype=bool)

    def scatter(carry, block):
        within, spread, margin = carry
        z, y = moved(*block), jax.nn.one_hot(block[1], count, dtype=jnp.float64)
        real = block[1] < count
        residual = jnp.where(real[:, None], z - y @ means, 0.0)
        own = jnp.sum(residual * residual, axis=1)
        distance = apart[jnp.minimum(block[1], count - 1)]
        further = _squares(z, means, lengths) - own[:, None]
        further = further / jnp.where(distance > 0, 2 * distance, jnp.inf)
        nearest = jnp.where(y > 0, jnp.inf, further).min(1)
        nearest = jnp.where(real, nearest, 0.0)
        within = within + residual.T @ residual
        return (within, spread + y.T @ own, margin + y.T @ nearest), None

    zero = jnp.zeros((dim, dim)), jnp.zeros(count), jnp.zeros(count)
    (within, spread, margin), _ = lax.scan(scatter, zero, (rows, owner))
    between = jnp.sqrt(members / n)[:, None] * (means - centre[None])
    return (
        margin / members,
        jnp.where(same, jnp.inf, apart).min(1),
        jnp.sqrt(spread / members),
        *_fisher(within / n, between),
    )


def _in_their_span(x):
    """[n, D] as [n, n]: the same rows in axes of what they span, the first at 0."""
    moved = x.astype(jnp.float64) - x[:1].astype(jnp.float64)
    return jnp.linalg.qr(moved.T, mode="r").T


def _squares(x, means, lengths):
    """‖x_i − μ_c‖²."""
    return jnp.sum(x * x, axis=1)[:, None] - 2 * x @ means.T + lengths[None]


def _fisher(within, between):
    """`fisher` and `beyond`, of S_W [D, D] and M [C, D] with S_B = MᵀM."""
    values, vectors = jnp.linalg.eigh(within)
    along = jnp.sum(jnp.square(between @ vectors), axis=0)
    total = values.sum() + along.sum()
    spreads = values > _RANK * jnp.maximum(values[-1], _RANK * total)
    ratio = jnp.sum(jnp.where(spreads, along / jnp.where(spreads, values, 1.0), 0.0))
    left = jnp.where(spreads, 0.0, along / jnp.maximum(along.sum(), 1e-300)).sum()
    return jnp.where(spreads.any(), ratio, jnp.inf), jnp.minimum(left, 1.0)
