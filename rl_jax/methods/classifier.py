"""Cross-entropy where some labels are unknown: what classifying methods share."""

import chex
import jax
import jax.numpy as jnp
import optax


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
