"""A Gaussian code: encoder f, then a linear layer to the mean and log σ² of q(z|x)."""

from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

from rl_jax import networks
from rl_jax.types import Network


class Posterior(NamedTuple):
    """q(z|x) of each example.

    Attributes:
      h: [N, D] what the encoder returns.
      mean, log_variance: [N, d] float32.
    """

    h: chex.Array
    mean: chex.Array
    log_variance: chex.Array


class GaussianEncoder(NamedTuple):
    """The network of stochastic codes as two pure functions.

    Attributes:
      init: `(rng, x) -> (params, state)`, each keyed `encoder` and `code`.
      apply: `(params, state, x, *, train, rng=None) -> (Posterior, state)`; reads those
        two keys of `params` and `state`, whatever else they hold.
    """

    init: Any
    apply: Any


def gaussian_encoder(
    encoder: Network, *, latent: int, offset: float = 0.0
) -> GaussianEncoder:
    """Mean and log variance as linear functions of h = f(x).

    Args:
      encoder: f, inputs to representations h.
      latent: d, dimensions of the code.
      offset: added to the log variance: narrow codes from the first step on.
    """
    code = networks.linear(out=2 * latent)

    def init(rng, x):
        return networks.chain(encoder=encoder, code=code).init(rng, x)

    def apply(params, state, x, *, train, rng=None):
        h, encoder_state = encoder.apply(
            params["encoder"], state["encoder"], x, train=train, rng=rng
        )
        out, code_state = code.apply(params["code"], state["code"], h, train=train)
        mean, log_variance = jnp.split(jnp.asarray(out, jnp.float32), 2, axis=-1)
        state = {"encoder": encoder_state, "code": code_state}
        return Posterior(h, mean, log_variance + offset), state

    return GaussianEncoder(init, apply)


def features(q: Posterior, views: int = 1) -> dict[str, chex.Array]:
    """`h` and `z`, the mean, as [B, V, D], without gradient."""
    named = {"h": q.h, "z": q.mean}
    split = {k: v.reshape(-1, views, v.shape[-1]) for k, v in named.items()}
    return jax.lax.stop_gradient(split)


def rates(kl: chex.Array) -> dict[str, chex.Array]:
    """What a code carries: metrics `rate`, in nats, and `active_units`.

    Active is a dimension whose mean divergence over the batch is above 0.01 nat.

    Args:
      kl: [d] divergence of each dimension, the mean over the batch.
    """
    active = jnp.sum(kl > 0.01).astype(jnp.float32)
    return {"rate": jnp.sum(kl), "active_units": active}
