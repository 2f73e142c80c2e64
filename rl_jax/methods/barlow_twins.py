"""Barlow Twins: embeddings whose dimensions agree across views and differ otherwise."""

import functools

from rl_jax import losses
from rl_jax.errors import UsageError
from rl_jax.methods.joint_embedding import joint_embedding
from rl_jax.types import Method, Network


def barlow_twins(
    encoder: Network,
    projector: Network,
    *,
    off_diagonal: float = 0.0051,
    scale: float = 1.0,
    micro_batch: int | None = None,
) -> Method:
    """Barlow Twins (Zbontar et al. 2021, arXiv:2103.03230).

    The [d, d] cross-correlation c of z_a and z_b over the batch is drawn to the
    identity: Σ_i (1 − c_ii)² + λ Σ_{i≠j} c_ij². It gains from a wide z: the authors
    have a projector of three layers, 8192 wide. Batch statistics of the network are
    those of both views; the authors pass each by itself.

    Args:
      encoder: f, images to representations h.
      projector: g, h to the embeddings z the loss compares; discarded afterwards.
      off_diagonal: λ ≥ 0.
      scale: factor of the loss, see `losses.barlow_twins`.
      micro_batch: examples whose activations of the encoder are held at a time, as in
        `simclr`; None: all.

    Returns:
      A method with `encode` names `h` and `z`, and metrics `on_diagonal` and
      `off_diagonal`: the two sums, divided by d and by d(d − 1).

    Raises:
      UsageError: for factors out of range, or a micro-batch that batch, devices or
        encoder do not allow.
    """
    if off_diagonal < 0:
        raise UsageError(f"barlow_twins: off_diagonal must be >= 0, got {off_diagonal}")
    if scale <= 0:
        raise UsageError(f"barlow_twins: scale must be > 0, got {scale}")
    criterion = functools.partial(
        losses.barlow_twins, off_diagonal=off_diagonal, scale=scale
    )

    def measure(a, b):
        on, off = losses.barlow_twins_terms(a, b)
        d = a.shape[1]
        return {"on_diagonal": on / d, "off_diagonal": off / max(d * (d - 1), 1)}

    return joint_embedding(
        encoder, projector, criterion, measure=measure, micro_batch=micro_batch
    )
