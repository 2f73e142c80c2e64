"""Variational information bottleneck: a code that keeps little beside the task."""

import jax
import jax.numpy as jnp
import optax

from rl_jax import networks
from rl_jax.losses import gaussian_kl, gaussian_sample, info_nce
from rl_jax.methods import posterior, tower
from rl_jax.types import Aux, Method, Network


def vib(
    encoder: Network,
    *,
    num_classes: int,
    latent: int = 32,
    beta: float = 1e-3,
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

    Returns:
      A method with `encode` names `h` and `z` (μ).

    Raises:
      UsageError: for values out of range, or a batch without labels.
    """
    posterior.check_count("vib", "num_classes", num_classes, least=2)
    posterior.check_count("vib", "latent", latent)
    posterior.check_range("vib", "beta", beta, zero=True)
    recognition = posterior.gaussian_encoder(encoder, latent=latent)
    classifier = networks.projection_head(
        hidden=1, out=num_classes, layers=1, batch_norm=False
    )

    def image(batch):
        return posterior.take("vib", batch, "image", "use data with images")

    def init(rng, batch):
        x = image(batch)
        rng_encoder, rng_classifier = jax.random.split(rng)
        params, state = recognition.init(rng_encoder, x)
        t = jnp.zeros((len(x), latent), jnp.float32)
        name = "classifier"
        params[name], state[name] = classifier.init(rng_classifier, t)
        return params, state

    def loss(params, state, batch, rng):
        label = posterior.take("vib", batch, "label", "use data with labels")
        q, new = recognition.apply(params, state, image(batch), train=True)
        t = gaussian_sample(rng, q.mean, q.log_variance, index=batch["index"])
        logits, new["classifier"] = classifier.apply(
            params["classifier"], state["classifier"], t, train=True
        )

        known = label >= 0
        weight = known / jnp.maximum(known.sum(), 1)
        log_likelihood = -optax.softmax_cross_entropy_with_integer_labels(
            jnp.asarray(logits, jnp.float32), jnp.where(known, label, 0)
        )
        distortion = -jnp.sum(weight * log_likelihood)
        kl = gaussian_kl(q.mean, q.log_variance)
        rates = posterior.rates(weight @ kl)
        metrics = rates | {
            "distortion": distortion,
            "accuracy": jnp.sum(weight * (logits.argmax(-1) == label)),
        }
        value = distortion + beta * rates["rate"]
        return value, Aux(new, metrics, posterior.features(q))

    def encode(params, state, batch):
        q, _ = recognition.apply(params, state, image(batch), train=False)
        return {"h": q.h, "z": q.mean}

    return Method(init, loss, encode)


def contrastive_vib(
    encoder: Network,
    *,
    latent: int = 32,
    beta: float = 1e-3,
    temperature: float = 0.5,
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

    Returns:
      A method with `encode` names `h` and `z` (the mean of q(t|x)).

    Raises:
      UsageError: for values out of range, or a batch without two views.
    """
    name = "contrastive_vib"
    posterior.check_count(name, "latent", latent)
    posterior.check_range(name, "beta", beta, zero=True)
    posterior.check_range(name, "temperature", temperature, zero=False)
    recognition = posterior.gaussian_encoder(encoder, latent=latent)

    def init(rng, batch):
        views = posterior.take(name, batch, "views", "use an augmentation")
        return recognition.init(rng, views[:, 0])

    def loss(params, state, batch, rng):
        views = posterior.take(name, batch, "views", "use an augmentation")
        x = tower.flatten_views(views)
        q, state = recognition.apply(params, state, x, train=True)
        mean, log_variance = (tower.split_views(s, 2) for s in (q.mean, q.log_variance))
        t = gaussian_sample(rng, mean, log_variance, index=batch["index"])
        distortion = info_nce(t[:, 0], t[:, 1], temperature=temperature)
        kl = gaussian_kl(q.mean, q.log_variance)
        rates = posterior.rates(jnp.mean(kl, axis=0))
        value = distortion + beta * rates["rate"]
        metrics = rates | {"distortion": distortion}
        return value, Aux(state, metrics, posterior.features(q, views=2))

    def encode(params, state, batch):
        x = posterior.take(name, batch, "image", "use data with images")
        q, _ = recognition.apply(params, state, x, train=False)
        return {"h": q.h, "z": q.mean}

    return Method(init, loss, encode)
