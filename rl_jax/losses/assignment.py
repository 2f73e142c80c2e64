"""Soft assignments of embeddings to prototypes, and how one view predicts another's."""

import chex
import jax
import jax.numpy as jnp
from jax.nn import logsumexp

from rl_jax.errors import UsageError, checked
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
    if prototypes.ndim != 2 or z.shape[-1:] != prototypes.shape[1:]:
        raise UsageError(
            "prototype_scores: expected embeddings [..., D] and prototypes [K, D], got "
            f"{z.shape}, {prototypes.shape}"
        )
    z, prototypes = normalize(z), normalize(prototypes)
    return jnp.einsum("...d,kd->...k", z, prototypes, precision="highest")


@checked
def sinkhorn(
    scores: chex.Array, *, epsilon: float = 0.05, iterations: int = 3
) -> chex.Array:
    """Assignments that use all prototypes alike (Caron et al. 2020, arXiv:2006.09882).

    max_Q Σ_ik Q_ik s_ik + ε H(Q) over Q ≥ 0 with Σ_k Q_ik = 1 and Σ_i Q_ik = B/K, by
    Sinkhorn-Knopp: exp(s/ε), its columns and then its rows brought to these sums, again
    and again. In logarithms, so that no ε overflows. Rows come last: each sums to one,
    columns only in the limit. The columns are those of the whole batch.

    Args:
      scores: [B, K] similarities s; float32 here. No gradient is stopped: stop it where
        assignments are targets.
      epsilon: ε > 0; smaller is harder.
      iterations: pairs of steps, ≥ 1; the authors' 3.

    Returns:
      [B, K] float32, each row a distribution.

    Raises:
      UsageError: for values out of range or another rank.
    """
    if scores.ndim != 2 or 0 in scores.shape:
        raise UsageError(f"sinkhorn: expected scores [B, K], got {scores.shape}")
    if not 0 < epsilon < float("inf"):
        raise UsageError(f"sinkhorn: epsilon must be > 0 and finite, got {epsilon}")
    if iterations < 1:
        raise UsageError(f"sinkhorn: iterations must be at least 1, got {iterations}")
    log_q = scores.astype(jnp.float32) / epsilon
    for _ in range(iterations):
        log_q = log_q - logsumexp(log_q, axis=0, keepdims=True)
        log_q = log_q - logsumexp(log_q, axis=1, keepdims=True)
    return jnp.exp(log_q)


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
