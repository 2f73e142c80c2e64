"""Gaussian blur."""

import chex
import jax
import jax.numpy as jnp

from rl_jax.augment import ranges
from rl_jax.augment.crop import along_both


def _blur_matrix(size: int, sigma: chex.Numeric, radius: int) -> chex.Array:
    """[size, size] Gaussian band; the axis is mirrored at its first and last pixel."""
    radius = min(radius, size - 1)
    last = size - 1
    i, j = jnp.arange(size)[:, None], jnp.arange(size)[None, :]

    def band(offset):
        weight = jnp.exp(-0.5 * jnp.square(offset / sigma))
        return jnp.where(jnp.abs(offset) <= radius, weight, 0.0)

    mirrored_low = jnp.where(j > 0, band(i + j), 0.0)
    mirrored_high = jnp.where(j < last, band(2 * last - i - j), 0.0)
    weights = band(i - j) + mirrored_low + mirrored_high
    return weights / weights.sum(axis=1, keepdims=True)


def gaussian_blur(
    image: chex.Array, sigma: chex.Numeric, *, radius: int | None = None
) -> chex.Array:
    """Gaussian blur as one banded matrix product per axis: K(σ) · image · K(σ)ᵀ.

    k(d) ∝ exp(−d² / 2σ²) for |d| <= radius; borders are mirrored without repeating the
    edge (SciPy's "mirror", torchvision's "reflect"). A matrix, not a convolution: its
    kernel may differ from image to image at no cost.

    Args:
      image: [H, W, C] float32.
      sigma: scalar > 0 in pixels.
      radius: half the kernel's width in pixels, >= 1, at most the axis minus one;
        default a twentieth of H, i.e. SimCLR's kernel of a tenth of the height.

    Returns:
      [H, W, C] float32; the range stays.

    Raises:
      UsageError: radius < 1 or no whole number.
    """
    chex.assert_rank(image, 3)
    height, width, _ = image.shape
    if radius is None:
        radius = max(1, height // 20)
    ranges.whole("gaussian_blur", 1, radius=radius)
    rows, columns = (_blur_matrix(size, sigma, radius) for size in (height, width))
    return along_both(rows, image, columns)


def random_blur(
    rng: chex.PRNGKey,
    image: chex.Array,
    *,
    sigma: ranges.Range = (0.1, 2.0),
    radius: int | None = None,
    p: float = 0.5,
) -> chex.Array:
    """`gaussian_blur` with σ ~ U(sigma) and probability p (Chen et al., 2002.05709).

    Args:
      rng: key.
      image: [H, W, C] float32.
      sigma: range of σ in pixels, > 0.
      radius: see `gaussian_blur`.
      p: probability in [0, 1].

    Returns:
      [H, W, C] float32.

    Raises:
      UsageError: an argument out of bounds.
    """
    ranges.ordered("random_blur", sigma=sigma)
    ranges.within("random_blur", 0, 1, p=p)
    if p == 0:
        return image
    chance, position = jax.random.uniform(rng, (2,))
    width = sigma[0] + (sigma[1] - sigma[0]) * position
    # So narrow that the weight of a neighbour is exactly 0: the image as it is (but for
    # TF32 on an accelerator, as in a crop), without keeping it beside the blurred one.
    width = jnp.where(chance < p, width, 0.01)
    return gaussian_blur(image, width, radius=radius)
