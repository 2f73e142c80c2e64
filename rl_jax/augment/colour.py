"""Colour: jitter, greyscale, solarisation.

Values are clipped to [0, 1] after each step, as 8-bit pipelines do. On an image of one
channel saturation, hue and greyscale are the identity.
"""

import math
from collections.abc import Sequence

import chex
import jax
import jax.numpy as jnp

from rl_jax.augment import ranges
from rl_jax.errors import UsageError

_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601


def _is_grey(op: str, image: chex.Array) -> bool:
    chex.assert_rank(image, 3)
    if image.shape[-1] not in (1, 3):
        raise UsageError(
            f"{op}: image must have 1 or 3 channels, got shape {image.shape}"
        )
    return image.shape[-1] == 1


def _parts(image: chex.Array) -> list[chex.Array]:
    """The channels [H, W] by themselves; on CPU the image as it is.

    A pixel is then computed once for its three channels: a third of the arithmetic
    and half of the traffic on a GPU. XLA's loops on CPU would be one for each channel.
    """
    if jax.default_backend() == "cpu":
        return [image]
    return [image[..., c] for c in range(image.shape[-1])]


def _joined(parts: Sequence[chex.Array]) -> chex.Array:
    return parts[0] if parts[0].ndim == 3 else jnp.stack(parts, axis=-1)


def _channels(parts: Sequence[chex.Array]) -> Sequence[chex.Array]:
    """Three [H, W], or [H, W, 1] of a whole image."""
    return [parts[0][..., c : c + 1] for c in range(3)] if len(parts) == 1 else parts


def _luma(parts: Sequence[chex.Array]) -> chex.Array:
    red, green, blue = _channels(parts)
    return _LUMA[0] * red + _LUMA[1] * green + _LUMA[2] * blue


def _blend(image: chex.Array, other: chex.Array, factor: chex.Numeric) -> chex.Array:
    return jnp.clip(other + factor * (image - other), 0.0, 1.0)


def greyscale(image: chex.Array) -> chex.Array:
    """Luma in every channel: 0.299 R + 0.587 G + 0.114 B (ITU-R BT.601).

    Args:
      image: [H, W, C] float32 in [0, 1], C = 1 or 3.

    Returns:
      [H, W, C] float32 in [0, 1].
    """
    if _is_grey("greyscale", image):
        return image
    return jnp.broadcast_to(_luma([image]), image.shape)


def adjust_brightness(image: chex.Array, factor: chex.Numeric) -> chex.Array:
    """clip(f x), Pillow's `ImageEnhance.Brightness`; image [H, W, C], factor f >= 0."""
    return jnp.clip(factor * image, 0.0, 1.0)


def adjust_contrast(image: chex.Array, factor: chex.Numeric) -> chex.Array:
    """clip(m + f (x − m)), m the mean luma: Pillow's `ImageEnhance.Contrast`.

    Args:
      image: [H, W, C] float32 in [0, 1]; m is the mean of all values when C != 3.
      factor: f >= 0.

    Returns:
      [H, W, C] float32 in [0, 1].
    """
    chex.assert_rank(image, 3)
    grey = _luma([image]) if image.shape[-1] == 3 else image
    return _blend(image, grey.mean(keepdims=True), factor)


def adjust_saturation(image: chex.Array, factor: chex.Numeric) -> chex.Array:
    """clip(y + f (x − y)), y the pixel's luma: Pillow's `ImageEnhance.Color`.

    Args:
      image: [H, W, C] float32 in [0, 1], C = 1 or 3.
      factor: f >= 0; 0 is greyscale.

    Returns:
      [H, W, C] float32 in [0, 1].
    """
    if _is_grey("adjust_saturation", image):
        return image
    return _blend(image, _luma([image]), factor)


def adjust_hue(image: chex.Array, delta: chex.Numeric) -> chex.Array:
    """Turns the hue in HSV space; value and saturation stay.

    Args:
      image: [H, W, C] float32 in [0, 1], C = 1 or 3.
      delta: turn as a share of the full circle, in [−½, ½].

    Returns:
      [H, W, C] float32 in [0, 1].
    """
    if _is_grey("adjust_hue", image):
        return image
    return _turned([image], delta)[0]


def _turned(parts: Sequence[chex.Array], delta: chex.Numeric) -> list[chex.Array]:
    red, green, blue = _channels(parts)
    value = jnp.maximum(jnp.maximum(red, green), blue)
    chroma = value - jnp.minimum(jnp.minimum(red, green), blue)
    is_red, is_green = value == red, value == green
    pure = jnp.where(is_red, 0.0, jnp.where(is_green, 2.0, 4.0))
    slope = jnp.where(
        is_red, green - blue, jnp.where(is_green, blue - red, red - green)
    )
    # Grey pixels have no hue; any finite one will do.
    hue = pure + slope / jnp.where(chroma > 0, chroma, 1.0) + 6 * delta

    def of(primary):
        # Distance of the hue around the circle of length 6; rounding vectorises on CPU
        # where `mod` does not (12x).
        distance = hue - primary
        distance = jnp.abs(distance - 6 * jnp.round(distance / 6))
        return value - chroma * jnp.clip(distance - 1, 0.0, 1.0)

    primaries = (0.0, 2.0, 4.0)
    if len(parts) == 1:
        return [of(jnp.array(primaries)[None, None, :])]
    return [of(primary) for primary in primaries]


