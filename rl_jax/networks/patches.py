"""Images cut into patches, and where the patches are."""

from typing import NamedTuple

import chex
import jax.numpy as jnp

from rl_jax.errors import UsageError


class Patches(NamedTuple):
    """Some patches of each image of a batch.

    Attributes:
      values: [B, K, p·p·C], as `patchify` cuts them.
      positions: int32 [B, K, 2], row and column of each in the grid of patches.
      hidden: bool [B, K], those in whose place `token` stands; None: none.
      token: [D], as wide as the network's tokens; its place is added to it.
    """

    values: chex.Array
    positions: chex.Array
    hidden: chex.Array | None = None
    token: chex.Array | None = None


def patchify(image: chex.Array, patch: int) -> chex.Array:
    """Cuts images into square patches, row by row.

    Args:
      image: [B, H, W, C].
      patch: p, side of a patch in pixels; divides H and W.

    Returns:
      [B, L, p·p·C] with L = H/p · W/p; the values of a patch by row, column, channel.

    Raises:
      UsageError: where p does not divide H and W.
    """
    rows, columns = grid(image.shape, patch)
    x = image.reshape(-1, rows, patch, columns, patch, image.shape[-1])
    return x.swapaxes(2, 3).reshape(image.shape[0], rows * columns, -1)


def unpatchify(patches: chex.Array, patch: int, shape: tuple[int, ...]) -> chex.Array:
    """Puts images together again: the inverse of `patchify`.

    Args:
      patches: [B, L, p·p·C].
      patch: p, side of a patch in pixels.
      shape: of an image, (H, W, C).

    Returns:
      [B, H, W, C].

    Raises:
      UsageError: where the patches do not make images of that shape.
    """
    rows, columns = grid((patches.shape[0], *shape), patch)
    if patches.shape[1:] != (rows * columns, patch * patch * shape[-1]):
        raise UsageError(
            f"unpatchify: patches {patches.shape} of patch={patch} do not make images "
            f"of shape {tuple(shape)}"
        )
    x = patches.reshape(-1, rows, columns, patch, patch, shape[-1])
    return x.swapaxes(2, 3).reshape(-1, *shape)


def patch_positions(rows: int, columns: int) -> chex.Array:
    """Row and column of each patch of a grid, int32 [rows·columns, 2], row by row."""
    places = jnp.arange(rows * columns, dtype=jnp.int32)
    return jnp.stack([places // columns, places % columns], axis=1)


def grid(shape: tuple[int, ...], patch: int) -> tuple[int, int]:
    """Rows and columns of patches in images of shape [B, H, W, C].

    Raises:
      UsageError: for another rank, or where `patch` does not divide H and W.
    """
    if len(shape) != 4:
        raise UsageError(f"patches: expected images [B, H, W, C], got {shape}")
    _, height, width, _ = shape
    if height % patch or width % patch:
        raise UsageError(
            f"patches: patch={patch} does not divide images of {height}×{width} "
            "pixels; choose one that divides both sides"
        )
    return height // patch, width // patch


def sincos(positions: chex.Array, width: int) -> chex.Array:
    """Fixed embedding of rows and columns (He et al. 2022, arXiv:2111.06377).

    Sines and cosines of n·10000^(−4i/width), i < width/4: of the column n in the first
    half, of the row in the second.

    Args:
      positions: int [..., 2], row and column.
      width: of the embedding, a multiple of 4.

    Returns:
      float32 [..., width].
    """
    quarter = width // 4
    rates = 10000.0 ** (-jnp.arange(quarter, dtype=jnp.float32) / quarter)
    angles = jnp.multiply.outer(positions[..., ::-1].astype(jnp.float32), rates)
    waves = jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)
    return waves.reshape(*positions.shape[:-1], width)


def check_quarters(factory: str, width: int) -> None:
    """Refuses widths that `sincos` cannot fill.

    Raises:
      UsageError: naming the factory.
    """
    if width % 4:
        raise UsageError(
            f"{factory}: width must be a multiple of 4 for sine-cosine positions, got "
            f"{width}"
        )
