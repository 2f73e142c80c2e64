"""Vision transformers."""

from typing import Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

from rl_jax.errors import UsageError, check_integer
from rl_jax.networks.linen import check_sizes, from_linen
from rl_jax.networks.patches import (
    Patches,
    check_quarters,
    grid,
    patch_positions,
    patchify,
    sincos,
)
from rl_jax.networks.precision import DTYPES, Dtype
from rl_jax.networks.transformer import (
    Dense,
    Transformer,
    check_choice,
    check_transformer,
    embedding_init,
)
from rl_jax.types import Network

SIZES = {"Ti": (192, 12, 3), "S": (384, 12, 6), "B": (768, 12, 12), "L": (1024, 24, 16)}
"""Width, depth, heads; Ti and S are DeiT's (Touvron et al. 2020, arXiv:2012.12877)."""


class ViT(nn.Module):
    """Linear embedding of patches, positions, transformer, pooling."""

    patch: int
    width: int
    positions: str
    pool: str
    registers: int
    transformer: Transformer

    @nn.compact
    def __call__(self, x: jax.Array | Patches, *, train: bool) -> jax.Array:
        """[B, H, W, C] or `Patches` to [B, width], [B, L, width], [B, 1 + L, width]."""
        dtype = DTYPES[self.transformer.dtype]
        size = None
        if not isinstance(x, Patches):
            size = grid(x.shape, self.patch)
            # Embedded once, for all images.
            x = Patches(patchify(x, self.patch), patch_positions(*size)[None])
        tokens = Dense(self.width, dtype=dtype, name="embed")(x.values)
        if x.hidden is not None and x.token is not None:
            token = x.token.astype(tokens.dtype)[None, None]
            tokens = jnp.where(x.hidden[..., None], token, tokens)
        tokens += self._embedded(x.positions, size)
        if self.registers:
            tokens = self._after("registers", self.registers, tokens)
        with_cls = self.pool in ("cls", "all")
        if with_cls:
            tokens = self._after("cls", 1, tokens)

        told = None
        if self.registers:
            place = jnp.arange(tokens.shape[1]) - with_cls
            told = (place < 0) | (place >= self.registers)
            told = jnp.broadcast_to(told, tokens.shape[:2])
        tokens = self.transformer(tokens, train=train, told=told)
        if self.pool == "cls":
            return tokens[:, 0]
        patches = tokens[:, with_cls + self.registers :]
        if self.pool == "mean":
            return jnp.mean(patches, axis=1)
        if self.pool == "none":
            return patches
        if not self.registers:
            return tokens
        return jnp.concatenate([tokens[:, :1], patches], axis=1)

    def _after(self, name: str, count: int, tokens: jax.Array) -> jax.Array:
        """The tokens after learned ones, which have no place."""
        learned = self.param(name, embedding_init, (1, count, self.width))
        learned = jnp.broadcast_to(learned, (tokens.shape[0], count, self.width))
        return jnp.concatenate([learned, tokens], axis=1)

    def _embedded(self, positions, size: tuple[int, int] | None) -> jax.Array:
        """The embedding of positions; `size` of the grid, None where not known."""
        if self.positions == "sincos":
            return sincos(positions, self.width)
        if self.has_variable("params", "positions"):
            table = self.get_variable("params", "positions")
        elif size is None:
            raise UsageError(
                "vit: learned positions need the size of the image, got patches; "
                "initialise with images"
            )
        else:
            table = self.param("positions", embedding_init, (*size, self.width))
        if size is not None and table.shape[:2] != size:
            raise UsageError(
                "vit: learned positions are those of "
                f"{table.shape[0]}×{table.shape[1]} patches, got {size[0]}×{size[1]}; "
                'use images of one size or positions="sincos"'
            )
        # An export has tables of NumPy.
        return jnp.asarray(table)[positions[..., 0], positions[..., 1]]


