"""Losses of methods that hide a part of the input and ask for it."""

import chex
import jax.numpy as jnp
import optax

from rl_jax.errors import UsageError, checked, known


@checked
def patch_statistics(patches: chex.Array) -> tuple[chex.Array, chex.Array]:
    """Mean and √(var + 1e-6) of each patch, with the unbiased variance.

    Args:
      patches: [..., n], n > 1 values of a patch.

    Returns:
      Two float32 arrays [..., 1].

    Raises:
      UsageError: for patches of a single value.
    """
    if patches.shape[-1] < 2:
        raise UsageError(
            "normalise_patches: patches must have more than one value, got shape "
            f"{patches.shape}; use larger patches or do not normalise them"
        )
    x = patches.astype(jnp.float32)
    variance = jnp.var(x, axis=-1, ddof=1, keepdims=True)
    return jnp.mean(x, axis=-1, keepdims=True), jnp.sqrt(variance + 1e-6)


@checked
def normalise_patches(patches: chex.Array) -> chex.Array:
    """Each patch by its own mean and deviation (He et al. 2022, arXiv:2111.06377).

    (x − mean)/√(var + 1e-6), as the authors have it.

    Args:
      patches: [..., n], n > 1 values of a patch.

    Returns:
      float32 of that shape.

    Raises:
      UsageError: for patches of a single value.
    """
    mean, deviation = patch_statistics(patches)
    return (patches.astype(jnp.float32) - mean) / deviation


@checked
def squared_error(predicted: chex.Array, target: chex.Array) -> chex.Array:
    """Mean over all values of (predicted − target)², in float32.

    Args:
      predicted, target: of one shape.

    Returns:
      Scalar >= 0.

    Raises:
      UsageError: for shapes that differ.
    """
    return jnp.mean(jnp.square(_difference("squared_error", predicted, target)))


@checked
def absolute_error(predicted: chex.Array, target: chex.Array) -> chex.Array:
    """Mean over all values of |predicted − target|, in float32.

    Its derivative where both are equal is 0.

    Args:
      predicted, target: of one shape.

    Returns:
      Scalar >= 0.

    Raises:
      UsageError: for shapes that differ.
    """
    d = _difference("absolute_error", predicted, target)
    # The derivative of |d| is 1 at 0 to JAX.
    return jnp.mean(jnp.where(d == 0, 0.0, jnp.abs(d)))


def _difference(loss: str, predicted: chex.Array, target: chex.Array) -> chex.Array:
    if predicted.shape != target.shape:
        raise UsageError(
            f"{loss}: expected two arrays of one shape, got {predicted.shape}, "
            f"{target.shape}"
        )
    return predicted.astype(jnp.float32) - target.astype(jnp.float32)


@checked
def smooth_l1(
    predicted: chex.Array,
    target: chex.Array,
    weight: chex.Array | None = None,
    *,
    beta: float = 1.0,
) -> chex.Array:
    """Huber's loss over β (Girshick 2015, arXiv:1504.08083), of I-JEPA.

    d²/2β where |d| < β, else |d| − β/2, with d = predicted − target: the weighted mean
    over all values, in float32. As `smooth_l1_loss` of PyTorch has it.

    Args:
      predicted, target: [..., D].
      weight: [...] >= 0, 1 where a row counts and 0 where it does not, which may hold
        anything then; None: all count.
      beta: β > 0, up to where the loss is a parabola.

    Returns:
      Scalar >= 0; 0 where no weight is positive.

    Raises:
      UsageError: for shapes that do not fit, or a β out of range.
    """
    if predicted.shape != target.shape or not predicted.ndim:
        raise UsageError(
            "smooth_l1: expected two arrays [..., D] of one shape, got "
            f"{predicted.shape}, {target.shape}"
        )
    if weight is not None and weight.shape != predicted.shape[:-1]:
        raise UsageError(
            f"smooth_l1: expected a weight for each row, {predicted.shape[:-1]}, got "
            f"{weight.shape}"
        )
    number = known(beta)
    if number is not None and not 0 < number < jnp.inf:
        raise UsageError(f"smooth_l1: beta must be > 0 and finite, got {beta}")
    d = predicted.astype(jnp.float32) - target.astype(jnp.float32)
    if weight is None:
        return jnp.mean(optax.huber_loss(d, delta=beta)) / beta
    counts = weight > 0
    rows = jnp.mean(
        optax.huber_loss(jnp.where(counts[..., None], d, 0.0), delta=beta), axis=-1
    )
    weight = weight.astype(jnp.float32)
    total = jnp.sum(weight)
    return jnp.sum(rows * weight) / jnp.where(total > 0, total, 1.0) / beta


@checked
def weighted_cross_entropy(
    logits: chex.Array, label: chex.Array, weight: chex.Array
) -> chex.Array:
    """Weighted mean of log Σ_v exp(logit_v) − logit_label, in float32.

    Args:
      logits: [..., V].
      label: int32 [...] in [0, V); others where the weight is 0. NaN comes of one that
        counts all the same.
      weight: [...] >= 0, 1 where a label counts and 0 where it does not.

    Returns:
      Scalar in nats; 0 where no weight is positive.

    Raises:
      UsageError: for shapes that do not fit.
    """
    if not label.shape == weight.shape == logits.shape[:-1]:
        raise UsageError(
            "weighted_cross_entropy: expected logits [..., V], label [...] and weight "
            f"[...], got {logits.shape}, {label.shape}, {weight.shape}"
        )
    counts = weight > 0
    # What does not count may be out of range, or not finite.
    ce = optax.softmax_cross_entropy_with_integer_labels(
        jnp.where(counts[..., None], logits.astype(jnp.float32), 0.0),
        jnp.where(counts, label, 0),
    )
    weight = weight.astype(jnp.float32)
    ce = jnp.where((label < 0) & counts, jnp.nan, ce)
    total = jnp.sum(weight)
    return jnp.sum(ce * weight) / jnp.where(total > 0, total, 1.0)
