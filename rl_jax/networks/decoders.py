"""Decoders: from a code back to the shape of the data."""

import math

import jax
import jax.numpy as jnp
from flax import linen as nn

from rl_jax.errors import UsageError
from rl_jax.networks.kernels import scaled_normal
from rl_jax.networks.linen import as_sizes, check_input, from_linen
from rl_jax.networks.mlp import MLP, Activation, check_activation
from rl_jax.networks.norm import BatchNorm
from rl_jax.networks.precision import DTYPES, Dtype, check_dtype
from rl_jax.types import Network

MASKED = "use a mae_decoder for patches that are masked"


class MLPDecoder(nn.Module):
    """A multi-layer perceptron whose output is cut to shape."""

    shape: tuple[int, ...]
    features: tuple[int, ...]
    activation: str = "relu"
    batch_norm: bool = False
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """[B, d] to float32 [B, *shape]."""
        check_input("mlp_decoder", x, "codes [B, d]", instead=MASKED)
        x = MLP(
            features=self.features,
            out=math.prod(self.shape),
            activation=self.activation,
            batch_norm=self.batch_norm,
            dtype=self.dtype,
        )(x, train=train)
        return x.reshape(x.shape[0], *self.shape)


class ConvDecoder(nn.Module):
    """A linear layer to a small image, then doublings and 3×3 convolutions."""

    shape: tuple[int, ...]
    widths: tuple[int, ...]
    batch_norm: bool = False
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """[B, d] to float32 [B, H, W, C]."""
        check_input("conv_decoder", x, "codes [B, d]", instead=MASKED)
        height, width, channels = self.shape
        times = 2 ** (len(self.widths) - 1)
        start = (height // times, width // times, self.widths[0])
        x = x.reshape(x.shape[0], -1)
        # A bias for each position: BatchNorm takes away only their mean.
        x = nn.Dense(
            math.prod(start),
            dtype=DTYPES[self.dtype],
            kernel_init=scaled_normal(2.0, fan="in"),
        )(x)
        x = self._hidden(x.reshape(-1, *start), train=train)
        for features in self.widths[1:]:
            x = jnp.repeat(jnp.repeat(x, 2, axis=1), 2, axis=2)
            x = self._convolution(features, 2.0, use_bias=not self.batch_norm)(x)
            x = self._hidden(x, train=train)
        x = self._convolution(channels, 1.0, use_bias=True)(x)
        return x.astype(jnp.float32)

    def _hidden(self, x: jax.Array, *, train: bool) -> jax.Array:
        if self.batch_norm:
            x = BatchNorm()(x, train=train)
        return nn.relu(x)

    def _convolution(self, features: int, gain: float, *, use_bias: bool) -> nn.Conv:
        return nn.Conv(
            features,
            (3, 3),
            padding=1,
            use_bias=use_bias,
            dtype=DTYPES[self.dtype],
            kernel_init=scaled_normal(gain, fan="in"),
        )


def mlp_decoder(
    *,
    shape: tuple[int, ...],
    features: tuple[int, ...] = (256, 256),
    activation: Activation = "relu",
    batch_norm: bool = False,
    dtype: Dtype = "float32",
) -> Network:
    """A multi-layer perceptron from a code to data of any shape.

    z ← φ(W z + b) for each hidden layer, then W z + b, cut to shape; the output is not
    squashed.

    Args:
      shape: of one example, (H, W, C) of an image; follows from the data.
      features: width of each hidden layer; () for a linear map.
      activation: φ of the hidden layers.
      batch_norm: normalise before each activation instead of a bias; what is decoded
        then depends on the batch in training.
      dtype: of products and activations, as in `mlp`.

    Returns:
      A network [B, d] -> [B, *shape] float32.

    Raises:
      UsageError: for sizes below 1, no shape, or an activation or dtype there is not.
    """
    shape = _checked_shape("mlp_decoder", shape)
    features = as_sizes("mlp_decoder", features=features)
    check_activation("mlp_decoder", activation)
    check_dtype("mlp_decoder", dtype)
    return from_linen(
        MLPDecoder(
            shape=shape,
            features=features,
            activation=activation,
            batch_norm=batch_norm,
            dtype=dtype,
        )
    )


def conv_decoder(
    *,
    shape: tuple[int, ...],
    widths: tuple[int, ...] = (128, 64, 32),
    batch_norm: bool = False,
    dtype: Dtype = "float32",
) -> Network:
    """A convolutional network from a code to small images, by resize-convolution.

    A linear layer makes an image of H/2ⁿ × W/2ⁿ, n = len(widths) − 1; n times each
    pixel is doubled along both axes and a 3×3 convolution follows; a last one makes C
    channels. Doubling and convolving has no uneven overlaps, from which transposed
    convolutions draw chequerboards (Odena et al. 2016, 10.23915/distill.00003). ReLU
    between layers; the output is not squashed.

    Args:
      shape: (H, W, C) of an image, H and W multiples of 2ⁿ; follows from the data.
      widths: channels at each resolution, the coarsest first.
      batch_norm: normalise before each ReLU; what is decoded then depends on the batch
        in training.
      dtype: of the convolutions and activations, as in `convnet`.

    Returns:
      A network [B, d] -> [B, H, W, C] float32.

    Raises:
      UsageError: for no widths, sizes below 1, a shape that n doublings do not make, or
        a dtype there is not.
    """
    shape = _checked_shape("conv_decoder", shape)
    widths = as_sizes("conv_decoder", widths=widths)
    check_dtype("conv_decoder", dtype)
    if not widths:
        raise UsageError("conv_decoder: widths must name at least one layer, got ()")
    if len(shape) != 3:
        raise UsageError(
            f"conv_decoder: shape must be (H, W, C), got {shape}; use mlp_decoder for "
            "data of another rank"
        )
    times = 2 ** (len(widths) - 1)
    if shape[0] % times or shape[1] % times:
        raise UsageError(
            f"conv_decoder: {len(widths)} widths need H and W to be multiples of "
            f"{times}, got shape {shape}; use fewer widths, or mlp_decoder"
        )
    return from_linen(
        ConvDecoder(shape=shape, widths=widths, batch_norm=batch_norm, dtype=dtype)
    )


def _checked_shape(factory: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape as a tuple.

    Raises:
      UsageError: for the shape of a number, or sizes below 1.
    """
    shape = as_sizes(factory, shape=shape)
    if not shape:
        raise UsageError(f"{factory}: shape must have at least one axis, got ()")
    return shape
