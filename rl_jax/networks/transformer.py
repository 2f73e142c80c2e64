"""Transformer blocks, shared by text and image networks."""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from rl_jax.errors import UsageError
from rl_jax.networks.attention import attend
from rl_jax.networks.dropout import check_rates, dropout
from rl_jax.networks.layers import pooled, tell, telling
from rl_jax.networks.linen import check_sizes
from rl_jax.networks.precision import DTYPES, check_dtype

# Also of the queries, keys and values as one matrix, as MAE's authors have it.
kernel_init = nn.initializers.xavier_uniform()
Dense = functools.partial(nn.Dense, kernel_init=kernel_init)
Norm = functools.partial(nn.LayerNorm, epsilon=1e-6)
embedding_init = nn.initializers.truncated_normal(0.02)


@jax.checkpoint
def gelu(x: jax.Array) -> jax.Array:
    """x·Φ(x) = x/2·(1 + erf(x/√2)), in float32 or more, of the dtype of x.

    The backward pass computes Φ again rather than read it from memory. By erf and not,
    as jax does it, by erfc, which is exact to more digits where Φ is next to nothing
    and takes a GPU more than twice as many instructions.
    """
    y = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    return (0.5 * y * (1 + jax.lax.erf(y * 0.5**0.5))).astype(x.dtype)


class Projections(nn.Module):
    """Queries, keys and values: xWᵢ + bᵢ, with the Wᵢ side by side as one parameter.

    Three products, not one that is cut: each result lies by itself in memory, as what
    attends wants it, without a copy of all three.
    """

    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array) -> list[jax.Array]:
        """[B, L, width] to three of them."""
        width = x.shape[-1]
        kernel = self.param("kernel", kernel_init, (width, 3 * width))
        bias = self.param("bias", nn.initializers.zeros, (3 * width,))
        x, kernel, bias = nn.dtypes.promote_dtype(x, kernel, bias, dtype=self.dtype)
        return [
            jnp.dot(x, w) + b[None, None]
            for w, b in zip(
                jnp.split(kernel, 3, axis=1), jnp.split(bias, 3), strict=True
            )
        ]


class Noise(NamedTuple):
    """What a block drops in training.

    Attributes:
      rng: key of the block.
      drop_path: probability that a branch adds nothing to an example.
    """

    rng: jax.Array
    drop_path: jax.Array


