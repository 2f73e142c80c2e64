"""What a representation must beat."""

import jax.numpy as jnp
import numpy as np

from rl_jax.errors import UsageError, checked


@checked
def raw_pixels(images: np.ndarray) -> np.ndarray:
    """The images themselves as features.

    Args:
      images: [n, H, W, C], uint8, or float in [0, 1].

    Returns:
      float32 [n, H·W·C] in [0, 1].

    Raises:
      UsageError: another shape, dtype or range.
    """
    images = np.asarray(images)
    if images.ndim != 4 or not images.size:
        raise UsageError(f"raw_pixels: expected [n, H, W, C], got {images.shape}")
    flat = images.reshape(len(images), -1)
    if images.dtype == np.uint8:
        return flat.astype(np.float32) / np.float32(255)
    if not jnp.issubdtype(images.dtype, jnp.floating):
        raise UsageError(f"raw_pixels: expected uint8 or float, got {images.dtype}")
    if not (flat.min() >= 0 and flat.max() <= 1):
        raise UsageError(
            f"raw_pixels: float images must be in [0, 1], got {flat.min()} .. "
            f"{flat.max()}; undo the standardisation first"
        )
    return flat.astype(np.float32)
