"""Residual networks."""

import functools
from typing import Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

from rl_jax.errors import UsageError
from rl_jax.networks.again import again
from rl_jax.networks.convolution import convolve
from rl_jax.networks.kernels import scaled_normal
from rl_jax.networks.layers import tell
from rl_jax.networks.linen import OTHERWISE, check_input, check_sizes, from_linen
from rl_jax.networks.norm import BatchNorm
from rl_jax.networks.precision import DTYPES, Dtype, check_dtype
from rl_jax.types import Network

STAGES = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
}


class Block(nn.Module):
    """x + F(x), then ReLU; F is two 3×3 convolutions, or 1×1, 3×3, 1×1 at a bottleneck.

    The stride is that of the first 3×3 convolution, also at a bottleneck: the v1.5 form
    that torchvision and most published numbers have.
    """

    width: int
    stride: int
    bottleneck: bool
    dtype: jnp.dtype
    split: int
    zero_init_residual: bool

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """[B, H, W, C] to [B, H / stride, W / stride, width or 4·width]."""
        conv = functools.partial(convolution, dtype=self.dtype)
        norm = functools.partial(BatchNorm, split=self.split)
        last = (
            nn.initializers.zeros if self.zero_init_residual else nn.initializers.ones
        )

        if self.bottleneck:
            layers = (
                (self.width, 1, 1),
                (self.width, 3, self.stride),
                (4 * self.width, 1, 1),
            )
        else:
            layers = ((self.width, 3, self.stride), (self.width, 3, 1))
        y = x
        for width, size, stride in layers[:-1]:
            y = nn.relu(norm()(conv(width, size, stride)(y), train=train))
        width, size, stride = layers[-1]
        y = norm(scale_init=last)(conv(width, size, stride)(y), train=train)

        if x.shape != y.shape:
            x = conv(width, 1, self.stride, name="shortcut")(x)
            x = norm(name="shortcut_norm")(x, train=train)
        return nn.relu(x + y)


class ResNet(nn.Module):
    """Stem, four stages of blocks, mean over positions."""

    depth: int
    stem: str
    width: int
    dtype: jnp.dtype
    split: int
    zero_init_residual: bool
    remat: bool

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """[B, H, W, C] to [B, 8·width or 32·width]."""
        check_input("resnet", x, "images [B, H, W, C]", rank=4, instead=OTHERWISE)
        size, stride = (7, 2) if self.stem == "imagenet" else (3, 1)
        x = convolution(self.width, size, stride, dtype=self.dtype, name="stem")(x)
        x = BatchNorm(split=self.split, name="stem_norm")(x, train=train)
        x = nn.relu(x)
        if self.stem == "imagenet":
            edge = (1, 1)
            x = nn.max_pool(x, (3, 3), strides=(2, 2), padding=(edge, edge))  # type: ignore[arg-type]
        tell(self, 1, x)

        for stage, blocks in enumerate(STAGES[self.depth]):
            for block in range(blocks):
                module = functools.partial(
                    Block,
                    width=self.width * 2**stage,
                    stride=2 if stage > 0 and block == 0 else 1,
                    bottleneck=self.depth >= 50,
                    dtype=self.dtype,
                    split=self.split,
                    zero_init_residual=self.zero_init_residual,
                )
                name = f"stage{stage + 1}_block{block + 1}"
                if self.remat and train and not self.is_initializing():
                    x = self._again(module(parent=None), name, x)
                else:
                    x = module(name=name)(x, train=train)
            tell(self, stage + 2, x)
        return jnp.mean(x.astype(jnp.float32), axis=(1, 2))

    def _again(self, block: Block, name: str, x: jax.Array) -> jax.Array:
        """A block of that name in training, of which its input is kept."""

        @again
        def run(variables, x):
            return block.apply(variables, x, train=True, mutable=["batch_stats"])

        own = {kind: self.variables[kind][name] for kind in ("params", "batch_stats")}
        x, new = run(own, x)
        self.put_variable("batch_stats", name, new["batch_stats"])
        return x


def convolution(width: int, size: int, stride: int, **kwargs) -> nn.Conv:
    """A square convolution without bias; He-normal by fan-out, symmetric padding.

    Flax's "SAME" would pad a strided convolution on one side only, half a pixel off
    the published networks.
    """
    return nn.Conv(
        width,
        (size, size),
        strides=stride,
        padding=size // 2,
        use_bias=False,
        kernel_init=scaled_normal(2.0, fan="out"),
        conv_general_dilated=convolve,
        **kwargs,
    )


def resnet(
    *,
    depth: Literal[18, 34, 50, 101, 152] = 18,
    stem: Literal["imagenet", "cifar"] = "imagenet",
    width: int = 64,
    dtype: Dtype = "float32",
    split: int = 1,
    zero_init_residual: bool = True,
    remat: bool = False,
) -> Network:
    """A residual network without its classifier (He et al. 2015, arXiv:1512.03385).

    h is the mean over positions of the last stage. Parameters, BatchNorm statistics and
    h are float32 whatever `dtype` is; parameters are those of torchvision's networks.

    Args:
      depth: 18 and 34 with basic blocks, 50, 101 and 152 with bottlenecks whose stride
        is in the 3×3 convolution (v1.5).
      stem: imagenet: 7×7 convolution of stride 2 and 3×3 max-pooling of stride 2;
        cifar: 3×3 convolution of stride 1, for images up to 64 pixels.
      width: channels of the stem; stage s has width·2^(s−1), ×4 at bottlenecks.
      dtype: of the convolutions and activations.
      split: BatchNorm statistics of that many contiguous groups of the batch.
      zero_init_residual: start the last BatchNorm scale of each block at 0, so that a
        block starts as its shortcut (Goyal et al. 2017, arXiv:1706.02677).
      remat: compute each block again in the backward pass of training, to save memory.

    Returns:
      A network [B, H, W, C] -> [B, D] float32, D = 8·width, or 32·width from depth 50
      on.

    Raises:
      UsageError: for a depth, stem or dtype there is not, or sizes below 1; while
        tracing, for other than images.
    """
    known = {
        "depth": (depth, tuple(STAGES)),
        "stem": (stem, ("imagenet", "cifar")),
    }
    for name, (value, values) in known.items():
        if value not in values:
            expected = ", ".join(map(str, values))
            raise UsageError(f"resnet: {name} must be one of {expected}, got {value!r}")
    check_dtype("resnet", dtype)
    check_sizes("resnet", width=width, split=split)
    return from_linen(
        ResNet(
            depth=depth,
            stem=stem,
            width=width,
            dtype=DTYPES[dtype],  # type: ignore[arg-type]
            split=split,
            zero_init_residual=zero_init_residual,
            remat=remat,
        )
    )
