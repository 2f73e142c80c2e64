"""A transformer for tokens."""

from typing import Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

from rl_jax.errors import UsageError
from rl_jax.networks.layers import mean_of_tokens
from rl_jax.networks.linen import check_sizes, from_linen
from rl_jax.networks.precision import Dtype
from rl_jax.networks.transformer import (
    Transformer,
    check_choice,
    check_transformer,
    embedding_init,
)
from rl_jax.types import PADDING, Network, Params

POOLS = ("mean", "first", "last", "none")


class TextTransformer(nn.Module):
    """Embedding of tokens and positions, transformer, pooling over the real tokens."""

    vocab_size: int
    length: int
    width: int
    pool: str
    transformer: Transformer

    @nn.compact
    def __call__(self, tokens: jax.Array, *, train: bool) -> jax.Array:
        """Tokens [B, L] to [B, width], or [B, L, width] where nothing is pooled."""
        if tokens.ndim != 2 or not jnp.issubdtype(tokens.dtype, jnp.integer):
            raise UsageError(
                f"text_transformer: expected tokens int32 [B, L], got {tokens.dtype} "
                f"{tokens.shape}"
            )
        if tokens.shape[1] > self.length:
            raise UsageError(
                f"text_transformer: texts of {tokens.shape[1]} tokens are longer than "
                f"length={self.length}; give the network length={tokens.shape[1]} or "
                "cut the texts"
            )
        table = (self.vocab_size, self.width)
        words = self.param("tokens", embedding_init, table)
        places = self.param("positions", embedding_init, (self.length, self.width))
        real = tokens != PADDING
        x = jnp.take(words, tokens, axis=0)
        x += places[None, : tokens.shape[1]]
        x = self.transformer(x, real, train=train)

        if self.pool == "none":
            return x
        if self.pool == "mean":
            return mean_of_tokens(x, real)
        if self.pool == "first":
            return x[:, 0]
        last = jnp.max(jnp.where(real, jnp.arange(real.shape[1])[None], 0), axis=1)
        return jnp.take_along_axis(x, last[:, None, None], axis=1)[:, 0]


def text_transformer(
    *,
    vocab_size: int,
    length: int = 64,
    width: int = 64,
    depth: int = 2,
    heads: int = 4,
    mlp_ratio: float = 4.0,
    pool: Literal["mean", "first", "last", "none"] = "mean",
    causal: bool = False,
    dropout: float = 0.0,
    dtype: Dtype = "float32",
    remat: bool = False,
) -> Network:
    """A transformer encoder of texts (Devlin et al. 2019, arXiv:1810.04805).

    Learned positions and pre-norm blocks, as GPT-2 and CLIP have them; BERT itself
    normalises after each block. Token 0 is padding: no token attends to it, and it is
    left out of the mean; a text of nothing but padding gives a finite h, 0 for the
    mean. Embeddings start normal with deviation 0.02, cut at two of them, kernels
    Glorot-uniform.

    Args:
      vocab_size: number of different tokens, padding among them.
      length: of the longest text; L may be shorter.
      width: of the tokens and of h.
      depth: number of blocks.
      heads: of the attention; a divisor of the width.
      mlp_ratio: hidden width of the MLPs over the width.
      pool: mean over the real tokens; first token; last real token; or none, every
        token of the last layer.
      causal: a token sees itself and the tokens before it only; with pool="last" this
        is the text side of CLIP (Radford et al. 2021, arXiv:2103.00020).
      dropout: probability in training that a number is dropped, of the embeddings and
        of what each attention and each MLP adds (Vaswani et al. 2017, arXiv:1706.03762;
        theirs is 0.1); weights of the attention are never dropped.
      dtype: of products and activations; parameters, softmax, the statistics of the
        normalisation and the output are float32.
      remat: compute each block again in the backward pass, to save memory.

    Returns:
      A network int32 [B, L] -> [B, width] float32, or [B, L, width] with pool="none".

    Raises:
      UsageError: for values out of range; while tracing, for texts longer than
        `length`.
    """
    check_sizes("text_transformer", vocab_size=vocab_size, length=length)
    check_transformer(
        "text_transformer",
        width=width,
        depth=depth,
        heads=heads,
        mlp_ratio=mlp_ratio,
        dtype=dtype,
        dropout=dropout,
    )
    check_choice("text_transformer", "pool", pool, POOLS)
    transformer = Transformer(
        depth=depth,
        heads=heads,
        mlp_ratio=mlp_ratio,
        dtype=dtype,
        remat=remat,
        causal=causal,
        dropout=dropout,
    )
    return from_linen(
        TextTransformer(
            vocab_size=vocab_size,
            length=length,
            width=width,
            pool=pool,
            transformer=transformer,
        )
    )


def token_embedding(params: Params) -> jax.Array:
    """The embedding [vocab_size, width] in the parameters of a `text_transformer`.

    For an output layer that shares it.

    Raises:
      UsageError: for the parameters of another network.
    """
    if "tokens" not in params:
        raise UsageError(
            "token_embedding: expected the parameters of a text_transformer, got "
            f"{', '.join(params)}"
        )
    return params["tokens"]
