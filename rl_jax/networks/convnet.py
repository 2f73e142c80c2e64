"""A small convolutional network for tiny images."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from rl_jax.errors import UsageError
from rl_jax.networks.convolution import convolve
from rl_jax.networks.kernels import scaled_normal
from rl_jax.networks.layers import tell
from rl_jax.networks.linen import (
    OTHERWISE,
    as_sizes,
    check_input,
    check_sizes,
    from_linen,
)
from rl_jax.networks.norm import BatchNorm
from rl_jax.networks.precision import DTYPES, Dtype, check_dtype
from rl_jax.types import Network


class ConvNet(nn.Module):
    """3×3 convolutions with BatchNorm and ReLU, then the mean over positions."""

    widths: tuple[int, ...]
    batch_norm: bool = True
    split: int = 1
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """[B, H, W, C] to float32 [B, widths[-1]]."""
        check_input("convnet", x, "images [B, H, W, C]", rank=4, instead=OTHERWISE)
        for i, width in enumerate(self.widths):
            x = nn.Conv(
                width,
                (3, 3),
                strides=1 if i == 0 else 2,
                padding=1,
                use_bias=not self.batch_norm,
                dtype=DTYPES[self.dtype],
                kernel_init=scaled_normal(2.0, fan="out"),
                conv_general_dilated=convolve,
            )(x)
            if self.batch_norm:
                x = BatchNorm(split=self.split)(x, train=train)
            x = nn.relu(x)
            tell(self, i + 1, x)
        return jnp.mean(x.astype(jnp.float32), axis=(1, 2))


def convnet(
    *,
    widths: tuple[int, ...] = (64, 128, 256),
    batch_norm: bool = True,
    split: int = 1,
    dtype: Dtype = "float32",
) -> Network:
    """A convolutional network for tiny images such as 8×8 digits.

    One 3×3 convolution, BatchNorm and ReLU for each width: the first at full
    resolution, every other with stride 2; h is the mean over the positions left.

    Args:
      widths: channels of each convolution; the last is the width of h.
      batch_norm: normalise after each convolution; otherwise it has a bias.
      split: BatchNorm statistics of that many contiguous groups of the batch.
      dtype: of the convolutions and activations; parameters, BatchNorm statistics and h
        are float32.

    Returns:
      A network [B, H, W, C] -> [B, widths[-1]] float32.

    Raises:
      UsageError: for no widths, sizes below 1, or a dtype there is not; while tracing,
        for other than images.
    """
    widths = as_sizes("convnet", widths=widths)
    check_sizes("convnet", split=split)
    check_dtype("convnet", dtype)
    if not widths:
        raise UsageError("convnet: widths must name at least one convolution, got ()")
    return from_linen(
        ConvNet(widths=widths, batch_norm=batch_norm, split=split, dtype=dtype)
    )