def vit(
    *,
    size: Literal["Ti", "S", "B", "L"] = "S",
    patch: int = 16,
    width: int | None = None,
    depth: int | None = None,
    heads: int | None = None,
    mlp_ratio: float = 4.0,
    positions: Literal["sincos", "learned"] = "sincos",
    pool: Literal["mean", "cls", "none", "all"] = "mean",
    registers: int = 0,
    dropout: float = 0.0,
    drop_path: float = 0.0,
    dtype: Dtype = "float32",
    remat: bool = False,
) -> Network:
    """A vision transformer, no classifier (Dosovitskiy et al. 2020, arXiv:2010.11929).

    Images [B, H, W, C], or `Patches` of them: patches already cut, any number of them,
    each with its row and column, some of them hidden. There is a cls token only with
    pool="cls" and "all". Kernels start Glorot-uniform, learned embeddings normal with
    deviation 0.02, cut at two of them.

    Args:
      size: width, depth and heads: Ti 192, 12, 3; S 384, 12, 6; B 768, 12, 12;
        L 1024, 24, 16. Each of the three may be given instead.
      patch: p, side of a patch in pixels.
      width: of the tokens and of h; None: that of `size`.
      depth: number of blocks; None: that of `size`.
      heads: of the attention, a divisor of the width; None: that of `size`.
      mlp_ratio: hidden width of the MLPs over the width.
      positions: sincos: fixed, for images of any size; learned: a parameter of the
        grid of patches that the network is initialised with.
      pool: mean over the patches; cls token; none, every patch of the last layer; or
        all, the cls token and then every patch.
      registers: R ≥ 0 learned tokens that attend and are attended and that nothing is
        made of: what patches of large transformers would else be used for (Darcet et
        al. 2023, arXiv:2309.16588, who have 4).
      dropout: probability in training that a number is dropped, of the embeddings and
        of what each attention and each MLP adds (Vaswani et al. 2017, arXiv:1706.03762;
        theirs is 0.1); weights of the attention are never dropped.
      drop_path: probability in training that the last block adds nothing to an example,
        growing from 0 at the first (stochastic depth, Huang et al. 2016,
        arXiv:1603.09382); 0.1 is usual.
      dtype: of products and activations; parameters, softmax, the statistics of the
        normalisation and the output are float32.
      remat: compute each block again in the backward pass, to save memory.

    Returns:
      A network [B, H, W, C] -> [B, width] float32, or [B, L, width] with pool="none",
      [B, 1 + L, width] with "all", L = H/p · W/p, or the number of patches given.

    Raises:
      UsageError: for values out of range; while tracing, where `patch` does not divide
        the image or learned positions are of another grid.
    """
    check_choice("vit", "size", size, tuple(SIZES))
    check_choice("vit", "positions", positions, ("sincos", "learned"))
    check_choice("vit", "pool", pool, ("mean", "cls", "none", "all"))
    check_sizes("vit", patch=patch)
    check_integer("vit: registers", registers)
    if registers < 0:
        raise UsageError(f"vit: registers must be at least 0, got {registers}")
    given = zip((width, depth, heads), SIZES[size], strict=True)
    width, depth, heads = (own if own is not None else usual for own, usual in given)
    check_transformer(
        "vit",
        width=width,
        depth=depth,
        heads=heads,
        mlp_ratio=mlp_ratio,
        dtype=dtype,
        dropout=dropout,
        drop_path=drop_path,
    )
    if positions == "sincos":
        check_quarters("vit", width)
    transformer = Transformer(
        depth=depth,
        heads=heads,
        mlp_ratio=mlp_ratio,
        dtype=dtype,
        remat=remat,
        dropout=dropout,
        drop_path=drop_path,
    )
    return from_linen(
        ViT(
            patch=patch,
            width=width,
            positions=positions,
            pool=pool,
            registers=registers,
            transformer=transformer,
        )
    )
