"""VICReg: equal views, every dimension spread out, no two dimensions correlated."""

import functools

from rl_jax import losses
from rl_jax.errors import UsageError
from rl_jax.methods.joint_embedding import joint_embedding
from rl_jax.types import Method, Network


def vicreg(
    encoder: Network,
    projector: Network,
    *,
    invariance: float = 25.0,
    variance: float = 25.0,
    covariance: float = 1.0,
    micro_batch: int | None = None,
) -> Method:
    """VICReg (Bardes, Ponce & LeCun 2022, arXiv:2105.04906).

    λ·mean (z_a − z_b)² + μ·(hinge of each dimension's standard deviation at 1)
    + ν·(squared covariances of different dimensions), see `losses.vicreg`. The authors
    have a projector of three layers, 8192 wide. Batch statistics of the network are
    those of both views; the authors pass each by itself.

    Args:
      encoder: f, images to representations h.
      projector: g, h to the embeddings z the loss compares; discarded afterwards.
      invariance, variance, covariance: λ, μ, ν ≥ 0.
      micro_batch: examples whose activations of the encoder are held at a time, as in
        `simclr`; None: all.

    Returns:
      A method with `encode` names `h` and `z`, and metrics `invariance`, `variance` and
      `covariance`: the three terms without their factors.

    Raises:
      UsageError: for factors out of range, or a micro-batch that batch, devices or
        encoder do not allow.
    """
    factors = {"invariance": invariance, "variance": variance, "covariance": covariance}
    for name, value in factors.items():
        if value < 0:
            raise UsageError(f"vicreg: {name} must be >= 0, got {value}")

    def measure(a, b):
        return losses.vicreg_terms(a, b)._asdict()

    criterion = functools.partial(losses.vicreg, **factors)
    return joint_embedding(
        encoder, projector, criterion, measure=measure, micro_batch=micro_batch
    )
