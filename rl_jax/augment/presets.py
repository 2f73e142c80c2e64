"""Augmentations of known data sets; their parameters are the command line's flags."""

from functools import partial

import jax
import jax.numpy as jnp

from rl_jax.augment import ranges
from rl_jax.augment.affine import random_affine, random_flip
from rl_jax.augment.blur import random_blur
from rl_jax.augment.colour import colour_jitter, random_greyscale, random_solarise
from rl_jax.augment.compose import (
    Transform,
    check_batch,
    check_standard,
    standardise,
    to_float,
    views,
)
from rl_jax.augment.crop import random_resized_crop
from rl_jax.augment.erasing import random_erasing
from rl_jax.augment.noise import gaussian_noise, pixel_dropout
from rl_jax.augment.rand_augment import rand_augment as random_operations
from rl_jax.types import Augment

__all__ = ["cifar", "digits", "imagenet", "multi_crop", "none", "plain"]

DIGITS_MEAN, DIGITS_STD = 0.3053, 0.3760
"""Over all values of scikit-learn's 1797 digits, scaled from [0, 16] to [0, 1]."""

CIFAR_MEAN, CIFAR_STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
"""Per channel over the CIFAR-10 training set."""

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Per channel over the ImageNet training set, the values every library uses."""


def _checked(augment: Augment, *shape: int) -> Augment:
    """Traces it on one image: a wrong flag must fail here, not in the compiled step."""

    def trace(image, index):
        return augment.views(jax.random.key(0), {"image": image, "index": index})

    jax.eval_shape(
        trace,
        jax.ShapeDtypeStruct((1, *shape), jnp.uint8),
        jax.ShapeDtypeStruct((1,), jnp.int32),
    )
    return augment._replace(unit_range=True)


def _colour_view(
    size: int,
    crop_scale: tuple[float, float],
    *,
    flip: float,
    jitter: float,
    strengths: tuple[float, float, float, float],
    grey: float,
    blur: float,
    solarise: float,
) -> tuple[Transform, ...]:
    """Crop, flip, jitter, greyscale, blur, solarisation: a view of a colour image.

    `strengths` are those of brightness, contrast, saturation and hue.
    """
    names = ("brightness", "contrast", "saturation", "hue")
    return (
        partial(random_resized_crop, size=size, scale=crop_scale),
        partial(random_flip, p=flip),
        partial(colour_jitter, **dict(zip(names, strengths, strict=True)), p=jitter),
        partial(random_greyscale, p=grey),
        partial(random_blur, p=blur),
        partial(random_solarise, p=solarise),
    )


def _for_labels(
    magnitude: float, erasing: float, fill: tuple[float, float, float]
) -> tuple[tuple[Transform, ...], tuple[Transform, ...]]:
    """What views have last, before and after they are standardised; () where 0."""
    # Nothing is done where nothing is asked for, whatever its magnitude.
    drawn = partial(random_operations, magnitude=magnitude, fill=fill)
    erased = partial(random_erasing, probability=erasing)
    return (drawn,) if magnitude != 0 else (), (erased,) if erasing != 0 else ()


def _differ(*of_views: tuple[float, float]) -> bool:
    """Whether some probability is another one in the second view."""
    return any(first != second for first, second in of_views)


def digits(
    *,
    shift: float = 1.0,
    rotate: float = 10.0,
    shear: float = 5.0,
    scale: tuple[float, float] = (0.85, 1.15),
    brightness: float = 0.2,
    noise: float = 0.1,
    dropout: float = 0.0,
    num_views: int = 2,
    num_local: int = 0,
    local_size: int = 6,
    local_scale: tuple[float, float] = (0.3, 0.7),
) -> Augment:
    """Views of scikit-learn's 8×8 digits: affine maps, gain and noise; no flips.

    With `num_local` (multi-crop, for SwAV, DINO, LeJEPA) there are `local_views` too,
    random crops of such a view.

    Args:
      shift: largest shift in pixels along each axis, >= 0.
      rotate, shear: largest angles in degrees.
      scale: range of the enlargement, > 0.
      brightness: strength of the random gain, >= 0.
      noise: standard deviation of the added noise, of the range [0, 1].
      dropout: probability that a pixel is set to zero.
      num_views: views per image, >= 1.
      num_local: crops per image beside them, >= 0.
      local_size: side of the crops in pixels, >= 1.
      local_scale: range of a crop's share of the image's area, in (0, 1].

    Returns:
      An `Augment` for images [B, H, W, 1].

    Raises:
      UsageError: an argument out of bounds.
    """
    move = partial(random_affine, shift=shift, rotate=rotate, shear=shear, scale=scale)
    crop = partial(random_resized_crop, size=local_size, scale=local_scale)
    disturb = (
        partial(colour_jitter, brightness=brightness),
        partial(pixel_dropout, rate=dropout),
        partial(gaussian_noise, sd=noise),
    )
    augment = views(
        move,
        *disturb,
        num_views=num_views,
        local=(move, crop, *disturb),
        num_local=num_local,
        mean=DIGITS_MEAN,
        std=DIGITS_STD,
    )
    return _checked(augment, 8, 8, 1)


def cifar(
    *,
    size: int = 32,
    crop_scale: tuple[float, float] = (0.08, 1.0),
    flip: float = 0.5,
    jitter: float = 0.8,
    brightness: float = 0.4,
    contrast: float = 0.4,
    saturation: float = 0.4,
    hue: float = 0.1,
    grey: float = 0.2,
    blur: float = 0.0,
    solarise: float = 0.0,
    rand_augment: float = 0.0,
    erasing: float = 0.0,
    num_views: int = 2,
    mean: tuple[float, float, float] = CIFAR_MEAN,
    std: tuple[float, float, float] = CIFAR_STD,
) -> Augment:
    """SimCLR's views of CIFAR (Chen et al. 2020, arXiv:2002.05709, B.9), colour ½.

    Crop, flip, jitter, greyscale, blur, solarisation, RandAugment and, of standardised
    images, random erasing, in this order.

    Args:
      size: side of views and clean images in pixels, >= 1.
      crop_scale: range of the crop's share of the image's area, in (0, 1].
      flip, jitter, grey, blur, solarise: probabilities of the operations.
      brightness, contrast, saturation: strengths of the jitter, >= 0: 0.8 s at s = ½.
      hue: strength in [0, ½]: 0.2 s.
      rand_augment: magnitude of two operations, see `augment.rand_augment`, in [0, 10];
        0: none. With labels a transformer has 9.
      erasing: probability of a box of noise, see `augment.random_erasing`; then 0.25.
      num_views: views per image, >= 1.
      mean, std: of each channel, by which images are standardised, in units of [0, 1];
        those of CIFAR-10.

    Returns:
      An `Augment` for images [B, H, W, 3].

    Raises:
      UsageError: an argument out of bounds.
    """
    drawn, erased = _for_labels(rand_augment, erasing, mean)
    augment = views(
        *_colour_view(
            size,
            crop_scale,
            flip=flip,
            jitter=jitter,
            strengths=(brightness, contrast, saturation, hue),
            grey=grey,
            blur=blur,
            solarise=solarise,
        ),
        *drawn,
        finish=erased,
        num_views=num_views,
        size=size,
        crop_fraction=1.0,
        mean=mean,
        std=std,
    )
    return _checked(augment, size, size, 3)


def imagenet(
    *,
    size: int = 224,
    crop_scale: tuple[float, float] = (0.08, 1.0),
    flip: float = 0.5,
    jitter: float = 0.8,
    brightness: float = 0.4,
    contrast: float = 0.4,
    saturation: float = 0.2,
    hue: float = 0.1,
    grey: float = 0.2,
    blur: tuple[float, float] = (1.0, 0.1),
    solarise: tuple[float, float] = (0.0, 0.2),
    rand_augment: float = 0.0,
    erasing: float = 0.0,
    num_views: int = 2,
) -> Augment:
    """BYOL's two views of ImageNet (Grill et al. 2020, arXiv:2006.07733, table 6).

    Crop, flip, jitter, greyscale, blur, solarisation, RandAugment and, of standardised
    images, random erasing, in this order. SimCLR's: jitter strengths 0.8, 0.8, 0.8,
    0.2, `blur=(0.5, 0.5)`, `solarise=(0.0, 0.0)`.

    Args:
      size: side of views and clean images in pixels, >= 1. A clean image is the central
        7/8 of the shorter side, or all of it if that is not above `size`.
      crop_scale: range of the crop's share of the image's area, in (0, 1].
      flip, jitter, grey: probabilities of the operations.
      brightness, contrast, saturation: strengths of the jitter, >= 0.
      hue: strength in [0, ½].
      blur, solarise: probabilities in the first and in the second view.
      rand_augment: magnitude of two operations, see `augment.rand_augment`, in [0, 10];
        0: none. With labels a transformer has 9.
      erasing: probability of a box of noise, see `augment.random_erasing`; then 0.25.
      num_views: 2, or 1, the first alone, for methods that take one; more where blur
        and solarise are the same in both.

    Returns:
      An `Augment` for images [B, H, W, 3].

    Raises:
      UsageError: an argument out of bounds.
    """
    ranges.pairs("imagenet", blur=blur, solarise=solarise)
    colour = {
        "flip": flip,
        "jitter": jitter,
        "strengths": (brightness, contrast, saturation, hue),
        "grey": grey,
    }
    first, second = (
        _colour_view(size, crop_scale, blur=b, solarise=s, **colour)
        for b, s in zip(blur, solarise, strict=True)
    )
    drawn, erased = _for_labels(rand_augment, erasing, IMAGENET_MEAN)
    differ = num_views != 1 and _differ(blur, solarise)
    augment = views(
        *first,
        *drawn,
        second=(*second, *drawn) if differ else None,
        finish=erased,
        num_views=num_views,
        size=size,
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
    )
    return _checked(augment, size, size, 3)


def plain(*, size: int | None = None, mean: float = 0.0, std: float = 1.0) -> Augment:
    """The images as they are: for methods that make their own task of a clean image.

    Args:
      size: side in pixels to which images are resized, bilinearly; None: as they come.
      mean, std: standardised is (x − mean) / std, in units of [0, 1]; 0 and 1 leave
        pixels in [0, 1], which reconstruction of probabilities needs.

    Returns:
      An `Augment` for images [B, H, W, C]; a batch gets no `views`.

    Raises:
      UsageError: for a size < 1 or std ≤ 0; in use, a batch that does not fit.
    """
    if size is not None:
        ranges.whole("plain", 1, size=size)
    check_standard("plain", mean, std)

    def clean(image):
        image = to_float(image)
        if size is not None:
            shape = (image.shape[0], size, size, image.shape[-1])
            image = jax.image.resize(image, shape, "bilinear")
        return standardise(image, mean, std)

    def views(rng, batch):
        del rng
        check_batch(batch, "image")
        return {**batch, "image": clean(batch["image"])}

    return Augment(views, clean)


def none() -> Augment:
    """No augmentation: batches of tokens, sequences or vectors pass as they are."""

    def views(rng, batch):
        del rng
        return batch

    def clean(image):
        return image

    return Augment(views, clean)


def multi_crop(
    *,
    size: int = 32,
    local_size: int = 16,
    num_local: int = 6,
    crop_scale: tuple[float, float] = (0.4, 1.0),
    local_scale: tuple[float, float] = (0.05, 0.4),
    flip: float = 0.5,
    jitter: float = 0.8,
    brightness: float = 0.4,
    contrast: float = 0.4,
    saturation: float = 0.2,
    hue: float = 0.1,
    grey: float = 0.2,
    blur: tuple[float, float] = (0.0, 0.0),
    local_blur: float = 0.0,
    solarise: tuple[float, float] = (0.0, 0.2),
) -> Augment:
    """Two large views and several small crops (Caron et al. 2020, arXiv:2006.09882).

    `views` [B, 2, size, size, 3] and `local_views` [B, num_local, local_size,
    local_size, 3]. Scales, colours and solarisation are DINO's (arXiv:2104.14294); on
    photographs it has `size=224`, `local_size=96`, `num_local=8`, `blur=(1.0, 0.1)` and
    `local_blur=0.5`, SwAV `num_local=6`, `crop_scale=(0.14, 1.0)` and
    `local_scale=(0.05, 0.14)`.

    Args:
      size: side of views and clean images in pixels, >= 1. A clean image is the central
        7/8 of the shorter side, or all of it if that is not above `size`.
      local_size: side of the crops in pixels, >= 1.
      num_local: crops per image, >= 0.
      crop_scale, local_scale: ranges of the share of the image's area that views and
        crops show, in (0, 1].
      flip, jitter, grey, local_blur: probabilities of the operations; the last is of
        crops.
      brightness, contrast, saturation: strengths of the jitter, >= 0.
      hue: strength in [0, ½].
      blur, solarise: probabilities in the first and in the second view.

    Returns:
      An `Augment` for images [B, H, W, 3].

    Raises:
      UsageError: an argument out of bounds.
    """
    ranges.pairs("multi_crop", blur=blur, solarise=solarise)
    colour = {
        "flip": flip,
        "jitter": jitter,
        "strengths": (brightness, contrast, saturation, hue),
        "grey": grey,
    }
    first, second = (
        _colour_view(size, crop_scale, blur=b, solarise=s, **colour)
        for b, s in zip(blur, solarise, strict=True)
    )
    augment = views(
        *first,
        second=second if _differ(blur, solarise) else None,
        local=_colour_view(
            local_size, local_scale, blur=local_blur, solarise=0.0, **colour
        ),
        num_local=num_local,
        size=size,
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
    )
    return _checked(augment, size, size, 3)