class Block(nn.Module):
    """x + Attention(LN(x)), then x + MLP(LN(x)), the MLP with one hidden GELU layer.

    Softmax and the statistics of LN are float32 whatever `dtype` is.
    """

    heads: int
    mlp_ratio: float
    dtype: jnp.dtype
    causal: bool = False
    dropout: float = 0.0

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        real: jax.Array | None,
        noise: Noise | None = None,
    ) -> jax.Array:
        """[B, L, width] to the same; tokens not `real` [B, L] are attended by none."""

        def thinned(branch, number):
            if noise is None:
                return branch
            rng, path_rng = jax.random.split(jax.random.fold_in(noise.rng, number))
            if self.dropout:
                branch = dropout(rng, branch, self.dropout)
            return dropout(path_rng, branch, noise.drop_path, rows=True)

        *rows, width = x.shape
        y = Norm(dtype=self.dtype, name="norm1")(x)
        split = (*rows, self.heads, width // self.heads)
        y = attend(
            *(
                part.reshape(split)
                for part in Projections(dtype=self.dtype, name="qkv")(y)
            ),
            mask=None if real is None else real[:, None, None],
            causal=self.causal,
        )
        y = Dense(width, dtype=self.dtype, name="out")(y.reshape(x.shape))
        x += thinned(y, 0)

        y = Norm(dtype=self.dtype, name="norm2")(x)
        y = Dense(int(width * self.mlp_ratio), dtype=self.dtype, name="mlp1")(y)
        y = gelu(y)
        return x + thinned(Dense(width, dtype=self.dtype, name="mlp2")(y), 1)


class Transformer(nn.Module):
    """Pre-norm blocks, then a last LayerNorm (Vaswani et al. 2017, arXiv:1706.03762).

    Attributes:
      depth: number of blocks.
      heads: of the attention; a divisor of the width.
      mlp_ratio: hidden width of the MLPs over the width.
      dtype: of products and activations; parameters are float32.
      remat: keep the input of each block only, and compute the block again in the
        backward pass.
      causal: a token sees itself and what comes before it.
      dropout: probability in training that a number of the input, or of what a layer
        adds, is dropped.
      drop_path: that the last block adds nothing to an example; in a straight line from
        0 at the first of several.
    """

    depth: int
    heads: int
    mlp_ratio: float
    dtype: str
    remat: bool
    causal: bool = False
    dropout: float = 0.0
    drop_path: float = 0.0

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        real: jax.Array | None = None,
        *,
        train: bool,
        told: jax.Array | None = None,
    ) -> jax.Array:
        """[B, L, width] to float32 of that shape; `real` [B, L] bool, None: all.

        Layers are means over the tokens `told` [B, L]; None: over the real ones.
        """
        told = real if told is None else told
        dtype = DTYPES[self.dtype]
        x = x.astype(dtype)
        noise = None
        if train and (self.dropout or self.drop_path):
            rng, *rngs = jax.random.split(self.make_rng("dropout"), self.depth + 1)
            if self.dropout:
                x = dropout(rng, x, self.dropout)
            # The last of them is that of the last block, also where it is the first.
            growing = jnp.linspace(self.drop_path, 0.0, self.depth)[::-1]
            noise = Noise(jnp.stack(rngs), growing)
        block = functools.partial(
            Block,
            heads=self.heads,
            mlp_ratio=self.mlp_ratio,
            dtype=dtype,
            causal=self.causal,
            dropout=self.dropout,
        )
        names = [f"block{i + 1}" for i in range(self.depth)]
        if self.remat and not self.is_initializing():
            # Block after block without a loop, XLA needs no less memory on CPUs than
            # without checkpoints.
            one = block(parent=None)
            asked = telling(self)

            @functools.partial(jax.checkpoint, prevent_cse=False)
            def step(x, given):
                params, noise = given
                x = one.apply({"params": params}, x, real, noise)
                return x, pooled(x, told) if asked else None

            params = [self.variables["params"][name] for name in names]
            stacked = jax.tree.map(lambda *p: jnp.stack(p), *params)
            x, layers = jax.lax.scan(step, x, (stacked, noise))
            for i in range(self.depth if asked else 0):
                tell(self, i + 1, layers[i])
        else:
            for i, name in enumerate(names):
                own = jax.tree.map(lambda drawn, i=i: drawn[i], noise)
                x = block(name=name)(x, real, own)
                tell(self, i + 1, x, told)
        return Norm(dtype=jnp.float32, name="norm")(x)


def check_transformer(
    factory: str,
    *,
    width: int,
    depth: int,
    heads: int,
    mlp_ratio: float,
    dtype: str,
    dropout: float = 0.0,
    drop_path: float = 0.0,
) -> None:
    """Refuses what `Transformer` cannot be made of.

    Raises:
      UsageError: naming the factory and the argument.
    """
    check_sizes(factory, width=width, depth=depth, heads=heads)
    check_rates(factory, dropout=dropout, drop_path=drop_path)
    if width % heads:
        raise UsageError(
            f"{factory}: heads must divide the width, got heads={heads} and "
            f"width={width}"
        )
    if not 1 <= width * mlp_ratio < math.inf:
        raise UsageError(
            f"{factory}: mlp_ratio must leave a hidden layer of 1 or more, got "
            f"{mlp_ratio} at width={width}"
        )
    check_dtype(factory, dtype)


def check_choice(factory: str, name: str, value: str, known: tuple[str, ...]) -> None:
    """Refuses a value that is not one of `known`.

    Raises:
      UsageError: naming the factory, the argument and the values there are.
    """
    if value not in known:
        raise UsageError(
            f"{factory}: {name} must be one of {', '.join(known)}, got {value!r}"
        )
