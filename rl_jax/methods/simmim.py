"""SimMIM: the pixels of patches for which a mask token stands in the encoder."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

from rl_jax import losses, networks
from rl_jax.errors import UsageError
from rl_jax.methods import arguments, inputs, masking, noise
from rl_jax.methods.micro_batch import micro_batched
from rl_jax.types import Aux, Method, Network


def simmim(
    encoder: Network,
    *,
    mask_ratio: float = 0.6,
    mask_side: int = 2,
    micro_batch: int | None = None,
) -> Method:
    """Simple masked image modelling (Xie et al. 2022, arXiv:2111.09886).

    The image is cut into squares of s×s patches, and of these n squares ⌈n·r⌉ are drawn
    at random, others for each image. In the encoder a learned token stands for each of
    their patches; a linear layer makes pixels of what comes out there, and the loss is
    the mean absolute error of these pixels. Nothing of the hidden patches enters.

    The authors' ViT has one more token and relative positions, which are the encoder's
    matter.

    Args:
      encoder: images or `networks.Patches`, some hidden, to a token for each patch:
        `networks.vit` with pool="none".
      mask_ratio: r in (0, 1), share of the squares that are hidden.
      mask_side: s ≥ 1, side of a square in patches; it divides the grid of patches. The
        authors' squares have 32 pixels, two patches.
      micro_batch: examples whose activations of the encoder are held at a time, as in
        `simclr`; None: all.

    Returns:
      A method for the first of `views` where there are any, else for `image`. `encode`
      names `h`, the mean of the tokens of the whole image, and `reconstruction`, where
      the same squares are hidden in every image and those predicted put in. Metric:
      `explained`, as in `mae`.

    Raises:
      UsageError: for values out of range; while tracing, for an encoder without a token
        for each patch, squares that do not divide the grid, or a ratio that hides all;
        as `micro_batched` does.
    """
    if not 0 < mask_ratio < 1:
        raise UsageError(f"simmim: mask_ratio must be in (0, 1), got {mask_ratio}")
    arguments.at_least("simmim", 1, mask_side=mask_side)
    if micro_batch is not None:
        encoder = micro_batched(encoder, micro_batch)
    cut = functools.partial(masking.cut, "simmim", encoder)

    def draw(rng, index, image, patch):
        """Numbers of the hidden patches, int32 [B, K]."""
        cuts = squares(image.shape[1] // patch, image.shape[2] // patch, mask_side)
        count = squares_hidden(len(cuts), mask_ratio)
        order = masking.random_orders(rng, index, len(cuts))
        return jnp.asarray(cuts)[order[:, :count]].reshape(index.shape[0], -1)

    def forward(params, state, patches, drawn, *, train, rng=None):
        """All tokens, the pixels of the hidden patches, the encoder's state."""
        rows = jnp.arange(drawn.shape[0])[:, None]
        hidden = jnp.zeros(patches.values.shape[:2], bool).at[rows, drawn].set(True)
        # An encoder that knows of no mask token sees nothing of them either.
        values = jnp.where(hidden[..., None], 0.0, patches.values)
        x = networks.Patches(values, patches.positions, hidden, params["mask"])
        tokens, encoder_state = encoder.apply(
            params["encoder"], state["encoder"], x, train=train, rng=rng
        )
        of_hidden = masking.take(tokens, drawn)
        head = networks.linear(out=patches.values.shape[-1])
        pixels, _ = head.apply(
            params["head"], {}, of_hidden.reshape(-1, tokens.shape[-1]), train=train
        )
        return tokens, pixels.reshape(*drawn.shape, -1), {"encoder": encoder_state}

    def init(rng, batch):
        rng_encoder, rng_mask, rng_head = jax.random.split(rng, 3)
        image = inputs.one_view("simmim", batch)
        params, state = {}, {}
        params["encoder"], state["encoder"] = encoder.init(rng_encoder, image)
        patch, patches = cut(params, state, image)
        draw(rng, jnp.zeros(image.shape[:1], jnp.int32), image, patch)
        run = functools.partial(encoder.apply, train=False)
        tokens, _ = jax.eval_shape(run, params["encoder"], state["encoder"], image)
        # As the authors draw it: normal, cut at one deviation.
        width = tokens.shape[-1:]
        params["mask"] = 0.02 * jax.random.truncated_normal(rng_mask, -1.0, 1.0, width)
        head = networks.linear(out=patches.values.shape[-1])
        row = jnp.zeros((1, *width), tokens.dtype)
        params["head"], _ = head.init(rng_head, row)
        return params, state

    def loss(params, state, batch, rng):
        image = inputs.one_view("simmim", batch)
        patch, patches = cut(params, state, image)
        drawn = draw(rng, batch["index"], image, patch)
        (rng_encoder,) = noise.keys(rng, 1)
        tokens, pixels, state = forward(
            params, state, patches, drawn, train=True, rng=rng_encoder
        )
        target = masking.take(patches.values, drawn)
        value = losses.absolute_error(pixels, target)
        spread = jnp.mean(jnp.var(patches.values.astype(jnp.float32), axis=0))
        apart = losses.squared_error(pixels, target)
        metrics = {"explained": 1 - apart / jnp.maximum(spread, 1e-12)}
        features = {"h": jnp.mean(tokens, axis=1, keepdims=True)}
        return value, Aux(state, metrics, jax.lax.stop_gradient(features))

    def encode(params, state, batch):
        image = batch["image"]
        where = params["encoder"], state["encoder"]
        tokens, _ = encoder.apply(*where, image, train=False)
        patch, patches = cut(params, state, image)
        same = jnp.zeros(image.shape[:1], jnp.int32)
        drawn = draw(jax.random.key(0), same, image, patch)
        _, pixels, _ = forward(params, state, patches, drawn, train=False)
        rows = jnp.arange(image.shape[0])[:, None]
        values = jnp.asarray(patches.values, jnp.float32).at[rows, drawn].set(pixels)
        told = networks.unpatchify(values, patch, image.shape[1:])
        out = {"h": jnp.mean(tokens, axis=1), "reconstruction": told}
        return out | networks.layers_of(encoder, *where, image)

    return Method(init, loss, encode)


def squares(rows: int, columns: int, side: int) -> np.ndarray:
    """Numbers of the patches of each square: int32 [n, side²].

    Raises:
      UsageError: where squares do not divide the grid.
    """
    if rows % side or columns % side:
        raise UsageError(
            f"simmim: mask_side={side} does not divide a grid of {rows}×{columns} "
            "patches; choose one that divides both sides"
        )
    numbers = np.arange(rows * columns, dtype=np.int32)
    cut = numbers.reshape(rows // side, side, columns // side, side)
    return cut.swapaxes(1, 2).reshape(-1, side * side)


def squares_hidden(count: int, mask_ratio: float) -> int:
    """⌈n·r⌉, the number of squares that are hidden.

    Raises:
      UsageError: where that is all of them.
    """
    hidden = math.ceil(count * mask_ratio)
    if hidden >= count:
        raise UsageError(
            f"simmim: mask_ratio={mask_ratio} hides all of {count} squares; use a "
            "smaller ratio, smaller squares or smaller patches"
        )
    return hidden
