"""Corrupted copies of images: one call, nineteen corruptions, five severities."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np

from rl_jax.errors import UsageError, checked
from rl_jax.evaluate.corruptions.blur import BLUR
from rl_jax.evaluate.corruptions.digital import DIGITAL
from rl_jax.evaluate.corruptions.noise import NOISE
from rl_jax.evaluate.corruptions.severities import SEVERITIES, scaled
from rl_jax.evaluate.corruptions.spatter import SPATTER
from rl_jax.evaluate.corruptions.weather import WEATHER

CORRUPTIONS: dict[str, tuple[str, ...]] = {
    "noise": ("gaussian_noise", "shot_noise", "impulse_noise"),
    "blur": ("defocus_blur", "glass_blur", "motion_blur", "zoom_blur"),
    "weather": ("snow", "frost", "fog", "brightness"),
    "digital": ("contrast", "elastic_transform", "pixelate", "jpeg_compression"),
    "extra": ("speckle_noise", "gaussian_blur", "spatter", "saturate"),
}
"""Names of the corruptions, by family; "extra" is not in the published mean."""

_PARTS = NOISE | BLUR | WEATHER | DIGITAL | SPATTER
_LEAST = 8


@checked
def corrupt(
    rng: chex.PRNGKey, images: chex.Array, *, name: str, severity: int
) -> chex.Array:
    """Corruptions of ImageNet-C (Hendrycks & Dietterich 2019, arXiv:1903.12261).

    Images of min(H, W) >= 64 take the constants of ImageNet-C, smaller ones those of
    CIFAR-10-C; lengths in pixels scale by min(H, W) over 224 or 32, and no further down
    than what still shows. Images are 8-bit, as files are: values are rounded to k/255
    before and after (the published programs cut, to the next lower k). One compilation
    serves the five severities of a corruption and shape.

    What is drawn and the formula are in the docstring of the function of that name in
    `noise`, `blur`, `weather`, `spatter` and `digital` of this package.

    Args:
      rng: key; the image at position i of this call draws from `fold_in(rng, i)`.
      images: [B, H, W, C] float in [0, 1], H and W >= 8, C = 1 or 3.
      name: one of `evaluate.corruptions.CORRUPTIONS`.
      severity: 1 to 5.

    Returns:
      [B, H, W, C] float32, multiples of 1/255 in [0, 1].

    Raises:
      UsageError: for an unknown name or severity, or images that are none.
    """
    _check_name("corrupt", name)
    if severity not in SEVERITIES:
        raise UsageError(f"corrupt: severity must be 1 .. 5, got {severity}")
    images = _checked("corrupt", images)
    uniforms = _uniforms(rng, name, images.shape)
    constants = _constants(name, images.shape[1:], SEVERITIES.index(severity))
    return _corrupted(images, uniforms, constants, name=name)


@checked
def corrupt_all(rng: chex.PRNGKey, images: chex.Array, *, name: str) -> chex.Array:
    """`corrupt` at all severities, with the same draws.

    Args:
      rng, images, name: see `corrupt`.

    Returns:
      [5, B, H, W, C] float32, mild to severe.

    Raises:
      UsageError: as `corrupt`.
    """
    _check_name("corrupt_all", name)
    images = _checked("corrupt_all", images)
    # One after another: five batches of one compilation, whose intermediates are the
    # memory of one.
    uniforms = _uniforms(rng, name, images.shape)
    rows = [_constants(name, images.shape[1:], s) for s in range(len(SEVERITIES))]
    return jnp.stack([_corrupted(images, uniforms, row, name=name) for row in rows])


def fields(
    rng: chex.PRNGKey, shape: tuple[int, int, int, int], *, name: str
) -> dict[str, chex.Array]:
    """The random fields that `corrupt` draws for images of this shape.

    Args:
      rng: key.
      shape: [B, H, W, C].
      name: one of `evaluate.corruptions.CORRUPTIONS`.

    Returns:
      {field: [B, ...]} as the docstring of the corruption's function has them; {} for
      the deterministic ones.

    Raises:
      UsageError: for an unknown name.
    """
    _check_name("fields", name)
    shape = tuple(shape)
    draw = functools.partial(_drawn, name=name, shape=shape[1:])
    return jax.vmap(draw)(_uniforms(rng, name, shape))


def _uniforms(rng, name, shape):
    """[B, n] ~ U[0, 1): one n for all corruptions, as the generator compiles slowly.

    The first k of n numbers are those of k: what is drawn does not depend on n.
    """
    if not _PARTS[name].count(shape[1:]):
        return jnp.zeros((shape[0], 0))
    most = max(parts.count(shape[1:]) for parts in _PARTS.values())
    return _generated(rng, shape[0], most)


@functools.partial(jax.jit, static_argnums=(1, 2))
def _generated(rng, examples, count):
    rngs = jax.vmap(jax.random.fold_in, (None, 0))(rng, jnp.arange(examples))
    return jax.vmap(lambda rng: jax.random.uniform(rng, (count,)))(rngs)


def _drawn(uniforms, *, name, shape):
    count = _PARTS[name].count(shape)
    return _PARTS[name].draw(uniforms[:count], shape)


def _levels(images):
    return jnp.round(255 * jnp.clip(images, 0.0, 1.0)) / 255


@functools.partial(jax.jit, static_argnames="name")
def _corrupted(images, uniforms, constants, *, name):
    def one(image, uniforms):
        drawn = _drawn(uniforms, name=name, shape=image.shape)
        return _PARTS[name].apply(image, drawn, constants)

    images = _levels(images.astype(jnp.float32))
    return _levels(jax.vmap(one)(images, uniforms))


@functools.lru_cache(maxsize=128)
def _constants(name, shape, index):
    return _PARTS[name].constants(scaled(name, shape), index, shape)


def _check_name(function, name):
    known = [n for names in CORRUPTIONS.values() for n in names]
    if name not in known:
        raise UsageError(
            f"{function}: name must be one of {', '.join(known)}, got {name!r}"
        )


def _checked(function, images):
    images = images if isinstance(images, jax.Array) else np.asarray(images)
    if images.ndim != 4 or images.shape[-1] not in (1, 3) or not len(images):
        raise UsageError(
            f"{function}: images must be [B, H, W, C], B >= 1, C = 1 or 3, got shape "
            f"{images.shape}"
        )
    if min(images.shape[1:3]) < _LEAST:
        raise UsageError(
            f"{function}: images must be {_LEAST} pixels or more high and wide, got "
            f"{images.shape[1:3]}; enlarge them first"
        )
    if not jnp.issubdtype(images.dtype, jnp.floating):
        raise UsageError(
            f"{function}: images must be float in [0, 1], got {images.dtype}; divide "
            "8-bit ones by 255"
        )
    low, high = float(images.min()), float(images.max())
    if not (low >= 0 and high <= 1):
        raise UsageError(
            f"{function}: images must be finite and in [0, 1], got {low:g} .. {high:g}"
        )
    return images
