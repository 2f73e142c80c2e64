"""Images moved within a small ball until a classifier errs."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from rl_jax.errors import UsageError, checked
from rl_jax.evaluate import arguments
from rl_jax.evaluate.probabilities import checked_labels
from rl_jax.evaluate.projected_gradient import (
    STEPS_TO_THE_EDGE,
    Logits,
    Norm,
    search,
)


class Attack(NamedTuple):
    """The worst image found for each example.

    Attributes:
      images: float32 [B, H, W, C], in the ball and in [0, 1].
      losses: float32 [B], their cross-entropy in nats.
      fooled: bool [B], whether they are classified wrongly.
    """

    images: chex.Array
    losses: chex.Array
    fooled: chex.Array


class RobustAccuracy(NamedTuple):
    """Accuracy under attack, for each radius in the order given.

    Attributes:
      radii: float64 [R].
      accuracy: float64 [R]; at radius 0 that of the clean images.
      right: bool [R, n], which examples stayed right; paired over runs, and over radii.
    """

    radii: np.ndarray
    accuracy: np.ndarray
    right: np.ndarray


@checked
def pgd(
    rng: chex.PRNGKey,
    images: chex.Array,
    labels: chex.Array,
    *,
    logits_fn: Logits,
    norm: Norm,
    radius: float,
    steps: int = 20,
    step_size: float | None = None,
    restarts: int = 1,
) -> Attack:
    """Projected gradient descent (Madry et al. 2018, arXiv:1706.06083).

    x ← Π(x + α·d(∇ CE(f(x), y))) from a random start in the ball around the clean
    image, with d the sign (ℓ∞) or the direction (ℓ₂) and Π into the ball and [0, 1].
    Of the clean image and all iterates the worst is kept: one that is classified
    wrongly before one that is not, then that of larger loss. With the same `rng`, fewer
    steps or restarts look at a part of the same images, so that more of them never
    help the defender.

    The gradient is that of log Σ_{c≠y} exp(l_c) − l_y, of which the cross-entropy is a
    monotone function: the direction is the same, but it does not vanish where the
    classifier is certain.

    Args:
      rng: of the start; that of example i is of `fold_in(rng, i)`.
      images: [B, H, W, C] floats in [0, 1].
      labels: int [B] in [0, C).
      logits_fn: pure function of images to logits [B, C], the rows apart from each
        other. Compiled once for each function object and shape.
      norm: of the ball. In ℓ₂, Π goes to the ball first and then to [0, 1], which is in
        both, though not always the nearest point of both.
      radius: ≥ 0, in units of a pixel's range.
      steps: ≥ 0; 0 tries the random start only.
      step_size: α > 0; None: radius / 8, whatever `steps` is.
      restarts: ≥ 1, random starts.

    Returns:
      An `Attack`.

    Raises:
      UsageError: for values out of range, images outside [0, 1], labels that are none,
        or logits that are not [B, C] and finite.
    """
    images, labels = checked(
        "pgd", images, labels, logits_fn, norm, [radius], steps, step_size, restarts
    )
    found = search(
        rng,
        np.arange(len(images)),
        images,
        labels,
        logits_fn=logits_fn,
        norm=norm,
        radius=radius,
        steps=steps,
        step_size=step_size,
        restarts=restarts,
    )
    return Attack(found.images, jax.nn.softplus(found.odds), found.fooled)


@checked
def robust_accuracy(
    rng: chex.PRNGKey,
    images: chex.Array,
    labels: chex.Array,
    *,
    logits_fn: Logits,
    norm: Norm,
    radii: Sequence[float],
    steps: int = 20,
    step_size: float | None = None,
    restarts: int = 1,
    batch_size: int = 256,
) -> RobustAccuracy:
    """Share of images still classified right under `pgd`, for each radius.

    An upper bound on the true robust accuracy: another attack may find more. What
    fools at one radius lies in the larger balls too, so such an example is not
    attacked again, and accuracy never rises with the radius.

    Args:
      rng, images, labels, logits_fn, norm, steps, step_size, restarts: see `pgd`; n
        examples. A `step_size` given is that of all radii.
      radii: at least one, each ≥ 0; 0 is the clean accuracy.
      batch_size: images attacked at a time, ≥ 1; without effect on the result.

    Returns:
      A `RobustAccuracy`.

    Raises:
      UsageError: as `pgd`.
    """
    name = "robust_accuracy"
    images, labels = checked(
        name, images, labels, logits_fn, norm, radii, steps, step_size, restarts
    )
    arguments.counts(name, batch_size=batch_size)
    standing = np.arange(len(images))
    right = {}
    for radius in sorted({0.0, *(float(r) for r in radii)}):
        fooled, _ = attacked(
            rng,
            standing,
            images,
            labels,
            batch_size=batch_size,
            logits_fn=logits_fn,
            norm=norm,
            radius=radius,
            steps=steps if radius else 0,
            step_size=step_size,
            restarts=restarts,
        )
        standing = standing[~fooled]
        right[radius] = np.isin(np.arange(len(images)), standing)
    table = np.stack([right[float(r)] for r in radii])
    return RobustAccuracy(np.asarray(radii, np.float64), table.mean(1), table)


def attacked(
    rng, rows: np.ndarray, images, labels, *, batch_size: int, **options
) -> tuple[np.ndarray, np.ndarray]:
    """Whether each of the chosen rows was fooled, and had a gradient: bool [m] each.

    Batches are all of one shape, the last one filled up with repetitions.

    Args:
      rng: see `pgd`.
      rows: int [m], which of the images.
      images, labels: of all rows, checked.
      batch_size: at most so many at a time.
      **options: see `search`.
    """
    size = min(batch_size, len(images))
    fooled, alive = np.zeros(len(rows), bool), np.zeros(len(rows), bool)
    for start in range(0, len(rows), size):
        chosen = rows[start : start + size]
        full = np.resize(chosen, size)
        found = search(rng, full, images[full], labels[full], **options)
        place = slice(start, start + len(chosen))
        fooled[place] = np.asarray(found.fooled)[: len(chosen)]
        alive[place] = np.asarray(found.alive)[: len(chosen)]
    return fooled, alive


def checked(name, images, labels, logits_fn, norm, radii, steps, step_size, restarts):
    """Float32 images and int32 labels, as NumPy arrays; refuses all else."""
    if norm not in ("linf", "l2"):
        raise UsageError(f"{name}: norm must be linf or l2, got {norm!r}")
    if not len(radii) or not all(0 <= r < math.inf for r in radii):
        given = list(radii) if name == "robust_accuracy" else radii[0]
        raise UsageError(f"{name}: radius must be >= 0 and finite, got {given}")
    if step_size is not None and not 0 < step_size < math.inf:
        raise UsageError(
            f"{name}: step_size must be > 0 and finite, got {step_size}; None takes "
            f"radius / {STEPS_TO_THE_EDGE}"
        )
    arguments.counts(name, 0, steps=steps)
    arguments.counts(name, restarts=restarts)
    images = np.asarray(images)
    if images.ndim != 4 or not len(images):
        raise UsageError(
            f"{name}: images must be [B, H, W, C], B >= 1, got {images.shape}"
        )
    if not jnp.issubdtype(images.dtype, jnp.floating):
        raise UsageError(
            f"{name}: images must be floats in [0, 1], got {images.dtype}; divide "
            "uint8 by 255, and standardise inside logits_fn"
        )
    images = images.astype(np.float32)
    if not (images.min() >= 0 and images.max() <= 1):
        raise UsageError(
            f"{name}: images must be in [0, 1], got {images.min():.4g} .. "
            f"{images.max():.4g}; standardise inside logits_fn"
        )
    logits = jax.eval_shape(logits_fn, images)
    if logits.shape[:1] != (len(images),) or len(logits.shape) != 2:
        raise UsageError(
            f"{name}: logits_fn must give [{len(images)}, C], got {logits.shape}"
        )
    if logits.shape[1] < 2:
        raise UsageError(
            f"{name}: logits_fn must give two classes or more, got {logits.shape}"
        )
    return images, checked_labels(name, labels, logits.shape).astype(np.int32)
