"""Soft assignments of embeddings to prototypes, and how one view predicts another's."""

import chex
import jax
import jax.numpy as jnp
from jax.nn import logsumexp

from rl_jax.errors import UsageError, checked, known
from rl_jax.losses.normalize import normalize


@checked
def prototype_scores(z: chex.Array, prototypes: chex.Array) -> chex.Array:
    """Cosines of embeddings and prototypes, ⟨z, c_k⟩/‖z‖‖c_k‖.

    Args:
      z: [..., D] embeddings; normalised here, in float32.
      prototypes: [K, D]; normalised here.

    Returns:
      [..., K] float32 in [−1, 1].

    Raises:
      UsageError: for widths that differ.
    """
    check_width("prototype_scores", z, prototypes)
    z, prototypes = normalize(z), normalize(prototypes)
    return jnp.einsum("...d,kd->...k", z, prototypes, precision="highest")


def check_width(name: str, z: chex.Array, prototypes: chex.Array) -> None:
    """Refuses embeddings and prototypes of widths that differ.

    Raises:
      UsageError: naming the function and both shapes.
    """
    if prototypes.ndim != 2 or z.shape[-1:] != prototypes.shape[1:]:
        raise UsageError(
            f"{name}: expected embeddings [..., D] and prototypes [K, D], got "
            f"{z.shape}, {prototypes.shape}"
        )


@checked
def sinkhorn(
    scores: chex.Array,
    weight: chex.Array | None = None,
    *,
    epsilon: chex.Numeric = 0.05,
    iterations: int = 3,
) -> chex.Array:
    """Assignments that use all prototypes alike (Caron et al. 2020, arXiv:2006.09882).

    max_Q Σ_ik Q_ik s_ik + ε H(Q) over Q ≥ 0 with Σ_k Q_ik = 1 and Σ_i Q_ik = B/K, by
    Sinkhorn-Knopp: exp(s/ε), its columns and then its rows brought to these sums, again
    and again. In logarithms, so that no ε overflows. Rows come last: each sums to one,
    columns only in the limit. The columns are those of the whole batch.

    Args:
      scores: [B, K] similarities s; float32 here. No gradient is stopped: stop it where
        assignments are targets.
      weight: [B] ≥ 0, how much of a column's sum a row is, without gradient; one of 0
        changes no other row, whatever it holds. None: 1.
      epsilon: ε > 0, a float or a scalar array; smaller is harder.
      iterations: pairs of steps, ≥ 1; the authors' 3.

    Returns:
      [B, K] float32, each row a distribution.

    Raises:
      UsageError: for values out of range or shapes that do not fit.
    """
    if scores.ndim != 2 or 0 in scores.shape:
        raise UsageError(f"sinkhorn: expected scores [B, K], got {scores.shape}")
    if weight is not None and weight.shape != scores.shape[:1]:
        raise UsageError(
            f"sinkhorn: expected a weight for each row, {scores.shape[:1]}, got "
            f"{weight.shape}"
        )
    check_sinkhorn("sinkhorn", weight, epsilon, iterations)
    log_q = scores.astype(jnp.float32) / epsilon
    columns = None
    if weight is not None:
        columns = jax.lax.stop_gradient(weight).astype(jnp.float32)[:, None]
    for _ in range(iterations):
        total = logsumexp(log_q, axis=0, b=columns, keepdims=True)
        # Without any row that counts there is no sum to bring them to.
        log_q = log_q - jnp.where(jnp.isneginf(total), 0.0, total)
        log_q = log_q - logsumexp(log_q, axis=1, keepdims=True)
    return jnp.exp(log_q)


def check_sinkhorn(
    name: str, weight: chex.Array | None, epsilon: chex.Numeric, iterations: int
) -> None:
    """Refuses weights, ε or iterations that are out of range, where they are known.

    Raises:
      UsageError: naming the function and what was given.
    """
    rows = None if weight is None else known(weight)
    if rows is not None and not ((rows >= 0) & (rows < jnp.inf)).all():
        raise UsageError(
            f"{name}: weights must be >= 0 and finite, got {rows.min()} .. {rows.max()}"
        )
    number = known(epsilon)
    if number is not None and not 0 < number < jnp.inf:
        raise UsageError(f"{name}: epsilon must be > 0 and finite, got {epsilon}")
    if iterations < 1:
        raise UsageError(f"{name}: iterations must be at least 1, got {iterations}")


@checked
def swapped_cross_entropy(targets: chex.Array, logits: chex.Array) -> chex.Array:
    """Cross-entropy of every view with the targets made from another one.

    The mean over examples and over the T(V − 1) pairs of a target t and a view v ≠ t of
    −Σ_k q_tk log softmax(l_v)_k: SwAV's swapped prediction (Caron et al. 2020,
    arXiv:2006.09882), and DINO's (Caron et al. 2021, arXiv:2104.14294).

    Args:
      targets: [B, T, K] distributions q, made from the first T views.
      logits: [B, V, K] of all views, V ≥ max(T, 2).

    Returns:
      Scalar float32 ≥ 0.

    Raises:
      UsageError: for shapes that do not fit together.
    """
    fits = targets.ndim == logits.ndim == 3 and (
        targets.shape[::2] == logits.shape[::2]
        and 1 <= targets.shape[1] <= logits.shape[1]
        and logits.shape[1] >= 2
    )
    if not fits:
        raise UsageError(
            "swapped_cross_entropy: expected targets [B, T, K] and logits [B, V, K] "
            f"with T <= V and V >= 2, got {targets.shape}, {logits.shape}"
        )
    q = targets.astype(jnp.float32)
    log_p = jax.nn.log_softmax(logits.astype(jnp.float32), axis=-1)
    pairs = 1.0 - jnp.eye(q.shape[1], log_p.shape[1], dtype=jnp.float32)
    others = jnp.einsum("tv,bvk->btk", pairs, log_p, precision="highest")
    return -jnp.mean(jnp.sum(q * others, (1, 2))) / jnp.sum(pairs)


@checked
def patch_cross_entropy(
    targets: chex.Array, logits: chex.Array, weight: chex.Array
) -> chex.Array:
    """Cross-entropy of patches, a mean in each image, then over images.

    mean_b [Σ_j w_bj CE_bj / max(Σ_j w_bj, 1)], CE_bj = −Σ_k q_bjk log softmax(l_bj)_k:
    iBOT's (Zhou et al. 2022, arXiv:2111.07832). An image counts as one however many of
    its patches do; one without any adds 0, and is counted.

    Args:
      targets: [B, L, K] distributions q.
      logits: [B, L, K].
      weight: [B, L], 1 where a patch counts and 0 where it does not, which may hold
        anything then.

    Returns:
      Scalar float32 ≥ 0.

    Raises:
      UsageError: for shapes that do not fit together.
    """
    shape = logits.shape
    if len(shape) != 3 or targets.shape != shape or weight.shape != shape[:2]:
        raise UsageError(
            "patch_cross_entropy: expected targets and logits [B, L, K] and a weight "
            f"[B, L], got {targets.shape}, {shape}, {weight.shape}"
        )
    counts = (weight > 0)[..., None]
    q = jnp.where(counts, targets.astype(jnp.float32), 0.0)
    log_p = jax.nn.log_softmax(jnp.where(counts, logits.astype(jnp.float32), 0.0), -1)
    weight = weight.astype(jnp.float32)
    rows = weight * -jnp.sum(q * log_p, axis=-1)
    return jnp.mean(jnp.sum(rows, 1) / jnp.maximum(jnp.sum(weight, 1), 1.0))
