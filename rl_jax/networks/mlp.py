"""Multi-layer perceptrons."""

import functools
from typing import Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

from rl_jax.errors import UsageError
from rl_jax.networks.kernels import scaled_normal
from rl_jax.networks.layers import tell
from rl_jax.networks.linen import as_sizes, check_input, check_sizes, from_linen
from rl_jax.networks.norm import BatchNorm
from rl_jax.networks.precision import DTYPES, Dtype, check_dtype
from rl_jax.types import Network

Activation = Literal["relu", "gelu", "silu", "tanh"]
ACTIVATIONS = {
    "relu": nn.relu,
    "gelu": functools.partial(nn.gelu, approximate=False),  # of erf, as in a vit
    "silu": nn.silu,
    "tanh": nn.tanh,
}


class MLP(nn.Module):
    """Hidden layers of linear, BatchNorm, activation; then a linear layer, or none.

    A last BatchNorm is float32 whatever `dtype` is.
    """

    features: tuple[int, ...]
    out: int | None
    activation: str = "relu"
    batch_norm: bool = True
    final_batch_norm: bool = False
    split: int = 1
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """[B, ...] to float32 [B, out]."""
        check_input("mlp", x, "an array [B, ...]", instead="use a vit for patches")
        x = x.reshape(x.shape[0], -1)
        dtype = DTYPES[self.dtype]
        for i, features in enumerate(self.features):
            # BatchNorm takes the mean away, and with it any bias before it.
            x = nn.Dense(
                features,
                use_bias=not self.batch_norm,
                dtype=dtype,
                kernel_init=scaled_normal(2.0, fan="in"),
            )(x)
            if self.batch_norm:
                x = BatchNorm(split=self.split)(x, train=train)
            x = ACTIVATIONS[self.activation](x)
            tell(self, i + 1, x)
        if self.out is None:
            return x.astype(jnp.float32)
        x = nn.Dense(
            self.out,
            use_bias=not self.final_batch_norm,
            dtype=dtype,
            kernel_init=scaled_normal(1.0, fan="in"),
        )(x).astype(jnp.float32)
        if self.final_batch_norm:
            x = BatchNorm(split=self.split, affine=False)(x, train=train)
        return x


def mlp(
    *,
    features: tuple[int, ...] = (256, 256),
    out: int = 128,
    activation: Activation = "relu",
    batch_norm: bool = True,
    split: int = 1,
    dtype: Dtype = "float32",
) -> Network:
    """A multi-layer perceptron: linear, BatchNorm and activation, then a linear layer.

    x ← φ(BN(W x)) for each hidden layer, then W x + b. Inputs of more than two axes
    ([B, H, W, C]) are flattened to [B, H·W·C].

    Args:
      features: width of each hidden layer; () for a linear map.
      out: D, width of the output.
      activation: φ of the hidden layers.
      batch_norm: normalise before each activation; otherwise the layer has a bias.
      split: BatchNorm statistics of that many contiguous groups of the batch.
      dtype: of products and activations; parameters, BatchNorm statistics and the
        output are float32.

    Returns:
      A network [B, ...] -> [B, D] float32.

    Raises:
      UsageError: for sizes below 1, or an activation or dtype there is not.
    """
    features = as_sizes("mlp", features=features)
    check_sizes("mlp", out=out, split=split)
    check_activation("mlp", activation)
    check_dtype("mlp", dtype)
    return from_linen(
        MLP(
            features=features,
            out=out,
            activation=activation,
            batch_norm=batch_norm,
            split=split,
            dtype=dtype,
        )
    )


def check_activation(factory: str, activation: str) -> None:
    """Refuses the name of an activation there is not.

    Raises:
      UsageError: naming the ones there are.
    """
    if activation not in ACTIVATIONS:
        known = ", ".join(ACTIVATIONS)
        raise UsageError(
            f"{factory}: activation must be one of {known}, got {activation!r}"
        )
