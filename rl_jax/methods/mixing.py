"""Images mixed with one another, and their labels with them: Mixup and CutMix."""

import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
from scipy import special

from rl_jax.errors import UsageError

QUANTILES = 4096


def check(factory: str, *, mixup: float, cutmix: float) -> None:
    """Refuses exponents that are negative or not finite.

    Raises:
      UsageError: naming the factory and the argument.
    """
    for name, alpha in (("mixup", mixup), ("cutmix", cutmix)):
        if not 0 <= alpha < math.inf:
            raise UsageError(f"{factory}: {name} must be >= 0 and finite, got {alpha}")


def mix(
    factory: str,
    rng: chex.PRNGKey,
    x: chex.Array,
    index: chex.Array,
    *,
    mixup: float,
    cutmix: float,
) -> tuple[chex.Array, chex.Array]:
    """Each image of a batch with some of another one in it.

    The images of a pair of neighbours are mixed with each other, each with a share λ of
    its own, λ ~ Beta(α, α).
    Mixup (Zhang et al. 2018, arXiv:1710.09412): λx + (1 − λ)x'. CutMix (Yun et al.
    2019, arXiv:1905.04899): x, and x' in a box of the share 1 − λ of the area, its
    centre anywhere; λ is then what is left of x, as edges of the image cut the box.
    Where both are asked for, each is as likely.

    Args:
      factory: of the method, for its errors.
      rng: key of the step.
      x: [B, H, W, C] of a float dtype.
      index: int32 [B], examples, by which λ and boxes are drawn.
      mixup: α ≥ 0 of Mixup; 0: none.
      cutmix: α ≥ 0 of CutMix; 0: none. One of the two is > 0.

    Returns:
      The images, and float32 [B], the share λ of each that is its own.

    Raises:
      UsageError: for other than images.
    """
    if x.ndim != 4:
        raise UsageError(
            f"{factory}: mixup and cutmix are of images [B, H, W, C], got {x.shape}; "
            "leave both at 0"
        )
    height, width = x.shape[1:3]
    share = 0.5 if mixup and cutmix else float(bool(mixup))

    def own(rng):
        """λ of an image, and float32 [H, W], how much of each pixel it keeps."""
        rng_which, rng_blend, rng_box, rng_centre = jax.random.split(rng, 4)
        blend = _beta(rng_blend, mixup)
        side = jnp.sqrt(1.0 - _beta(rng_box, cutmix))
        centre = jax.random.uniform(rng_centre, (2,))
        rows = _outside(centre[0], side, height)
        columns = _outside(centre[1], side, width)
        box = jnp.maximum(rows[:, None], columns[None, :])
        blends = jax.random.uniform(rng_which) < share
        return jnp.where(blends, jnp.full_like(box, blend), box)

    rngs = jax.vmap(jax.random.fold_in, (None, 0))(rng, index)
    keeps = jax.vmap(own)(rngs)
    weight = keeps[..., None].astype(x.dtype)
    return weight * x + (1 - weight) * partners(x), jnp.mean(keeps, axis=(1, 2))


def partners(x: chex.Array) -> chex.Array:
    """[B, ...] with neighbours in each other's place; the last of an odd number stays.

    Neighbours, for a batch shared out over devices then stays where it is.
    """
    even = len(x) // 2 * 2
    pairs = x[:even].reshape(-1, 2, *x.shape[1:])[:, ::-1]
    return jnp.concatenate([pairs.reshape(even, *x.shape[1:]), x[even:]])


def _beta(rng: chex.PRNGKey, alpha: float) -> chex.Array:
    """λ ~ Beta(α, α); 1 where there is no α.

    By its quantiles, linear between 4096 of them: `jax.random.beta` draws until it
    accepts, which devices that share a batch would do in step.
    """
    if not alpha:
        return jnp.ones([])
    shares = np.linspace(0.0, 1.0, QUANTILES + 1)
    quantiles = special.betaincinv(alpha, alpha, shares).astype(np.float32)
    place = jax.random.uniform(rng) * QUANTILES
    return jnp.interp(place, jnp.arange(QUANTILES + 1), jnp.asarray(quantiles))


def _outside(centre: chex.Array, side: chex.Array, pixels: int) -> chex.Array:
    """1.0 where a pixel of a row is outside the box, 0.0 inside."""
    place = jnp.arange(pixels)
    middle, half = jnp.floor(centre * pixels), jnp.floor(side * pixels) // 2
    inside = (place >= middle - half) & (place < middle + half)
    return 1.0 - inside.astype(jnp.float32)
