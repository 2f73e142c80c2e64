"""Questions made from the images: what rotation, jigsaw and context share."""

from collections.abc import Callable
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from rl_jax import networks
from rl_jax.errors import UsageError
from rl_jax.methods import inputs, noise
from rl_jax.methods.classifier import cross_entropy
from rl_jax.types import Aux, Method, Network


class Task(NamedTuple):
    """A pretext task as two pure functions.

    Attributes:
      name: of the factory, for errors.
      answers: K, number of possible answers.
      ask: `(rngs, image) -> (parts, answer)`: from keys [B], one for each example, and
        images [B, H, W, C], Q questions about each of them: P parts
        [B, Q, P, h, w, C], and the answers int32 [B, Q] in [0, K).
      look: `(image) -> [B, M, h, w, C]`: what the encoder sees of a whole image.
    """

    name: str
    answers: int
    ask: Callable[[chex.Array, chex.Array], tuple[chex.Array, chex.Array]]
    look: Callable[[chex.Array], chex.Array]


def pretext(encoder: Network, head: Network | None, task: Task) -> Method:
    """The method that answers the questions of `task`.

    The encoder sees every part by itself; the features of a question's parts, side by
    side, go through the head and a linear classifier; the loss is the mean
    cross-entropy of the answers. The representation of a whole image is the mean of the
    features of what `look` shows.

    Args:
      encoder: f, parts [N, h, w, C] to features [N, D].
      head: [N, P·D] to [N, H], discarded after training; None: the identity.
      task: what is asked.

    Returns:
      A method with `encode` name `h`, features `h` [B, 1, D], the mean over the parts
      of the first question, and metric `accuracy`, in [0, 1].
    """
    stages = {} if head is None else {"head": head}
    top = networks.chain(**stages, classifier=networks.linear(out=task.answers))

    def ask(rng, batch):
        image = checked(task.name, inputs.one_view(task.name, batch))
        rngs = jax.vmap(jax.random.fold_in, (None, 0))(rng, batch["index"])
        return task.ask(rngs, image)

    def flat(parts):
        return parts.reshape(-1, *parts.shape[3:])

    def init(rng, batch):
        rng_encoder, rng_top = jax.random.split(rng)
        parts, answer = jax.eval_shape(ask, rng, batch)
        x = jnp.zeros(jax.eval_shape(flat, parts).shape, parts.dtype)
        params, state = encoder.init(rng_encoder, x)
        h, _ = jax.eval_shape(lambda: encoder.apply(params, state, x, train=False))
        joined = jnp.zeros((answer.size, h.size // answer.size), h.dtype)
        top_params, top_state = top.init(rng_top, joined)
        return {"encoder": params, **top_params}, {"encoder": state, **top_state}

    def loss(params, state, batch, rng):
        parts, answer = ask(rng, batch)
        rng_encoder, rng_top = noise.keys(rng, 2)
        h, encoder_state = encoder.apply(
            params["encoder"],
            state["encoder"],
            flat(parts),
            train=True,
            rng=rng_encoder,
        )
        joined = h.reshape(answer.size, -1)
        logits, top_state = top.apply(params, state, joined, train=True, rng=rng_top)
        value, accuracy = cross_entropy(logits, answer.reshape(-1))
        first = h.reshape(*parts.shape[:3], -1)[:, 0].mean(1)
        features = {"h": jax.lax.stop_gradient(first[:, None])}
        state = {"encoder": encoder_state, **top_state}
        return value, Aux(state, {"accuracy": accuracy}, features)

    def encode(params, state, batch):
        seen = task.look(checked(task.name, inputs.take(task.name, batch, "image")))
        x = seen.reshape(-1, *seen.shape[2:])
        h, _ = encoder.apply(params["encoder"], state["encoder"], x, train=False)
        out = {"h": h} | networks.layers_of(
            encoder, params["encoder"], state["encoder"], x
        )
        return {k: v.reshape(*seen.shape[:2], -1).mean(1) for k, v in out.items()}

    return Method(init, loss, encode)


def checked(factory: str, image: chex.Array) -> chex.Array:
    """The image, if it is one.

    Raises:
      UsageError: for other than [B, H, W, C] of a float dtype.
    """
    if image.ndim != 4:
        raise UsageError(f"{factory}: images must be [B, H, W, C], got {image.shape}")
    if not jnp.issubdtype(image.dtype, jnp.floating):
        raise UsageError(
            f"{factory}: images must be of a float dtype, got {image.dtype}; an "
            "augmentation turns bytes into numbers in [0, 1]"
        )
    return image


def cut(
    image: chex.Array, row: chex.Array, column: chex.Array, height: int, width: int
) -> chex.Array:
    """Crops of one size from one image [H, W, C], at int corners [n]: [n, h, w, C]."""

    def one(r, c):
        start = (r, c, jnp.zeros_like(r))
        return jax.lax.dynamic_slice(image, start, (height, width, image.shape[-1]))

    return jax.vmap(one)(row, column)
