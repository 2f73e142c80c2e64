"""Denoising autoencoders: the clean image from a corrupted one."""

import functools

import chex
import jax
import jax.numpy as jnp

from rl_jax.errors import UsageError
from rl_jax.methods import arguments
from rl_jax.methods.reconstruction import Error, autoencoding
from rl_jax.types import Method, Network


def denoising_autoencoder(
    encoder: Network,
    decoder: Network,
    *,
    noise: float = 0.3,
    masked: float = 0.0,
    error: Error = "squared",
    micro_batch: int | None = None,
) -> Method:
    """Denoising autoencoder (Vincent et al. 2008, doi:10.1145/1390156.1390294).

    min E‖x − r(x̃)‖², r = g∘f, x̃ = m ∘ (x + σε), ε ~ N(0, I), each entry of m 0 with
    probability q. With q = 0 the minimum is the posterior mean, and tells the score of
    the density p_σ of x̃ (Vincent 2011, doi:10.1162/NECO_a_00142; Alain & Bengio 2014,
    arXiv:1211.4246): r*(x̃) = E[x|x̃] = x̃ + σ²∇log p_σ(x̃); `theory.denoiser_score`
    makes a score of a reconstruction.

    Args:
      encoder: f, images [B, ...] to representations h, which may be wider than x.
      decoder: g, h to as many numbers as an image has: values, or logits.
      noise: σ ≥ 0, in units of the images.
      masked: q in [0, 1], the share of entries set to 0.
      error: squared, or cross_entropy for images in [0, 1].
      micro_batch: examples whose activations of encoder and decoder are held at a time,
        as in `simclr`; None: all.

    Returns:
      A method with `encode` names `h` and `reconstruction` = r(image): images are taken
      as they are, nothing is added. Metric: `explained`, the share of the variance of
      the clean batch.

    Raises:
      UsageError: for values out of range, no corruption at all, or a decoder of another
        size than the images; as `micro_batched` does.
    """
    name = "denoising_autoencoder"
    arguments.not_negative(name, noise=noise)
    arguments.shares(name, masked=masked)
    given = [v for v in (noise, masked) if not isinstance(v, jax.core.Tracer)]
    if len(given) == 2 and not any(given):
        raise UsageError(
            f"{name}: noise or masked must be > 0, got 0 and 0; use autoencoder to "
            "reconstruct what is seen"
        )
    corrupt = functools.partial(corrupted, noise=noise, masked=masked)
    return autoencoding(
        encoder,
        lambda _: decoder,
        name=name,
        error=error,
        corrupt=corrupt,
        micro_batch=micro_batch,
    )


def corrupted(
    rng: chex.PRNGKey,
    image: chex.Array,
    index: chex.Array,
    *,
    noise: float,
    masked: float,
) -> chex.Array:
    """Images m ∘ (x + σε); that of example i is drawn from fold_in(rng, index[i])."""

    def one(i, x):
        rng_noise, rng_mask = jax.random.split(jax.random.fold_in(rng, i))
        x = x + noise * jax.random.normal(rng_noise, x.shape, x.dtype)
        kept = jax.random.bernoulli(rng_mask, 1.0 - masked, x.shape)
        return jnp.where(kept, x, 0)

    return jax.vmap(one)(index, image)
