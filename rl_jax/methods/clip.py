"""CLIP: each image finds its text among those of the batch, and each text its image."""

import functools
import math

import chex
import jax
import jax.numpy as jnp

from rl_jax import losses
from rl_jax.errors import UsageError
from rl_jax.methods import arguments
from rl_jax.methods.image_text import image_text
from rl_jax.methods.sharpness import sharpness
from rl_jax.pairwise import Precision
from rl_jax.types import Method, Network


def clip(
    encoder: Network,
    text: Network,
    *,
    dim: int = 64,
    temperature: float = 0.07,
    largest_scale: float = 100.0,
    micro_batch: int | None = None,
    precision: Precision | None = None,
) -> Method:
    """CLIP (Radford et al. 2021, arXiv:2103.00020): symmetric InfoNCE of two towers.

    With z = W_i f(x), u = W_t g(t) and l_ij = s·cos(z_i, u_j): ½ mean_i [log Σ_j
    exp(l_ij) − l_ii] + ½ mean_j [log Σ_i exp(l_ij) − l_jj]. The logarithm of s is
    trained with the rest and s held at or below 100, see `held_exp`. Where captions
    repeat in a batch, as those of one class do, the loss does not go to 0.

    Args:
      encoder: f, images to representations h.
      text: g, tokens [B, L] to one vector each: `networks.text_transformer`; the
        authors' has causal=True and pool="last". As wide as it likes.
      dim: width of the embeddings z and u; h W_i and g W_t are linear, without bias.
      temperature: 1/s where training starts, at least 1 / largest_scale.
      largest_scale: the most that s may be.
      micro_batch: examples whose activations of a tower are held at a time, as in
        `simclr`; None: all.
      precision: of the similarities, as in `simclr`.

    Returns:
      A method for `image`, or the first of `views`, and `tokens`, [B, L] or [B, T, L]:
      of T captions one is drawn for each step. `encode` names `h` and `z` where the
      batch has `image`, and `text` where it has `tokens`: u, or of T captions the mean
      of the normalised u. Metrics: `logit_scale`, s; `softmax_entropy` and
      `max_softmax`, of images over texts, see `sharpness`.

    Raises:
      UsageError: for values out of range, a batch without captions, a tower without one
        vector for each example, or a micro-batch that batch, devices or a tower do not
        allow.
    """
    arguments.at_least("clip", 1, dim=dim)
    arguments.positive("clip", temperature=temperature, largest_scale=largest_scale)
    if temperature * largest_scale < 1:
        raise UsageError(
            f"clip: temperature={temperature} starts above largest_scale="
            f"{largest_scale}; use a temperature of at least {1 / largest_scale:g}"
        )

    def criterion(z, u, params):
        scale = held_exp(params["log_scale"], largest_scale)
        value = losses.clip(z, u, logit_scale=scale, precision=precision)
        stopped = jax.lax.stop_gradient(scale)
        return value, {"logit_scale": scale} | sharpness(z, u, scale=stopped)

    return image_text(
        "clip",
        encoder,
        text,
        criterion,
        dim=dim,
        scalars={"log_scale": -math.log(temperature)},
        micro_batch=micro_batch,
    )


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def held_exp(t: chex.Array, largest: float) -> chex.Array:
    """min(e^t, largest), with a gradient that holds t there instead of freezing it.

    The authors set t back to the bound after an update that passed it. A loss cannot
    write to its parameters, so the gradient is that at the bound, e^t = largest, where
    a step along it leads back, and 0 where it would lead farther. t may pass the bound
    by what an optimizer moves without a gradient; what the loss sees never does.

    Args:
      t: scalar float32.
      largest: > 0.

    Returns:
      Scalar float32 in (0, largest].
    """
    return jnp.minimum(jnp.exp(t), largest)


def _forward(t, largest):
    value = held_exp(t, largest)
    return value, value


def _backward(largest, value, slope):
    free = (value < largest) | (slope > 0)
    return (jnp.where(free, slope * value, 0.0),)


held_exp.defvjp(_forward, _backward)
