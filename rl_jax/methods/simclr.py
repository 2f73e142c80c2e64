"""SimCLR: agreement of two views against every other view of the batch."""

import functools
import math

from rl_jax.errors import UsageError
from rl_jax.losses import nt_xent
from rl_jax.methods import tower
from rl_jax.methods.joint_embedding import joint_embedding
from rl_jax.methods.sharpness import sharpness
from rl_jax.pairwise import Precision
from rl_jax.types import Method, Network


def simclr(
    encoder: Network,
    projector: Network,
    *,
    temperature: float = 0.5,
    decoupled: bool = False,
    micro_batch: int | None = None,
    precision: Precision | None = None,
) -> Method:
    """SimCLR (Chen et al. 2020, arXiv:2002.05709): NT-Xent on g(f(x)) of two views.

    mean over the N = 2B views of log Σ_{j≠i} exp(s_ij/τ) − s_{i,p(i)}/τ, with s the
    cosine similarity and p(i) the other view of the same image. The N × N similarities
    are streamed: memory grows with B, not with B².

    Args:
      encoder: f, images to representations h.
      projector: g, h to the embeddings z the loss compares; discarded afterwards.
      temperature: softmax temperature τ > 0; 0.5 for small batches, 0.1 for thousands.
      decoupled: leave the positive p(i) out of the sum over j, as DCL does (Yeh et al.
        2022, arXiv:2110.06848): for small batches.
      micro_batch: examples whose activations of the encoder are held at a time, a
        divisor of the batch; None: all. The gradient stays that of the whole batch
        (GradCache), for one more forward pass. The encoder must be without BatchNorm or
        have a split by which a micro-batch holds whole groups.
      precision: of the similarities; None: float32 in full. "bf16" rounds them (errors
        of 3e-3 in the gradient), "bf16x3" takes three such products (1e-5): for
        hardware whose bfloat16 products are much faster.

    Returns:
      A method with `encode` names `h` and `z`. Metrics: `softmax_entropy` and
      `max_softmax`, see `sharpness`.

    Raises:
      UsageError: for a temperature that is not positive and finite, or a micro-batch
        that batch, devices or encoder do not allow.
    """
    if not 0 < temperature < math.inf:
        raise UsageError(
            f"simclr: temperature must be > 0 and finite, got {temperature}"
        )
    criterion = functools.partial(
        nt_xent, temperature=temperature, decoupled=decoupled, precision=precision
    )

    def measure(a, b):
        views = tower.interleave([a, b])
        return sharpness(views, views, scale=1 / temperature, exclude_self=True)

    return joint_embedding(
        encoder, projector, criterion, measure=measure, micro_batch=micro_batch
    )
