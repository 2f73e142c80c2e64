"""Convolutions over few positions, as a product of matrices on CPU."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

POSITIONS = 8
"""Outputs of an image up to which the product is taken. From 3×3 on XLA's convolution
takes as long."""


def convolve(
    x: jax.Array,
    kernel: jax.Array,
    strides: Sequence[int],
    padding: Sequence[tuple[int, int]],
    **options,
) -> jax.Array:
    """`jax.lax.conv_general_dilated` of [B, H, W, C] with a kernel [k, l, C, D].

    XLA's own gradient by the input is many times slower on CPU where the output is 2×2
    (`python -m profiling.convolution`). There, for up to 8 positions, the patches are
    laid side by side, [B·h·w, k·l·C], and multiplied.

    Args:
      x, kernel, strides, padding: as there; padding as pairs.
      **options: of it, as `flax.linen.Conv` passes them; what dilates or groups is
        left to XLA.
    """
    one = (None, 1, (1, 1), [1, 1])
    plain = all(
        options.get(name) in one
        for name in ("lhs_dilation", "rhs_dilation", "feature_group_count")
    )
    sides = _sides(x, kernel, strides, padding)
    few = sides[0] * sides[1] <= POSITIONS
    if not (plain and few and jax.default_backend() == "cpu"):
        return jax.lax.conv_general_dilated(x, kernel, strides, padding, **options)
    return product(x, kernel, strides, padding, **options)


def product(
    x: jax.Array,
    kernel: jax.Array,
    strides: Sequence[int],
    padding: Sequence[tuple[int, int]],
    **options,
) -> jax.Array:
    """The same by patches, of any size; options that dilate or group are ignored."""
    sides = _sides(x, kernel, strides, padding)
    x = jnp.pad(x, ((0, 0), *padding, (0, 0)))
    across, down = (
        [slice(i, i + stride * (side - 1) + 1, stride) for i in range(k)]
        for side, stride, k in zip(sides, strides, kernel.shape, strict=False)
    )
    patches = jnp.concatenate([x[:, i, j] for i in across for j in down], axis=-1)
    return jnp.matmul(
        patches,
        kernel.reshape(-1, kernel.shape[-1]),
        precision=options.get("precision"),
        preferred_element_type=options.get("preferred_element_type"),
    )


def _sides(x, kernel, strides, padding) -> list[int]:
    """Height and width of the output."""
    return [
        (size + sum(pad) - k) // stride + 1
        for size, pad, k, stride in zip(
            x.shape[1:3], padding, kernel.shape[:2], strides, strict=True
        )
    ]
