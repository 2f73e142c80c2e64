"""Where a representation stands between alignment and uniformity."""

import functools
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from rl_jax import losses
from rl_jax.errors import UsageError, checked
from rl_jax.evaluate import arguments
from rl_jax.evaluate.directions import unit_rows
from rl_jax.theory import uniformity_limit


class AlignmentUniformity(NamedTuple):
    """One point of the plane of Wang & Isola; lower is better on both axes.

    Attributes:
      alignment: mean ‖a − b‖^α of positives; 0 when the encoder ignores the views.
      uniformity: log mean exp(−t ‖u − v‖²) over pairs of examples; 0 when collapsed.
      limit: the uniformity of the uniform distribution, the least there is.
    """

    alignment: float
    uniformity: float
    limit: float


@checked
def alignment_uniformity(
    a: chex.Array, b: chex.Array, *, alpha: float = 2.0, t: float = 2.0
) -> AlignmentUniformity:
    """`losses.alignment` and `losses.uniformity` of features (arXiv:2005.10242).

    The uniformity is the mean of that of a and that of b, as the authors take it.

    Args:
      a, b: [n, D], n ≥ 2, two views of the same examples; normalised here, in float32.
      alpha: exponent, > 0.
      t: inverse width, > 0.

    Returns:
      An `AlignmentUniformity`.

    Raises:
      UsageError: for shapes that do not fit together, NaN, rows of zeros, alpha ≤ 0 or
        t ≤ 0.
    """
    name = "alignment_uniformity"
    arguments.directions(name, least=2, a=a, b=b)
    arguments.same_width(name, a=a, b=b)
    for what, value in (("alpha", alpha), ("t", t)):
        if not value > 0:
            raise UsageError(f"{name}: {what} must be > 0, got {value}")
    aligned, uniform = _both(jnp.asarray(a), jnp.asarray(b), alpha=alpha, t=t)
    limit = uniformity_limit(dim=a.shape[1], t=t)
    return AlignmentUniformity(float(aligned), float(uniform), float(limit))


@functools.partial(jax.jit, static_argnames=("alpha", "t"))
def _both(a, b, *, alpha, t):
    a, b = unit_rows(a), unit_rows(b)
    uniform = losses.uniformity(a, t=t) + losses.uniformity(b, t=t)
    return losses.alignment(a, b, alpha=alpha), uniform / 2
