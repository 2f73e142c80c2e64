"""A picture of the first batch: each image and the views made of it."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np

from rl_jax import data, train
from rl_jax.run.recipe import Parts, Recipe


def save_view_grid(
    path: pathlib.Path, recipe: Recipe, parts: Parts, *, rows: int = 8
) -> None:
    """Writes a PNG with a row per example: the clean image, then its views.

    The examples and the randomness are those of step 0, so the picture shows what the
    first step trains on; without views the clean images alone. The contrast is
    stretched over the picture.
    """
    from PIL import Image

    source = parts.source
    index = data.batch_indices(
        recipe.seed, 0, size=source.size, batch_size=recipe.batch_size
    )[:rows]
    batch = data.examples(source, index)
    rng_views, _ = train.step_keys(jax.random.key(recipe.seed), 0)
    batch = jax.jit(parts.augment.views)(rng_views, batch)
    grid = batch["image"][:, None]
    if "views" in batch:
        grid = jnp.concatenate([grid, batch["views"]], axis=1)
    grid = np.asarray(grid)
    Image.fromarray(_tile(grid)).save(path)


def _tile(grid: np.ndarray, *, gap: int = 2) -> np.ndarray:
    """[R, C, H, W, ch] float -> one uint8 picture, small images enlarged."""
    low, high = np.percentile(grid, [0.5, 99.5])
    grid = np.clip((grid - low) / max(high - low, 1e-6), 0, 1)
    scale = max(1, 64 // grid.shape[2])
    grid = grid.repeat(scale, axis=2).repeat(scale, axis=3)
    pad = [(0, 0), (0, 0), (gap, gap), (gap, gap), (0, 0)]
    grid = np.pad(grid, pad, constant_values=1.0)
    rows, columns, height, width, channels = grid.shape
    picture = grid.transpose(0, 2, 1, 3, 4).reshape(rows * height, columns * width, -1)
    picture = (255 * picture).round().astype(np.uint8)
    return picture[..., 0] if channels == 1 else picture[..., :3]
