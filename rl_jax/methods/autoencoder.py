"""Autoencoders: a code from which the image can be made again."""

import math

from rl_jax import networks
from rl_jax.methods import arguments
from rl_jax.methods.reconstruction import Error, autoencoding
from rl_jax.types import Method, Network


def linear_autoencoder(*, code: int = 16) -> Method:
    """Linear autoencoder (Baldi & Hornik 1989, Neural Networks 2:53-58).

    min E‖x − W₂W₁x‖² over W₁ [k, D], W₂ [D, k], for centred x; biases of both layers
    do the centring here. Every minimum has W₂W₁ = the projector on the k leading
    eigenvectors of the covariance, and the error Σ_{j>k} λ_j (`theory.pca_floor`); all
    other critical points are saddles. The code is known up to an invertible map only:
    (W₂R, R⁻¹W₁) does the same.

    Args:
      code: k ≥ 1, width of the code.

    Returns:
      A method for `image`, of any shape, flattened. `encode` names `h`, the code, and
      `reconstruction`. Parameters are kept as [in, out]: `encoder` [D, k], `decoder`
      [k, D]. Metric: `explained`, the share of the variance of the batch.

    Raises:
      UsageError: for a code below 1, or a batch without images of a float dtype.
    """
    arguments.at_least("linear_autoencoder", 1, code=code)

    def decoder(image):
        return networks.linear(out=math.prod(image.shape[1:]))

    return autoencoding(networks.linear(out=code), decoder, name="linear_autoencoder")


def autoencoder(
    encoder: Network,
    decoder: Network,
    *,
    error: Error = "squared",
    micro_batch: int | None = None,
) -> Method:
    """Autoencoder (Hinton & Salakhutdinov 2006, doi:10.1126/science.1127647).

    min E‖x − g(f(x))‖², or the cross-entropy −Σ x log p + (1 − x) log(1 − p), p the
    sigmoid of g(f(x)); summed over the image, the mean over the batch. Only a code
    narrower than the data keeps it from copying; those that a corruption or a penalty
    keeps from it are `denoising_autoencoder` and `sparse_autoencoder`.

    Args:
      encoder: f, images [B, ...] to the code h.
      decoder: g, h to as many numbers as an image has: values, or logits.
      error: squared, or cross_entropy for images in [0, 1].
      micro_batch: examples whose activations of encoder and decoder are held at a time,
        as in `simclr`; None: all.

    Returns:
      A method with `encode` names `h` and `reconstruction`, in the shape of the images.
      Metric: `explained`, the share of the variance of the batch.

    Raises:
      UsageError: for another error, or a decoder of another size than the images; as
        `micro_batched` does.
    """
    return autoencoding(
        encoder,
        lambda _: decoder,
        name="autoencoder",
        error=error,
        micro_batch=micro_batch,
    )
