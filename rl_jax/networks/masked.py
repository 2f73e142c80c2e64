"""Transformers that tell of patches taken out from those left in."""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
from flax import linen as nn

from rl_jax.errors import UsageError
from rl_jax.networks.linen import from_linen
from rl_jax.networks.patches import check_quarters, sincos
from rl_jax.networks.precision import DTYPES, Dtype
from rl_jax.networks.transformer import (
    Dense,
    Transformer,
    check_transformer,
    embedding_init,
)
from rl_jax.types import Network


class Masked(NamedTuple):
    """What is known of an image, and where something is to be told.

    Attributes:
      tokens: [B, K, D] of the visible patches.
      positions: int32 [B, K, 2], row and column of these.
      masked: int32 [B, M, 2], row and column of the patches to predict.
      real: bool [B, M], which of these there are: no token attends the others. None:
        all.
    """

    tokens: chex.Array
    positions: chex.Array
    masked: chex.Array
    real: chex.Array | None = None


class Decoder(nn.Module):
    """Mask tokens among visible ones, transformer, the mask tokens' outputs."""

    transformer: Transformer
    width: int

    @nn.compact
    def __call__(self, x: Masked, *, train: bool) -> jax.Array:
        """`Masked` to [B, M, width]."""
        refused = "mae_decoder", "mae", "codes; use an mlp_decoder or a conv_decoder"
        return _told(self, x, refused, train=train)


class Predictor(nn.Module):
    """The same, and a linear layer to the width of the visible tokens."""

    transformer: Transformer
    width: int

    @nn.compact
    def __call__(self, x: Masked, *, train: bool) -> jax.Array:
        """`Masked` of tokens [B, K, D] to [B, M, D]."""
        refused = "jepa_predictor", "i_jepa", "embeddings; use a prediction_head"
        hidden = _told(self, x, refused, train=train)
        dtype = DTYPES[self.transformer.dtype]
        told = Dense(x.tokens.shape[-1], dtype=dtype, name="out")(hidden)
        return told.astype(jnp.float32)


def _told(
    module: Decoder | Predictor, x: Masked, refused: tuple[str, str, str], *, train
) -> jax.Array:
    """What the transformer makes of the mask tokens: float32 [B, M, width].

    `refused`: the factory, the method whose tokens it takes, and what was given else.
    """
    if not isinstance(x, Masked):
        factory, method, given = refused
        raise UsageError(
            f"{factory}: expected the tokens of masked patches, as {method} has them, "
            f"got {given}"
        )
    mask = module.param("mask", embedding_init, (1, 1, module.width))
    hidden = mask + sincos(x.masked, module.width)
    dtype = DTYPES[module.transformer.dtype]
    seen = Dense(module.width, dtype=dtype, name="embed")(x.tokens)
    seen += sincos(x.positions, module.width)
    tokens = jnp.concatenate([seen, hidden], axis=1)
    real = x.real
    if real is not None:
        real = jnp.concatenate([jnp.ones(seen.shape[:2], bool), real], axis=1)
    return module.transformer(tokens, real, train=train)[:, seen.shape[1] :]


def mae_decoder(
    *,
    width: int = 32,
    depth: int = 1,
    heads: int = 4,
    mlp_ratio: float = 4.0,
    dtype: Dtype = "float32",
    remat: bool = False,
) -> Network:
    """The decoder of masked autoencoders, no output layer (He et al. 2022, 2111.06377).

    Visible tokens are mapped to its width and stand beside one learned mask token for
    each patch to predict; all get fixed sine-cosine positions. The authors' is 512
    wide with 8 blocks of 16 heads.

    Args:
      width: of its tokens, a multiple of 4.
      depth: number of blocks.
      heads: of the attention; a divisor of the width.
      mlp_ratio: hidden width of the MLPs over the width.
      dtype: of products and activations, as in `vit`.
      remat: compute each block again in the backward pass, to save memory.

    Returns:
      A network `Masked` -> [B, M, width] float32, of the masked patches.

    Raises:
      UsageError: for values out of range.
    """
    arguments = {"mlp_ratio": mlp_ratio, "dtype": dtype, "remat": remat}
    transformer = _transformer("mae_decoder", width, depth, heads, **arguments)
    return from_linen(Decoder(transformer, width))


def jepa_predictor(
    *,
    width: int = 32,
    depth: int = 2,
    heads: int = 4,
    mlp_ratio: float = 4.0,
    dtype: Dtype = "float32",
    remat: bool = False,
) -> Network:
    """The predictor of I-JEPA (Assran et al. 2023, arXiv:2301.08243).

    A decoder of masked autoencoders, and a linear layer to the width of the tokens it
    is given: narrower than the encoder, it predicts what that makes of patches taken
    out. The authors' is 384 wide, as deep as a ViT-B and half as deep as larger ones,
    with the encoder's heads. Theirs starts with deviation 0.02 and shrinks what each
    block adds by √(2·number of the block); ours as a `vit`.

    Args:
      width: of its tokens, a multiple of 4.
      depth: number of blocks.
      heads: of the attention; a divisor of the width.
      mlp_ratio: hidden width of the MLPs over the width.
      dtype: of products and activations, as in `vit`.
      remat: compute each block again in the backward pass, to save memory.

    Returns:
      A network `Masked` of tokens [B, K, D] -> [B, M, D] float32, of the masked
      patches.

    Raises:
      UsageError: for values out of range.
    """
    arguments = {"mlp_ratio": mlp_ratio, "dtype": dtype, "remat": remat}
    transformer = _transformer("jepa_predictor", width, depth, heads, **arguments)
    return from_linen(Predictor(transformer, width))


def _transformer(
    factory: str, width: int, depth: int, heads: int, *, remat: bool, **arguments
) -> Transformer:
    check_transformer(factory, width=width, depth=depth, heads=heads, **arguments)
    check_quarters(factory, width)
    return Transformer(depth=depth, heads=heads, remat=remat, **arguments)
