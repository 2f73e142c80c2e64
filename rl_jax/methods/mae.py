"""Masked autoencoder: the patches taken out of an image, from those left in."""

import functools

import jax
import jax.numpy as jnp

from rl_jax import losses, networks
from rl_jax.errors import UsageError
from rl_jax.methods import inputs, masking, noise
from rl_jax.methods.micro_batch import micro_batched
from rl_jax.types import Aux, Method, Network


def mae(
    encoder: Network,
    decoder: Network,
    *,
    mask_ratio: float = 0.75,
    normalise_patches: bool = False,
    micro_batch: int | None = None,
) -> Method:
    """Masked autoencoder (He et al. 2022, arXiv:2111.06377).

    Of the L patches of an image, int(L·(1 − r)) drawn at random are left in, another
    draw for each image, and only these enter the encoder. The decoder gets their tokens
    and a mask token for each patch taken out; the loss is the mean squared error of the
    pixels of the latter. The number left in is the authors' formula in floating point:
    int(100·(1 − 0.9)) is 9. The side of a patch follows from the encoder.

    Args:
      encoder: images or `networks.Patches` to a token for each patch: `networks.vit`
        with pool="none".
      decoder: `networks.Masked` to an output for each patch taken out:
        `networks.mae_decoder`. A linear layer makes pixels of it.
      mask_ratio: r, share of the patches taken out.
      normalise_patches: predict each patch with its own mean and deviation taken away;
        the authors' better representations come from this.
      micro_batch: examples whose activations of encoder and decoder are held at a time,
        as in `simclr`; None: all.

    Returns:
      A method for the first of `views` where there are any, else for `image`. `encode`
      names `h`, the mean of the tokens of the whole image, and `reconstruction`, where
      the same patches are taken out of every image and those predicted put in (their
      own mean and deviation put back where these are not predicted). Metric:
      `explained`, the share of the variance of each pixel over the batch; 0 or less
      where the prediction is no better than the mean image.

    Raises:
      UsageError: for a share not in (0, 1); while tracing, for an encoder without a
        token for each patch, or a share that leaves none in; as `micro_batched` does.
    """
    if not 0 < mask_ratio < 1:
        raise UsageError(f"mae: mask_ratio must be in (0, 1), got {mask_ratio}")

    if micro_batch is not None:
        encoder = micro_batched(encoder, micro_batch)
        decoder = micro_batched(decoder, micro_batch, role="decoder")
    cut = functools.partial(masking.cut, "mae", encoder)

    def forward(params, state, patches, order, *, train, rng=None):
        """Tokens of the first patches of `order`, and pixels of the others."""
        rng_encoder, rng_decoder = noise.keys(rng, 2)
        kept = patches_left_in(order.shape[1], mask_ratio)
        seen = jax.tree.map(lambda x: masking.take(x, order[:, :kept]), patches)
        tokens, encoder_state = encoder.apply(
            params["encoder"], state["encoder"], seen, train=train, rng=rng_encoder
        )
        masked = masking.take(patches.positions, order[:, kept:])
        hidden, decoder_state = decoder.apply(
            params["decoder"],
            state["decoder"],
            networks.Masked(tokens, seen.positions, masked),
            train=train,
            rng=rng_decoder,
        )
        head = networks.linear(out=patches.values.shape[-1])
        pixels, _ = head.apply(
            params["head"], {}, hidden.reshape(-1, hidden.shape[-1]), train=train
        )
        pixels = pixels.reshape(*masked.shape[:2], -1)
        return tokens, pixels, {"encoder": encoder_state, "decoder": decoder_state}

    def init(rng, batch):
        rng_encoder, rng_decoder, rng_head = jax.random.split(rng, 3)
        image = inputs.one_view("mae", batch)
        encoder_params, encoder_state = encoder.init(rng_encoder, image)
        params, state = {"encoder": encoder_params}, {"encoder": encoder_state}
        _, patches = cut(params, state, image)
        kept = patches_left_in(patches.values.shape[1], mask_ratio)
        run = functools.partial(encoder.apply, train=False)
        seen = jax.tree.map(lambda x: x[:, :kept], patches)
        tokens, _ = jax.eval_shape(run, encoder_params, encoder_state, seen)
        x = networks.Masked(
            jnp.zeros(tokens.shape, tokens.dtype),
            seen.positions,
            patches.positions[:, kept:],
        )
        params["decoder"], state["decoder"] = decoder.init(rng_decoder, x)
        run = functools.partial(decoder.apply, train=False)
        y, _ = jax.eval_shape(run, params["decoder"], state["decoder"], x)
        head = networks.linear(out=patches.values.shape[-1])
        row = jnp.zeros((1, y.shape[-1]), y.dtype)
        params["head"], _ = head.init(rng_head, row)
        return params, state

    def loss(params, state, batch, rng):
        _, patches = cut(params, state, inputs.one_view("mae", batch))
        order = masking.random_orders(rng, batch["index"], patches.values.shape[1])
        tokens, pixels, state = forward(
            params, state, patches, order, train=True, rng=rng
        )
        target = patches.values
        if normalise_patches:
            target = losses.normalise_patches(target)
        spread = jnp.mean(jnp.var(target.astype(jnp.float32), axis=0))
        value = losses.squared_error(
            pixels, masking.take(target, order[:, -pixels.shape[1] :])
        )
        metrics = {"explained": 1 - value / jnp.maximum(spread, 1e-12)}
        features = {"h": jnp.mean(tokens, axis=1, keepdims=True)}
        return value, Aux(state, metrics, jax.lax.stop_gradient(features))

    def encode(params, state, batch):
        image = batch["image"]
        tokens, _ = encoder.apply(
            params["encoder"], state["encoder"], image, train=False
        )
        patch, patches = cut(params, state, image)
        same = jnp.zeros(image.shape[:1], jnp.int32)
        order = masking.random_orders(jax.random.key(0), same, tokens.shape[1])
        _, pixels, _ = forward(params, state, patches, order, train=False)
        removed = order[:, -pixels.shape[1] :]
        if normalise_patches:
            own = masking.take(patches.values, removed)
            mean, deviation = losses.patch_statistics(own)
            pixels = pixels * deviation + mean
        rows = jnp.arange(image.shape[0])[:, None]
        values = jnp.asarray(patches.values, jnp.float32).at[rows, removed].set(pixels)
        image = networks.unpatchify(values, patch, image.shape[1:])
        out = {"h": jnp.mean(tokens, axis=1), "reconstruction": image}
        return out | networks.layers_of(
            encoder, params["encoder"], state["encoder"], batch["image"]
        )

    return Method(init, loss, encode)


def patches_left_in(count: int, mask_ratio: float) -> int:
    """int(L·(1 − r)), the number of patches the encoder sees.

    Raises:
      UsageError: where that is none.
    """
    kept = int(count * (1 - mask_ratio))
    if not 0 < kept < count:
        raise UsageError(
            f"mae: mask_ratio={mask_ratio} leaves {kept} of {count} patches in; use "
            "smaller patches or another ratio"
        )
    return kept
