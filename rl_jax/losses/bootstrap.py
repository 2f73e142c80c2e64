"""Losses between a prediction and a target, without negatives."""

import chex
import jax.numpy as jnp

from rl_jax.errors import UsageError, checked
from rl_jax.losses.normalize import normalize


@checked
def negative_cosine(p: chex.Array, z: chex.Array) -> chex.Array:
    """Negative cosine similarity (Chen & He 2021, arXiv:2011.10566): −E ⟨p, z⟩/‖p‖‖z‖.

    BYOL's ‖p − z‖² on normalised rows (Grill et al. 2020, arXiv:2006.07733) is 2 plus
    twice this. Nothing is stopped here: the method decides where gradients end.

    Args:
      p, z: [B, D] prediction and target; normalised here, in float32.

    Returns:
      Scalar float32 in [−1, 1]; −1 when each prediction points at its target.

    Raises:
      UsageError: for shapes other than [B, D] twice.
    """
    if p.ndim != 2 or p.shape != z.shape:
        raise UsageError(
            f"negative_cosine: expected two [B, D] arrays, got {p.shape}, {z.shape}"
        )
    return -jnp.mean(jnp.sum(normalize(p) * normalize(z), axis=1))
