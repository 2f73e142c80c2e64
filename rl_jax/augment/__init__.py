"""Image augmentation on the device: operations `(rng, image, *, ...) -> image`.

An operation sees one image [H, W, C] float32 in [0, 1]; `views` binds operations to an
`Augment` of a batch, inside the compiled step. `presets` has those of known data sets.
"""

from rl_jax.augment import presets
from rl_jax.augment.affine import affine, affine_matrix, random_affine, random_flip
from rl_jax.augment.blur import gaussian_blur, random_blur
from rl_jax.augment.colour import (
    adjust_brightness,
    adjust_contrast,
    adjust_hue,
    adjust_saturation,
    colour_jitter,
    greyscale,
    random_greyscale,
    random_solarise,
    solarise,
)
from rl_jax.augment.compose import Transform, compose, to_float, views
from rl_jax.augment.crop import (
    centre_crop,
    crop_box,
    interpolation_matrix,
    random_resized_crop,
    resample,
)
from rl_jax.augment.erasing import random_erasing
from rl_jax.augment.levels import (
    adjust_sharpness,
    auto_contrast,
    equalise,
    posterise,
    solarise_add,
)
from rl_jax.augment.noise import gaussian_noise, pixel_dropout
from rl_jax.augment.presets import cifar, digits, imagenet, multi_crop
from rl_jax.augment.rand_augment import rand_augment

__all__ = [
    "Transform",
    "adjust_brightness",
    "adjust_contrast",
    "adjust_hue",
    "adjust_saturation",
    "adjust_sharpness",
    "affine",
    "affine_matrix",
    "auto_contrast",
    "centre_crop",
    "cifar",
    "colour_jitter",
    "compose",
    "crop_box",
    "digits",
    "equalise",
    "gaussian_blur",
    "gaussian_noise",
    "greyscale",
    "imagenet",
    "interpolation_matrix",
    "multi_crop",
    "pixel_dropout",
    "posterise",
    "presets",
    "rand_augment",
    "random_affine",
    "random_blur",
    "random_erasing",
    "random_flip",
    "random_greyscale",
    "random_resized_crop",
    "random_solarise",
    "resample",
    "solarise",
    "solarise_add",
    "to_float",
    "views",
]
