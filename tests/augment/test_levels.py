"""Operations on levels and sharpness, against Pillow."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

from rl_jax import augment
from rl_jax.errors import UsageError

RNG = np.random.default_rng(0)
LEVEL = 1 / 255
EVERY = np.arange(256, dtype=np.uint8).reshape(16, 16, 1)
NOISE = RNG.integers(0, 256, (19, 31, 3), dtype=np.uint8)
DARK = RNG.binomial(40, 0.3, (40, 30, 3)).astype(np.uint8)
"""Few levels, none of them at an end."""
STRIPES = np.repeat(np.array([[[9]], [[200]]], np.uint8), 300, axis=1).repeat(3, axis=2)
CONSTANT = np.full((20, 20, 3), 77, np.uint8)
BYTES = {"every": EVERY, "noise": NOISE, "dark": DARK, "stripes": STRIPES}
BYTES["constant"] = CONSTANT


def floats(pixels):
    return (pixels / 255).astype(np.float32)


def pillow(operation, pixels):
    image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    return np.asarray(operation(image), np.float64).reshape(pixels.shape) / 255


@pytest.mark.parametrize("pixels", BYTES.values(), ids=BYTES)
def test_equalise_equals_pillow(pixels):
    got = jax.jit(augment.equalise)(floats(pixels))
    np.testing.assert_allclose(got, pillow(ImageOps.equalize, pixels), atol=1e-6)


def test_equalise_of_few_pixels_changes_nothing():
    few = RNG.random((15, 17, 3), dtype=np.float32)  # s = 0
    np.testing.assert_array_equal(augment.equalise(few), few)


def test_equalised_levels_are_as_frequent():
    image = RNG.beta(2, 8, (64, 64, 3)).astype(np.float32)
    got = np.asarray(augment.equalise(image))
    quarters = np.histogram(got, bins=4, range=(0, 1))[0] / got.size
    assert np.abs(quarters - 0.25).max() < 0.03
    assert np.histogram(image, bins=4, range=(0, 1))[0][3] < 0.01 * got.size


@pytest.mark.parametrize("pixels", BYTES.values(), ids=BYTES)
def test_auto_contrast_equals_pillow(pixels):
    got = np.asarray(jax.jit(augment.auto_contrast)(floats(pixels)), np.float64)
    # Pillow leaves off what is behind the point, and so may be a level lower.
    below = got - pillow(ImageOps.autocontrast, pixels)
    assert below.min() > -1e-6
    assert below.max() < LEVEL + 1e-6
    if pixels is not CONSTANT:
        assert (got.min(axis=(0, 1)) == 0).all()
        assert (got.max(axis=(0, 1)) == 1).all()


@pytest.mark.parametrize("bits", range(9))
def test_posterise_equals_pillow_on_every_level(bits):
    got = jax.jit(augment.posterise)(floats(EVERY), bits)
    # Pillow's own refuses 0 since version 13, and was black before.
    kept = (
        partial(ImageOps.posterize, bits=bits) if bits else lambda x: x.point(256 * [0])
    )
    expected = pillow(kept, EVERY)
    np.testing.assert_allclose(got, expected, atol=1e-6)


@pytest.mark.parametrize(("added", "threshold"), [(0, 128), (99, 128), (255, 40)])
def test_solarise_add_on_every_level(added, threshold):
    level = EVERY.astype(int)
    expected = np.where(level < threshold, np.minimum(level + added, 255), level) / 255
    got = augment.solarise_add(
        floats(EVERY), added / 255, threshold=(threshold - 0.5) / 255
    )
    np.testing.assert_allclose(got, expected, atol=1e-6)
    with pytest.raises(UsageError, match=r"solarise_add: threshold must be in \[0, 1"):
        augment.solarise_add(floats(EVERY), 0.1, threshold=2.0)


@pytest.mark.parametrize("factor", [0.0, 0.19, 1.0, 1.81])
@pytest.mark.parametrize("pixels", [NOISE, NOISE[..., :1]], ids=["colour", "grey"])
def test_sharpness_equals_pillow(factor, pixels):
    got = jax.jit(augment.adjust_sharpness)(floats(pixels), factor)
    expected = pillow(lambda x: ImageEnhance.Sharpness(x).enhance(factor), pixels)
    # Pillow truncates the result and rounds what it blends with.
    np.testing.assert_allclose(got, expected, atol=1.51 * LEVEL)
    if factor == 0:
        smooth = pillow(lambda x: x.filter(ImageFilter.SMOOTH), pixels)
        np.testing.assert_allclose(got, smooth, atol=0.51 * LEVEL)
    if factor == 1:
        np.testing.assert_allclose(got, floats(pixels), atol=1e-6)


@pytest.mark.parametrize("side", [1, 2])
def test_images_without_an_inside_stay_as_sharp(side):
    image = RNG.random((side, 5, 3), dtype=np.float32)
    np.testing.assert_array_equal(augment.adjust_sharpness(image, 0.3), image)


@pytest.mark.parametrize(
    "operation",
    [
        augment.equalise,
        augment.auto_contrast,
        partial(augment.posterise, bits=3),
        partial(augment.solarise_add, addition=0.4),
        partial(augment.adjust_sharpness, factor=1.9),
    ],
)
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_shape_dtype_and_range_stay_and_jit_changes_nothing(operation, channels):
    image = RNG.random((20, 23, channels), dtype=np.float32)
    for x in (image, jnp.zeros_like(image), jnp.ones_like(image)):
        got = jax.jit(operation)(x)
        assert (got.shape, got.dtype) == (x.shape, jnp.float32)
        assert got.min() >= 0
        assert got.max() <= 1  # false for NaN too
        np.testing.assert_allclose(got, operation(x), atol=1e-6)
