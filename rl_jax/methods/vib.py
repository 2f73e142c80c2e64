"""Variational information bottleneck: a code that keeps little beside the task."""

import jax
import jax.numpy as jnp

from rl_jax import networks
from rl_jax.losses import gaussian_kl, gaussian_sample, info_nce
from rl_jax.methods import arguments, noise, posterior, tower
from rl_jax.methods.classifier import cross_entropy
from rl_jax.methods.inputs import image, take
from rl_jax.methods.micro_batch import micro_batched
from rl_jax.methods.sharpness import sharpness
from rl_jax.types import Aux, Method, Network


def vib(
    encoder: Network,
    *,
    num_classes: int,
    latent: int = 32,
    beta: float = 1e-3,
    micro_batch: int | None = None,
) -> Method:
    """Deep variational information bottleneck (Alemi et al. 2017, arXiv:1612.00410).

    E[−log q(y|t)] + β·KL(q(t|x) ‖ N(0, I)), with q(t|x) = N(μ, σ²), (μ, log σ²) linear
    in h = f(x), one sample of t per example, and q(y|t) linear in t. The second term,
    the metric `rate`, is at least I(X; T), the first at least H(Y|T). With β = 0 and
    σ → 0 it is cross-entropy of a plain classifier.

    Args:
      encoder: f, images to representations h.
      num_classes: C ≥ 2; `batch["label"]` in [0, C), −1 where unknown: such an example
        does not count.
      latent: d, dimensions of t.
      beta: β ≥ 0, the price of a nat.
      micro_batch: examples whose activations of the encoder are held at a time, as in
        `simclr`; None: all.

    Returns:
      A method with `encode` names `h`, `z` (μ) and `logits` (of q(y|μ)).

    Raises:
      UsageError: for values out of range, or a batch without labels; as `micro_batched`
        does.
    """
    arguments.at_least("vib", 2, num_classes=num_classes)
    arguments.at_least("vib", 1, latent=latent)
    arguments.not_negative("vib", beta=beta)
    if micro_batch is not None:
        encoder = micro_batched(encoder, micro_batch)
    recognition = posterior.gaussian_encoder(encoder, latent=latent)
    classifier = networks.linear(out=num_classes)

    def init(rng, batch):
        take("vib", batch, "label")
        x = image("vib", batch)
        rng_encoder, rng_classifier = jax.random.split(rng)
        params, state = recognition.init(rng_encoder, x)
        t = jnp.zeros((len(x), latent), jnp.float32)
        name = "classifier"
        params[name], state[name] = classifier.init(rng_classifier, t)
        return params, state

    def loss(params, state, batch, rng):
        label, x = take("vib", batch, "label"), image("vib", batch)
        (rng_encoder,) = noise.keys(rng, 1)
        q, new = recognition.apply(params, state, x, train=True, rng=rng_encoder)
        t = gaussian_sample(rng, q.mean, q.log_variance, index=batch["index"])
        logits, new["classifier"] = classifier.apply(
            params["classifier"], state["classifier"], t, train=True
        )

        distortion, accuracy = cross_entropy(logits, label)
        known = label >= 0
        weight = known / jnp.maximum(known.sum(), 1)
        kl = gaussian_kl(q.mean, q.log_variance)
        rates = posterior.rates(jnp.sum(weight[:, None] * kl, axis=0))
        metrics = rates | {"distortion": distortion, "accuracy": accuracy}
        value = distortion + beta * rates["rate"]
        return value, Aux(new, metrics, posterior.features(q))

    def encode(params, state, batch):
        x = image("vib", batch)
        q, _ = recognition.apply(params, state, x, train=False)
        logits, _ = classifier.apply(
            params["classifier"], state["classifier"], q.mean, train=False
        )
        return {"h": q.h, "z": q.mean, "logits": logits} | networks.layers_of(
            encoder, params["encoder"], state["encoder"], x
        )

    return Method(init, loss, encode, classes=num_classes)


def contrastive_vib(
    encoder: Network,
    *,
    latent: int = 32,
    beta: float = 1e-3,
    temperature: float = 0.5,
    micro_batch: int | None = None,
) -> Method:
    """Information bottleneck without labels: InfoNCE between codes of two views + β·KL.

    As `vib` (Alemi et al. 2017, arXiv:1612.00410), with the other view in place of the
    label (van den Oord et al. 2018, arXiv:1807.03748): InfoNCE(t_a, t_b) +
    β·½[KL(q(t_a|x_a) ‖ N(0, I)) + KL(q(t_b|x_b) ‖ N(0, I))], one sample of t per view,
    by cosine. log B − InfoNCE is at most I(T_a; T_b) in expectation.

    Args:
      encoder: f, images to representations h.
      latent: d, dimensions of t.
      beta: β ≥ 0, the price of a nat.
      temperature: τ > 0 of InfoNCE.
      micro_batch: examples whose activations of the encoder are held at a time, as in
        `simclr`; None: all.

    Returns:
      A method with `encode` names `h` and `z` (the mean of q(t|x)). Metrics: those of
      the rate; `softmax_entropy` and `max_softmax`, see `sharpness`.

    Raises:
      UsageError: for values out of range, or a batch without two views; as
        `micro_batched` does.
    """
    name = "contrastive_vib"
    arguments.at_least(name, 1, latent=latent)
    arguments.not_negative(name, beta=beta)
    arguments.positive(name, temperature=temperature)
    if micro_batch is not None:
        encoder = micro_batched(encoder, micro_batch, views=2)
    recognition = posterior.gaussian_encoder(encoder, latent=latent)

    def init(rng, batch):
        return recognition.init(rng, tower.two_views(batch)[:, 0])

    def loss(params, state, batch, rng):
        x = tower.flatten_views(tower.two_views(batch))
        (rng_encoder,) = noise.keys(rng, 1)
        q, state = recognition.apply(params, state, x, train=True, rng=rng_encoder)
        mean, log_variance = (tower.split_views(s, 2) for s in (q.mean, q.log_variance))
        t = gaussian_sample(rng, mean, log_variance, index=batch["index"])
        distortion = info_nce(t[:, 0], t[:, 1], temperature=temperature)
        kl = gaussian_kl(q.mean, q.log_variance)
        rates = posterior.rates(jnp.mean(kl, axis=0))
        value = distortion + beta * rates["rate"]
        metrics = rates | {"distortion": distortion}
        metrics |= sharpness(t[:, 0], t[:, 1], scale=1 / temperature)
        return value, Aux(state, metrics, posterior.features(q, views=2))

    def encode(params, state, batch):
        x = image(name, batch)
        q, _ = recognition.apply(params, state, x, train=False)
        return {"h": q.h, "z": q.mean} | networks.layers_of(
            encoder, params["encoder"], state["encoder"], x
        )

    return Method(init, loss, encode)