def solarise(image: chex.Array, *, threshold: float = 0.5) -> chex.Array:
    """Inverts bright pixels, x >= threshold becomes 1 − x (`ImageOps.solarize`).

    Args:
      image: [H, W, C] float32 in [0, 1].
      threshold: in [0, 1]; ½ is 128 of 255, the value of BYOL.

    Returns:
      [H, W, C] float32 in [0, 1].
    """
    return jnp.where(image < threshold, image, 1.0 - image)


def colour_jitter(
    rng: chex.PRNGKey,
    image: chex.Array,
    *,
    brightness: float = 0.0,
    contrast: float = 0.0,
    saturation: float = 0.0,
    hue: float = 0.0,
    p: float = 1.0,
) -> chex.Array:
    """Random brightness, contrast, saturation and hue in random order (2002.05709).

    Factors are U(max(0, 1 − strength), 1 + strength), the turn of the hue U(−hue, hue).
    The order is drawn per image, as SimCLR, BYOL and torchvision do; a strength of zero
    leaves its step out.

    Args:
      rng: key.
      image: [H, W, C] float32 in [0, 1]; C = 1 or 3 where saturation or hue is used.
      brightness, contrast, saturation: strengths >= 0.
      hue: strength in [0, ½].
      p: probability in [0, 1] that anything is done.

    Returns:
      [H, W, C] float32 in [0, 1].

    Raises:
      UsageError: an argument out of bounds, or C is neither 1 nor 3.
    """
    ranges.within(
        "colour_jitter",
        0,
        math.inf,
        brightness=brightness,
        contrast=contrast,
        saturation=saturation,
    )
    ranges.within("colour_jitter", 0, 0.5, hue=hue)
    ranges.within("colour_jitter", 0, 1, p=p)
    chex.assert_rank(image, 3)
    strengths = {"brightness": brightness, "contrast": contrast}
    if image.shape[-1] != 1:
        strengths |= {"saturation": saturation, "hue": hue}
    strengths = {name: strength for name, strength in strengths.items() if strength > 0}
    if not strengths or p == 0:
        return image
    if not strengths.keys().isdisjoint(("saturation", "hue")):
        _is_grey("colour_jitter", image)

    # One call for all draws: every call of a generator costs compile time.
    draws = jax.random.uniform(rng, (2 * len(strengths) + 1,))
    order = jnp.argsort(draws[: len(strengths)])
    amounts = {}
    for (name, strength), draw in zip(
        strengths.items(), draws[len(strengths) : -1], strict=True
    ):
        low, high = -strength, strength
        if name != "hue":
            low, high = max(0.0, 1 + low), 1 + high
        amounts[name] = low + (high - low) * draw
    # Under vmap a switch would compute every branch too; a select fuses with them.
    first = parts = _parts(image)
    for turn in range(len(strengths)):
        parts = _one_step(parts, order[turn], amounts)
    return _joined(
        [jnp.where(draws[-1] < p, x, y) for x, y in zip(parts, first, strict=True)]
    )


def _one_step(
    parts: list[chex.Array], chosen: chex.Array, amounts: dict[str, chex.Array]
) -> list[chex.Array]:
    """The step of that number among `amounts`.

    All but the hue are one formula: a blend of the pixel with black, with the mean of
    the image or with its own grey. So few steps compute little that is not chosen.
    """
    grey = _luma(parts) if _three(parts) else sum(parts) / len(parts)
    others = {
        "brightness": 0.0,
        "contrast": grey.mean(keepdims=True) if "contrast" in amounts else 0.0,
        "saturation": grey,
    }
    other = 0.0
    for k, name in enumerate(amounts):
        if name in ("contrast", "saturation"):
            other = jnp.where(chosen == k, others[name], other)
    factor = jax.lax.select_n(chosen, *amounts.values())
    blended = [_blend(x, other, factor) for x in parts]
    if "hue" not in amounts:
        return blended
    turned = _turned(parts, amounts["hue"])
    is_hue = chosen == len(amounts) - 1
    return [jnp.where(is_hue, x, y) for x, y in zip(turned, blended, strict=True)]


def _three(parts: Sequence[chex.Array]) -> bool:
    return len(parts) == 3 or parts[0].shape[2:] == (3,)


def random_greyscale(
    rng: chex.PRNGKey, image: chex.Array, *, p: float = 0.2
) -> chex.Array:
    """`greyscale` with probability p; image [H, W, C] float32, C = 1 or 3."""
    ranges.within("random_greyscale", 0, 1, p=p)
    return jnp.where(jax.random.bernoulli(rng, float(p)), greyscale(image), image)


def random_solarise(
    rng: chex.PRNGKey, image: chex.Array, *, p: float = 0.2, threshold: float = 0.5
) -> chex.Array:
    """`solarise` with probability p; image [H, W, C] float32 in [0, 1]."""
    ranges.within("random_solarise", 0, 1, p=p, threshold=threshold)
    if p == 0:
        return image
    solarised = solarise(image, threshold=threshold)
    return jnp.where(jax.random.bernoulli(rng, float(p)), solarised, image)
