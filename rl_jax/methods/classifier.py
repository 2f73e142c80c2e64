"""Cross-entropy where some labels are unknown: what classifying methods share."""

import chex
import jax
import jax.numpy as jnp
import optax


def cross_entropy(
    logits: chex.Array,
    label: chex.Array,
    *,
    smoothing: float = 0.0,
    mixed: tuple[chex.Array, chex.Array] | None = None,
) -> tuple[chex.Array, chex.Array]:
    """Mean cross-entropy and accuracy over the rows whose label is known.

    Args:
      logits: [N, C] of any float dtype; the softmax is taken in float32.
      label: int [N] in [0, C), −1 where unknown (not counted).
      smoothing: α in [0, 1); the target is (1 − α)·one-hot + α/C.
      mixed: of rows that are mixtures, the second label, as `label`, and float [N], the
        share of the first. Both means are then over labels, each with its share.

    Returns:
      Two scalars float32, both 0 where no label is known.
    """
    logits = logits.astype(jnp.float32)
    labels, shares = (label,), (1.0,)
    if mixed is not None:
        other, share = mixed
        labels, shares = (label, other), (share, 1.0 - share)
    ce = accuracy = count = jnp.zeros([])
    for of_part, share in zip(labels, shares, strict=True):
        weight = (of_part >= 0) * share
        each, hit = _each(logits, of_part, smoothing)
        ce += jnp.sum(weight * each)
        accuracy += jnp.sum(weight * hit)
        count += jnp.sum(weight)
    count = jnp.where(count > 0, count, 1.0)
    return ce / count, accuracy / count


def _each(
    logits: chex.Array, label: chex.Array, smoothing: float
) -> tuple[chex.Array, chex.Array]:
    """The cross-entropy of each row, and whether its likeliest class is its label."""
    ce = optax.softmax_cross_entropy_with_integer_labels(
        logits, jnp.where(label >= 0, label, 0)
    )
    if smoothing:
        uniform = jax.nn.logsumexp(logits, axis=-1) - logits.mean(-1)
        ce = (1.0 - smoothing) * ce + smoothing * uniform
    return ce, logits.argmax(-1) == label
