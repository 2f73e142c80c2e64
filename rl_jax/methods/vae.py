"""VAE: a latent-variable model and its posterior, trained on a bound of log p(x)."""

from rl_jax.methods.elbo import Estimator, Likelihood, evidence_bound
from rl_jax.methods.inputs import image
from rl_jax.types import Method, Network


def vae(
    encoder: Network,
    decoder: Network,
    *,
    latent: int = 16,
    likelihood: Likelihood = "gaussian",
    variance: float = 0.05,
    beta: float = 1.0,
    beta_warmup: int = 0,
    free_bits: float = 0.0,
    estimator: Estimator = "reparametrised",
    micro_batch: int | None = None,
) -> Method:
    """Variational autoencoder (Kingma & Welling 2014, arXiv:1312.6114).

    −E_q log p(x|z) + β Σ_j max(λ, KL(q(z_j|x) ‖ N(0, 1))), with q(z|x) = N(μ, σ²),
    (μ, log σ²) linear in h = f(x), and one sample of z per example. With β = 1 and
    λ = 0 it is −ELBO ≥ −log p(x); β ≠ 1 is the β-VAE (Higgins et al. 2017,
    openreview.net/forum?id=Sy2fzU9gl), λ free bits (Kingma et al. 2016,
    arXiv:1606.04934). Metrics: `distortion`, the first term; `rate`, the sum of the
    divergences; `elbo`, minus both, whatever β and λ are; `active_units`, dimensions
    whose mean divergence is above 0.01 nat; `beta` of the step.

    Args:
      encoder: f, images [B, ...] to representations h.
      decoder: z [B, d] to as many numbers as an image has: means, or logits.
      latent: d, dimensions of z.
      likelihood: gaussian: p(x|z) normal around the decoder's output; bernoulli: the
        output are logits, images must be in [0, 1].
      variance: of the Gaussian p(x|z), the same for all entries, > 0.
      beta: β ≥ 0, weight of the rate.
      beta_warmup: steps over which β rises linearly from 0; 0: none.
      free_bits: λ ≥ 0, nats per dimension of the batch's mean rate that cost nothing.
      estimator: of the gradient of E_q log p(x|z): reparametrised passes it through z;
        score_function is log p(x|z)·∇log q(z|x) + ∇log p(x|z), unbiased too, and
        noisier. The divergence is exact in both.
      micro_batch: examples whose activations of encoder and decoder are held at a time,
        as in `simclr`; None: all.

    Returns:
      A method with `encode` names `h`, `z` (μ) and `reconstruction` (the mean of
      p(x|μ), in the shape of the images).

    Raises:
      UsageError: for values out of range, or a decoder of another size than the images;
        as `micro_batched` does.
    """

    def inputs(batch):
        return image("vae", batch)

    return evidence_bound(
        encoder,
        decoder,
        name="vae",
        latent=latent,
        likelihood=likelihood,
        variance=variance,
        beta=beta,
        beta_warmup=beta_warmup,
        free=free_bits,
        estimator=estimator,
        inputs=inputs,
        micro_batch=micro_batch,
    )
