"""Two towers, one of images and one of texts: what CLIP and SigLIP share."""

from collections.abc import Callable, Mapping

import chex
import jax
import jax.numpy as jnp

from rl_jax import networks
from rl_jax.errors import UsageError
from rl_jax.losses import normalize
from rl_jax.methods import inputs, noise, tower
from rl_jax.methods.micro_batch import micro_batched
from rl_jax.types import Aux, Batch, Method, Network, Params

Criterion = Callable[
    [chex.Array, chex.Array, Params], tuple[chex.Array, dict[str, chex.Array]]
]


def image_text(
    factory: str,
    encoder: Network,
    text: Network,
    criterion: Criterion,
    *,
    dim: int,
    scalars: Mapping[str, float],
    micro_batch: int | None,
) -> Method:
    """The method whose loss compares the embeddings of images with those of texts.

    z = W_i f(x) and u = W_t g(t), with projections as the authors of CLIP start them:
    normal, of variance one over the width of the tower, no bias. The towers may be of
    different widths. Of several captions of an image one is drawn for each step.

    Args:
      factory: the method's name, for messages.
      encoder: f, images to representations h.
      text: g, tokens [B, L] to one vector each.
      criterion: `(z, u, params) -> (loss, metrics)`, z and u [B, dim] as they are.
      dim: width of both embeddings.
      scalars: further parameters by name, and where they start.
      micro_batch: examples whose activations of a tower are held at a time; None: all.

    Returns:
      A method with `encode` names `h` and `z` where the batch has `image`, and `text`
      where it has `tokens`: u, or of several captions the mean of the normalised u.

    Raises:
      UsageError: from `init` on, for a batch without captions, a tower without one
        vector for each example, or a micro-batch that does not fit.
    """
    if micro_batch is not None:
        encoder, text = (micro_batched(net, micro_batch) for net in (encoder, text))
    towers = {"encoder": encoder, "text": text}

    def run(params, state, name, x, *, train, rng=None):
        y, own = towers[name].apply(params[name], state[name], x, train=train, rng=rng)
        tower.check_vectors(f"{factory}: {name}", y)
        return y, own

    def init(rng, batch):
        tokens = captions(factory, batch)
        given = {"encoder": inputs.one_view(factory, batch), "text": tokens[:, 0]}
        rngs = jax.random.split(rng, 4)
        params, state = {}, {}
        for i, (name, x) in enumerate(given.items()):
            params[name], state[name] = towers[name].init(rngs[2 * i], x)

            def apply(params, state, x, name=name):
                return run(params, state, name, x, train=False)[0]

            width = jax.eval_shape(apply, params, state, x).shape[1]
            start = jax.random.normal(rngs[2 * i + 1], (width, dim)) * width**-0.5
            params[f"{name}_projection"] = start
        return params | {k: jnp.float32(v) for k, v in scalars.items()}, state

    def loss(params, state, batch, rng):
        tokens = one_of(rng, batch["index"], captions(factory, batch))
        image = inputs.one_view(factory, batch)
        rng_encoder, rng_text = noise.keys(rng, 2)
        h, encoder_state = run(
            params, state, "encoder", image, train=True, rng=rng_encoder
        )
        g, text_state = run(params, state, "text", tokens, train=True, rng=rng_text)
        z, u = h @ params["encoder_projection"], g @ params["text_projection"]
        value, metrics = criterion(z, u, params)
        features = {"h": h[:, None], "z": jnp.stack([z, u], axis=1)}
        state = {"encoder": encoder_state, "text": text_state}
        return value, Aux(state, metrics, jax.lax.stop_gradient(features))

    def encode(params, state, batch):
        out = {}
        if "image" in batch or "tokens" not in batch:
            x = inputs.take(factory, batch, "image")
            h, _ = run(params, state, "encoder", x, train=False)
            out |= {"h": h, "z": h @ params["encoder_projection"]}
            out |= networks.layers_of(encoder, params["encoder"], state["encoder"], x)
        if "tokens" in batch:
            tokens = captions(factory, batch)
            rows, count, length = tokens.shape
            g, _ = run(params, state, "text", tokens.reshape(-1, length), train=False)
            u = (g @ params["text_projection"]).reshape(rows, count, dim)
            out["text"] = u[:, 0] if count == 1 else normalize(u).mean(1)
        return out

    return Method(init, loss, encode)


def captions(factory: str, batch: Batch) -> chex.Array:
    """The tokens of a batch as [B, T, L], also where each image has one caption.

    Raises:
      UsageError: without any, or for another rank or dtype.
    """
    tokens = inputs.take(factory, batch, "tokens")
    if tokens.ndim not in (2, 3) or not jnp.issubdtype(tokens.dtype, jnp.integer):
        raise UsageError(
            f"{factory}: expected tokens int32 [B, L] or [B, T, L], got {tokens.dtype} "
            f"{tokens.shape}"
        )
    return tokens if tokens.ndim == 3 else tokens[:, None]


def one_of(rng: chex.PRNGKey, index: chex.Array, tokens: chex.Array) -> chex.Array:
    """One of the T texts of each example, [B, T, L] -> [B, L], drawn by its index."""
    count = tokens.shape[1]
    if count == 1:
        return tokens[:, 0]

    def draw(i, texts):
        place = jax.random.randint(jax.random.fold_in(rng, i), (), 0, count)
        return texts[place]

    return jax.vmap(draw)(index, tokens)
