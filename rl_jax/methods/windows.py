"""Windows of sequences."""

import chex
import jax
import jax.numpy as jnp

from rl_jax.errors import UsageError
from rl_jax.types import Batch


def cut(sequence: chex.Array, window: int) -> chex.Array:
    """[B, T, F] -> [B, ⌊T / window⌋, window, F]; what is left at the end is dropped."""
    batch, steps, *rest = sequence.shape
    count = steps // window
    return sequence[:, : count * window].reshape(batch, count, window, *rest)


def two(
    rng: chex.PRNGKey, batch: Batch, *, window: int, gap: tuple[int, int]
) -> chex.Array:
    """[B, 2, window, F]: two windows of each sequence, the earlier one first.

    Raises:
      UsageError: for sequences that are too short for some gap.
    """
    sequence = batch["sequence"]
    least, most = gap
    steps = sequence.shape[1]
    if steps < 2 * window + most:
        raise UsageError(
            f"info_nce: two windows of {window} steps and a gap of up to {most} need "
            f"{2 * window + most} steps, got sequences of {steps}; use a smaller "
            "window or gap"
        )

    def draw(index, x):
        of_gap, of_start = jax.random.split(jax.random.fold_in(rng, index))
        apart = window + jax.random.randint(of_gap, (), least, most + 1)
        start = jax.random.randint(of_start, (), 0, steps - window - apart + 1)
        at = jnp.stack([start, start + apart])
        return jax.vmap(lambda t: jax.lax.dynamic_slice_in_dim(x, t, window))(at)

    return jax.vmap(draw)(batch["index"], sequence)
