"""A Gaussian code: encoder f, then a linear layer to the mean and log σ² of q(z|x)."""

from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

from rl_jax import networks
from rl_jax.errors import UsageError
from rl_jax.types import Batch, Network


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
      apply: `(params, state, x, *, train) -> (Posterior, state)`; reads those two keys
        of `params` and `state`, whatever else they hold.
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
    code = networks.projection_head(
        hidden=1, out=2 * latent, layers=1, batch_norm=False
    )

    def init(rng, x):
        return networks.chain(encoder=encoder, code=code).init(rng, x)

    def apply(params, state, x, *, train):
        h, encoder_state = encoder.apply(
            params["encoder"], state["encoder"], x, train=train
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


def take(factory: str, batch: Batch, name: str, hint: str) -> chex.Array:
    """An entry of the batch that a method cannot do without.

    Raises:
      UsageError: where the batch has none; or, of an image, one that is not [B, ...]
        of a float dtype.
    """
    if name not in batch:
        has = ", ".join(sorted(batch))
        raise UsageError(f"{factory}: the batch has no {name}, only {has}; {hint}")
    x = batch[name]
    if name != "image":
        return x
    if x.ndim < 2 or not jnp.issubdtype(x.dtype, jnp.floating):
        raise UsageError(
            f"{factory}: expected image [B, ...] of a float dtype, got {x.dtype} "
            f"{x.shape}; an augmentation turns bytes into numbers in [0, 1]"
        )
    return x


def check_range(factory: str, name: str, value: chex.Numeric, *, zero: bool) -> None:
    """Refuses a number that is negative, not finite or, unless `zero`, 0.

    Raises:
      UsageError: naming the argument; a traced number is not looked at.
    """
    if isinstance(value, jax.core.Tracer):
        return
    if not (0 <= value < jnp.inf) or (value == 0 and not zero):
        sign = ">= 0" if zero else "> 0"
        raise UsageError(f"{factory}: {name} must be {sign} and finite, got {value}")


def check_count(factory: str, name: str, value: int, *, least: int = 1) -> None:
    """Refuses a count below `least`.

    Raises:
      UsageError: naming the argument.
    """
    if value < least:
        raise UsageError(f"{factory}: {name} must be at least {least}, got {value}")
