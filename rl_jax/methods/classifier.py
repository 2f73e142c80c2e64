"""A linear classifier on features: what supervised and pretext methods share."""

import chex
import jax
import jax.numpy as jnp
import optax

from rl_jax import networks
from rl_jax.errors import UsageError
from rl_jax.types import Batch, Network


def linear(classes: int) -> Network:
    """The logits Wᵀh + b: [N, D] -> [N, classes]."""
    return networks.projection_head(hidden=1, out=classes, layers=1, batch_norm=False)


def cross_entropy(
    logits: chex.Array, label: chex.Array, *, smoothing: float = 0.0
) -> tuple[chex.Array, chex.Array]:
    """Mean cross-entropy and accuracy over the rows whose label is known.

    Args:
      logits: [N, C] of any float dtype; the softmax is taken in float32.
      label: int [N] in [0, C), −1 where unknown (not counted).
      smoothing: α in [0, 1); the target is (1 − α)·one-hot + α/C.

    Returns:
      Two scalars float32, both 0 where no label is known.
    """
    logits = logits.astype(jnp.float32)
    known = label >= 0
    count = jnp.maximum(known.sum(), 1)
    ce = optax.softmax_cross_entropy_with_integer_labels(
        logits, jnp.where(known, label, 0)
    )
    if smoothing:
        uniform = jax.nn.logsumexp(logits, axis=-1) - logits.mean(-1)
        ce = (1.0 - smoothing) * ce + smoothing * uniform
    hit = logits.argmax(-1) == label
    return jnp.sum(ce * known) / count, jnp.sum(hit & known) / count


def first_image(factory: str, batch: Batch) -> chex.Array:
    """The first view [B, H, W, C] where the batch has views, else its image.

    Raises:
      UsageError: without either.
    """
    if "views" in batch:
        return batch["views"][:, 0]
    if "image" not in batch:
        raise UsageError(
            f"{factory}: batch must have `image` or `views`, got {sorted(batch)}; use "
            "a source of images"
        )
    return batch["image"]
