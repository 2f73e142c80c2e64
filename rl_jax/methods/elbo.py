"""Autoencoders trained on the evidence lower bound: what vae and ivae share."""

import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import chex
import jax
import jax.numpy as jnp

from rl_jax import networks
from rl_jax.errors import UsageError
from rl_jax.losses import (
    bernoulli_log_likelihood,
    free_bits,
    gaussian_kl,
    gaussian_log_likelihood,
    gaussian_sample,
)
from rl_jax.methods import arguments, noise, posterior
from rl_jax.methods.inputs import image
from rl_jax.methods.micro_batch import micro_batched
from rl_jax.methods.reconstruction import in_shape_of
from rl_jax.types import Aux, Batch, Method, Network, Params, State

Likelihood = Literal["gaussian", "bernoulli"]
Estimator = Literal["reparametrised", "score_function"]


class ELBOState(NamedTuple):
    """Carried from step to step.

    Attributes:
      networks: batch statistics of encoder, code and decoder.
      step: int32, steps taken; drives the warm-up of beta.
    """

    networks: State
    step: chex.Array


class Prior(NamedTuple):
    """p(z) of each example, a diagonal Gaussian.

    Attributes:
      init: `() -> params`, a dict that joins those of the networks.
      apply: `(params, batch) -> (mean, log variance)`, [B, d] each; none for N(0, I).
    """

    init: Callable[[], dict[str, Any]]
    apply: Callable[[Params, Batch], tuple[chex.Array, ...]]


STANDARD = Prior(init=dict, apply=lambda params, batch: ())


def evidence_bound(
    encoder: Network,
    decoder: Network,
    *,
    name: str,
    latent: int,
    likelihood: Likelihood = "gaussian",
    variance: float,
    beta: float = 1.0,
    beta_warmup: int = 0,
    free: float = 0.0,
    estimator: Estimator = "reparametrised",
    offset: float = 0.0,
    inputs: Callable[[Batch], chex.Array],
    prior: Prior = STANDARD,
    micro_batch: int | None = None,
) -> Method:
    """The method whose loss is −E_q log p(x|z) + β·KL(q(z|inputs) ‖ p(z)).

    Args:
      encoder: f, what `inputs` returns to representations h.
      decoder: z [B, d] to arrays that hold as many numbers as the images.
      name: of the factory, for messages.
      latent, likelihood, variance, beta, beta_warmup, estimator: as in `vae`.
      free: nats per dimension that cost nothing, as `free_bits` in `vae`.
      offset: added to the log variance of q.
      inputs: `(batch) -> [B, ...]`, what the encoder sees.
      prior: of the code.
      micro_batch: as in `vae`.

    Returns:
      A method with `encode` names `h`, `z` and `reconstruction`.

    Raises:
      UsageError: for values out of range, or a decoder of another size than the images;
        as `micro_batched` does.
    """
    for what, value, known in (
        ("likelihood", likelihood, ("gaussian", "bernoulli")),
        ("estimator", estimator, ("reparametrised", "score_function")),
    ):
        if value not in known:
            expected = ", ".join(known)
            raise UsageError(f"{name}: {what} must be one of {expected}, got {value!r}")
    arguments.at_least(name, 1, latent=latent)
    arguments.at_least(name, 0, beta_warmup=beta_warmup)
    arguments.positive(name, variance=variance)
    arguments.not_negative(name, beta=beta, free_bits=free)
    if micro_batch is not None:
        encoder = micro_batched(encoder, micro_batch)
        decoder = micro_batched(decoder, micro_batch, role="decoder")
    recognition = posterior.gaussian_encoder(encoder, latent=latent, offset=offset)

    def decode(params, state, z, x, *, train, rng=None):
        """Decoder's output in the shape of x: means, or logits."""
        out, state = decoder.apply(
            params["decoder"], state["decoder"], z, train=train, rng=rng
        )
        return in_shape_of(name, out, x), state

    def log_likelihood(x, out):
        if likelihood == "bernoulli":
            return bernoulli_log_likelihood(x, out)
        return gaussian_log_likelihood(x, out, math.log(variance))

    def init(rng, batch):
        x = image(name, batch)
        rng_encoder, rng_decoder = jax.random.split(rng)
        params, state = recognition.init(rng_encoder, inputs(batch))
        z = jnp.zeros((len(x), latent), jnp.float32)
        params["decoder"], state["decoder"] = decoder.init(rng_decoder, z)
        jax.eval_shape(lambda z: decode(params, state, z, x, train=False)[0], z)
        return params | prior.init(), ELBOState(state, jnp.zeros([], jnp.int32))

    def loss(params, state, batch, rng):
        x = image(name, batch)
        rng_encoder, rng_decoder = noise.keys(rng, 2)
        q, nets = recognition.apply(
            params, state.networks, inputs(batch), train=True, rng=rng_encoder
        )
        z = gaussian_sample(rng, q.mean, q.log_variance, index=batch["index"])
        if estimator == "score_function":
            z = jax.lax.stop_gradient(z)
        out, nets["decoder"] = decode(
            params, state.networks, z, x, train=True, rng=rng_decoder
        )
        log_p = log_likelihood(x, out)
        kl = gaussian_kl(q.mean, q.log_variance, *prior.apply(params, batch))

        beta_t = jnp.asarray(beta, jnp.float32) * _warm(state.step, beta_warmup)
        distortion = -jnp.mean(log_p)
        value = distortion + beta_t * free_bits(kl, threshold=free)
        if estimator == "score_function":
            log_q = gaussian_log_likelihood(z, q.mean, q.log_variance)
            value -= jnp.mean(jax.lax.stop_gradient(log_p) * _only_gradient(log_q))

        rates = posterior.rates(jnp.mean(kl, axis=0))
        metrics = rates | {
            "elbo": -distortion - rates["rate"],
            "distortion": distortion,
            "beta": beta_t,
        }
        new = ELBOState(nets, state.step + 1)
        return value, Aux(new, metrics, posterior.features(q))

    def encode(params, state, batch):
        x = image(name, batch)
        q, _ = recognition.apply(params, state.networks, inputs(batch), train=False)
        out, _ = decode(params, state.networks, q.mean, x, train=False)
        if likelihood == "bernoulli":
            out = jax.nn.sigmoid(out)
        found = {"h": q.h, "z": q.mean, "reconstruction": out}
        return found | networks.layers_of(
            encoder, params["encoder"], state.networks["encoder"], inputs(batch)
        )

    return Method(init, loss, encode)


def _warm(step: chex.Array, steps: int) -> chex.Array:
    """min(1, t/T), from 0 at the first step; 1 where T = 0."""
    if not steps:
        return jnp.ones([], jnp.float32)
    return jnp.minimum(jnp.asarray(step, jnp.float32) / steps, 1.0)


def _only_gradient(x: chex.Array) -> chex.Array:
    """0, with the gradient of x."""
    return x - jax.lax.stop_gradient(x)
