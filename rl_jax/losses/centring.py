"""Sinkhorn's assignments as a centre of scores that are never all held."""

import chex
import jax
import jax.numpy as jnp
from jax.nn import logsumexp

from rl_jax.errors import UsageError, checked
from rl_jax.losses.assignment import check_sinkhorn, check_width, prototype_scores
from rl_jax.losses.distillation import counted, flat, rows_of_a_block, scores
from rl_jax.losses.normalize import normalize
from rl_jax.pairwise import rows as blocks


@checked
def sinkhorn_centre(
    z: chex.Array,
    prototypes: chex.Array,
    weight: chex.Array,
    *,
    epsilon: chex.Numeric = 0.05,
    iterations: int = 3,
    block_size: int | None = None,
) -> chex.Array:
    """The centre c of which softmax((s − c)/ε) are the assignments of `sinkhorn`.

    Of s = `prototype_scores`; the steps, their order and number, and what a weight is
    are those of `sinkhorn`. Each pass forms scores anew, a block of rows at a time as
    in `patch_distillation`, and keeps of them one number for each prototype.

    Args:
      z: [..., D] embeddings, without gradient.
      prototypes: [K, D], without gradient.
      weight: [...] ≥ 0; embeddings of weight 0 may be anything.
      epsilon: ε > 0, a float or a scalar array.
      iterations: pairs of steps, ≥ 1, and passes.
      block_size: rows at a time on each device; None: as in `patch_distillation`.

    Returns:
      [K] float32, without gradient; 0 where no row counts.

    Raises:
      UsageError: for values out of range or shapes that do not fit.
    """
    name = "sinkhorn_centre"
    check_width(name, z, prototypes)
    if weight.shape != z.shape[:-1] or not weight.size:
        raise UsageError(
            f"{name}: expected a weight for each row, {z.shape[:-1]}, got "
            f"{weight.shape}"
        )
    check_sinkhorn(name, weight, epsilon, iterations)
    z, prototypes, weight, epsilon = jax.lax.stop_gradient(
        (z, prototypes, weight.astype(jnp.float32), jnp.float32(epsilon))
    )
    z = counted(z, weight)
    size = rows_of_a_block(name, weight.size, len(prototypes), block_size)
    weight = weight.reshape(-1)

    def centre(totals):
        """From what gives the sums of columns, once a potential is added to them."""
        potential = None
        for _ in range(iterations):
            total = totals(potential)
            # Without any row that counts there is no sum to bring them to.
            total = jnp.where(jnp.isneginf(total), 0.0, total)
            potential = -total if potential is None else potential - total
        return -epsilon * potential

    if size >= weight.size:
        s = flat(prototype_scores(z, prototypes)) / epsilon
        return centre(lambda potential: _columns(s, potential, weight))

    def local(rows, words, axis):
        def totals(potential):
            def step(total, rows):
                own = _columns(scores(rows[0], words), potential, rows[1])
                return jnp.logaddexp(total, own), None

            total = jnp.full(len(words), -jnp.inf, jnp.float32)
            total, _ = blocks.fold(step, total, rows, rows[1] > 0, size)
            return blocks.total_logsumexp(total, axis)

        return centre(totals), None

    rows = flat(normalize(z) / epsilon), weight
    return blocks.over_devices(local, rows, normalize(prototypes))[0]


def _columns(s, potential, weight):
    """Logarithms of columns' sums of exp(s + potential), rows brought to 1 first."""
    if potential is not None:
        s = s + potential[None]
        s = s - logsumexp(s, axis=1, keepdims=True)
    return logsumexp(s, axis=0, b=weight[:, None])
