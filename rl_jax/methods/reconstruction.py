"""Autoencoders without a prior: what the linear, plain and denoising ones share."""

import functools
import math
from collections.abc import Callable
from typing import Literal

import chex
import jax
import jax.numpy as jnp

from rl_jax import losses, networks
from rl_jax.errors import UsageError
from rl_jax.methods import inputs, noise
from rl_jax.methods.micro_batch import micro_batched
from rl_jax.types import Aux, Method, Network

Error = Literal["squared", "cross_entropy"]
Corruption = Callable[[chex.PRNGKey, chex.Array, chex.Array], chex.Array]


def as_it_is(rng: chex.PRNGKey, image: chex.Array, index: chex.Array) -> chex.Array:
    """No corruption."""
    del rng, index
    return image


def autoencoding(
    encoder: Network,
    decoder: Callable[[chex.Array], Network],
    *,
    name: str,
    error: Error = "squared",
    corrupt: Corruption = as_it_is,
    micro_batch: int | None = None,
) -> Method:
    """The method whose loss is the error of g(f(corrupt(x))) as a reconstruction of x.

    Args:
      encoder: f, images [B, ...] to representations h.
      decoder: `(image) -> g`, the network from h to as many numbers as an image of
        that shape has.
      name: of the factory, for messages.
      error: as in `autoencoder`.
      corrupt: `(rng, image, index) -> image`, what the encoder sees in training.
      micro_batch: as in `autoencoder`.

    Returns:
      A method with `encode` names `h` and `reconstruction`, of clean images.

    Raises:
      UsageError: for another error, or a decoder of another size than the images; as
        `micro_batched` does.
    """
    if error not in ("squared", "cross_entropy"):
        raise UsageError(
            f"{name}: error must be one of squared, cross_entropy, got {error!r}"
        )
    if micro_batch is not None:
        encoder = micro_batched(encoder, micro_batch)

    def decoder_of(x):
        if micro_batch is None:
            return decoder(x)
        return micro_batched(decoder(x), micro_batch, role="decoder")

    def forward(params, state, x, seen, *, train, rng=None):
        """Representations, the decoder's output in the shape of x, and the state."""
        rng_encoder, rng_decoder = noise.keys(rng, 2)
        h, encoder_state = encoder.apply(
            params["encoder"], state["encoder"], seen, train=train, rng=rng_encoder
        )
        out, decoder_state = decoder_of(x).apply(
            params["decoder"], state["decoder"], h, train=train, rng=rng_decoder
        )
        state = {"encoder": encoder_state, "decoder": decoder_state}
        return h, in_shape_of(name, out, x), state

    def values(out):
        """The reconstruction, of an output that may be logits."""
        return jax.nn.sigmoid(out) if error == "cross_entropy" else out

    def init(rng, batch):
        x = inputs.image(name, batch)
        rng_encoder, rng_decoder = jax.random.split(rng)
        params, state = {}, {}
        params["encoder"], state["encoder"] = encoder.init(rng_encoder, x)
        run = functools.partial(encoder.apply, train=False)
        h, _ = jax.eval_shape(run, params["encoder"], state["encoder"], x)
        h = jnp.zeros(h.shape, h.dtype)
        params["decoder"], state["decoder"] = decoder_of(x).init(rng_decoder, h)
        jax.eval_shape(functools.partial(forward, train=False), params, state, x, x)
        return params, state

    def loss(params, state, batch, rng):
        x = inputs.image(name, batch)
        seen = corrupt(rng, x, batch["index"])
        h, out, state = forward(params, state, x, seen, train=True, rng=rng)
        if error == "cross_entropy":
            value = -jnp.mean(losses.bernoulli_log_likelihood(x, out))
        else:
            value = losses.squared_distance(x, out)
        metrics = {"explained": explained(x, values(out))}
        features = {"h": h.reshape(len(h), 1, -1)}
        return value, Aux(state, metrics, jax.lax.stop_gradient(features))

    def encode(params, state, batch):
        x = inputs.image(name, batch)
        h, out, _ = forward(params, state, x, x, train=False)
        found = {"h": h, "reconstruction": values(out)}
        return found | networks.layers_of(
            encoder, params["encoder"], state["encoder"], x
        )

    return Method(init, loss, encode)


def in_shape_of(name: str, out: chex.Array, image: chex.Array) -> chex.Array:
    """A decoder's output in the shape of the images, float32.

    Raises:
      UsageError: for another number of values.
    """
    if out.size != image.size:
        raise UsageError(
            f"{name}: the decoder returns {out.shape}, which cannot be images "
            f"{image.shape}; give it an output of {math.prod(image.shape[1:])} numbers"
        )
    return jnp.asarray(out, jnp.float32).reshape(image.shape)


def explained(image: chex.Array, reconstruction: chex.Array) -> chex.Array:
    """The share of the variance of the batch that a reconstruction has.

    1 − Σ_i ‖x_i − x̂_i‖² / Σ_i ‖x_i − x̄‖²: 1 where it is exact, 0 or less where the
    mean image does as well.
    """
    mean = jnp.mean(image, axis=0, keepdims=True)
    spread = losses.squared_distance(image, jnp.broadcast_to(mean, image.shape))
    error = losses.squared_distance(image, reconstruction)
    return 1 - error / jnp.maximum(spread, 1e-12)
