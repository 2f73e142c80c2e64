"""iVAE: a VAE whose prior depends on an observed segment, and is identifiable."""

import jax
import jax.numpy as jnp

from rl_jax.errors import UsageError
from rl_jax.methods import arguments
from rl_jax.methods.elbo import Prior, evidence_bound
from rl_jax.methods.inputs import image, take
from rl_jax.types import Method, Network

NARROW = -3.0
"""Added to log σ² of q: codes start narrow."""


def ivae(
    encoder: Network,
    decoder: Network,
    *,
    num_segments: int,
    latent: int = 4,
    variance: float = 0.01,
) -> Method:
    """Identifiable VAE (Khemakhem et al. 2020, arXiv:1907.04809).

    −E_q log p(x|z) + KL(q(z|x, u) ‖ p(z|u)), where p(z|u) = N(μ_u, σ_u²) is a trained
    table with a row per segment u, and the encoder sees x and u. Where the variances of
    the sources differ enough between segments, z equals them up to order, scale and
    sign. Local optima are common: train a few restarts and keep the highest ELBO.
    Metrics as in `vae`.

    Args:
      encoder: f, [B, D + num_segments] to representations h: x flattened, then u
        one-hot.
      decoder: z [B, d] to as many numbers as an image has, the means of p(x|z).
      num_segments: S; `batch["u"]` int in [0, S).
      latent: d, dimensions of z.
      variance: of the Gaussian p(x|z), > 0.

    Returns:
      A method with `encode` names `h`, `z` (the mean of q(z|x, u)) and
      `reconstruction`; `encode` needs `u`, too.

    Raises:
      UsageError: for values out of range, a batch without u, or a decoder of another
        size than the images. A u out of range, which no shape tells, makes the loss
        NaN.
    """
    arguments.at_least("ivae", 1, num_segments=num_segments)

    def segment(batch):
        u = take("ivae", batch, "u")
        if u.ndim != 1 or not jnp.issubdtype(u.dtype, jnp.integer):
            raise UsageError(f"ivae: expected u [B] int, got {u.dtype} {u.shape}")
        return u

    def inputs(batch):
        x = image("ivae", batch)
        u = jax.nn.one_hot(segment(batch), num_segments, dtype=x.dtype)
        return jnp.concatenate([x.reshape(x.shape[0], -1), u], axis=1)

    def init():
        rows = jnp.zeros((num_segments, latent), jnp.float32)
        return {"prior": {"mean": rows, "log_variance": rows}}

    def apply(params, batch):
        u, prior = segment(batch), params["prior"]
        known = ((u >= 0) & (u < num_segments))[:, None]
        return tuple(
            jnp.where(known, prior[name][u], jnp.nan)
            for name in ("mean", "log_variance")
        )

    return evidence_bound(
        encoder,
        decoder,
        name="ivae",
        latent=latent,
        variance=variance,
        offset=NARROW,
        inputs=inputs,
        prior=Prior(init, apply),
    )
