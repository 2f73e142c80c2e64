"""Crops and resizing against Pillow, and the distribution of the boxes."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from scipy import stats

from rl_jax import augment
from rl_jax.errors import UsageError

PILLOW = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}
RNG = np.random.default_rng(0)


def jitted(op, *arrays, **options):
    return jax.jit(partial(op, **options))(*arrays)


def pillow_resize(image, box, size, method):
    top, left, height, width = (float(b) for b in box)
    channels = [
        Image.fromarray(image[..., c]).resize(
            (size[1], size[0]),
            resample=PILLOW[method],
            box=(left, top, left + width, top + height),
        )
        for c in range(image.shape[-1])
    ]
    return np.clip(np.stack([np.asarray(c) for c in channels], axis=-1), 0, 1)


@pytest.mark.parametrize("method", ["bilinear", "bicubic"])
def test_resample_equals_pillow(method):
    image = RNG.random((21, 17, 3), dtype=np.float32)
    resize = jax.jit(partial(augment.resample, size=(9, 12), method=method))
    for box in [
        (0, 0, 21, 17),  # shrinks both axes: antialiasing
        (3.3, 2.7, 14.2, 5.1),  # shrinks one, enlarges the other, fractional
        (20.2, 16.1, 0.8, 0.9),  # less than a pixel, in the corner
    ]:
        got = resize(image, np.array(box, np.float32))
        expected = pillow_resize(image, box, (9, 12), method)
        np.testing.assert_allclose(got, expected, atol=2e-5)


@pytest.mark.parametrize(("method", "most"), [("bilinear", 1), ("bicubic", 29)])
def test_resample_of_bytes_differs_by_what_pillow_clips_between_its_passes(
    method, most
):
    noise = 255 * np.random.default_rng(0).integers(0, 2, (32, 32, 1), dtype=np.uint8)
    box, size = np.array([0, 0, 32, 32], np.float32), (48, 48)
    image = noise / np.float32(255)
    got = 255 * jitted(augment.resample, image, box, size=size, method=method)
    expected = Image.fromarray(noise[..., 0]).resize(size, resample=PILLOW[method])
    expected = np.asarray(expected, np.float32)
    apart = np.abs(got[..., 0] - expected).max()
    assert apart <= most
    assert (apart > 20) == (method == "bicubic")
    weights = np.asarray(
        augment.interpolation_matrix(0, 32, source=32, target=48, method=method)
    )
    first = np.clip(np.rint(noise[..., 0] @ weights.T), 0, 255)
    np.testing.assert_allclose(np.clip(weights @ first, 0, 255), expected, atol=1.5)


def test_resampling_the_whole_image_to_its_own_size_is_the_identity():
    image = RNG.random((6, 5, 2), dtype=np.float32)
    box = np.array([0, 0, 6, 5], np.float32)
    got = jitted(augment.resample, image, box, size=(6, 5), method="bicubic")
    np.testing.assert_allclose(got, image, atol=1e-6)


def test_bicubic_overshoot_is_clipped():
    image = np.zeros((8, 8, 1), np.float32)
    image[:, 4:] = 1
    box = np.array([0, 0, 8, 8], np.float32)
    got = jitted(augment.resample, image, box, size=(8, 29), method="bicubic")
    assert got.min() == 0
    assert got.max() == 1
    rows = jitted(
        augment.interpolation_matrix, 0, 8, source=8, target=29, method="bicubic"
    )
    assert (np.asarray(rows) @ image[0]).max() > 1.01


def draw_boxes(number, **options):
    rngs = jax.random.split(jax.random.key(0), number)
    draw = jax.jit(jax.vmap(partial(augment.crop_box, **options)))
    return np.asarray(draw(rngs), np.float64).T


def test_crop_box_has_uniform_area_log_uniform_ratio_and_uniform_position():
    top, left, height, width = draw_boxes(
        4000, height=40, width=40, scale=(0.1, 0.5), ratio=(0.5, 2.0)
    )
    # Every draw fits: the longest side is 40 sqrt(0.5 · 2).
    share = (height * width / 1600 - 0.1) / 0.4
    ratio = (np.log2(width / height) + 1) / 2
    for uniform in (share, ratio, top / (40 - height), left / (40 - width)):
        assert stats.kstest(uniform, "uniform").pvalue > 1e-3
    assert abs(np.corrcoef(share, ratio)[0, 1]) < 0.05


def test_crop_box_stays_inside_and_keeps_its_ratio_when_draws_do_not_fit():
    top, left, height, width = draw_boxes(2000, height=20, width=45, scale=(0.08, 1.0))
    assert min(top.min(), left.min()) >= 0
    assert (top + height).max() <= 20 + 1e-4
    assert (left + width).max() <= 45 + 1e-4
    ratio = width / height
    assert ratio.min() >= 3 / 4 - 1e-4
    assert ratio.max() <= 4 / 3 + 1e-4
    # Nothing of 0.9 of the area fits into a strip: the largest allowed box remains.
    # In the middle, as torchvision has it.
    top, left, height, width = draw_boxes(8, height=10, width=200, scale=(0.9, 1.0))
    np.testing.assert_allclose(top, 0, atol=1e-4)
    np.testing.assert_allclose(left, 100 - 20 / 3, rtol=1e-6)
    np.testing.assert_allclose(height, 10, rtol=1e-6)
    np.testing.assert_allclose(width, 40 / 3, rtol=1e-6)
    _, _, height, width = draw_boxes(8, height=200, width=10, scale=(0.9, 1.0))
    np.testing.assert_allclose(height, 40 / 3, rtol=1e-6)
    np.testing.assert_allclose(width, 10, rtol=1e-6)


def test_random_resized_crop_is_the_resampled_box():
    image = RNG.random((16, 12, 3), dtype=np.float32)
    rng = jax.random.key(3)
    box = jitted(augment.crop_box, rng, height=16, width=12, scale=(0.2, 0.9))
    got = jitted(augment.random_resized_crop, rng, image, size=8, scale=(0.2, 0.9))
    expected = pillow_resize(image, box, (8, 8), "bicubic")
    np.testing.assert_allclose(got, expected, atol=2e-5)


def test_crops_of_constant_and_single_pixel_images_are_constant():
    crop = jax.jit(
        jax.vmap(partial(augment.random_resized_crop, size=4), in_axes=(0, None))
    )
    rngs = jax.random.split(jax.random.key(0), 32)
    for shape in ((1, 1, 1), (9, 7, 1)):
        image = np.full(shape, 0.3, np.float32)
        np.testing.assert_allclose(crop(rngs, image), 0.3, atol=1e-6)


def test_centre_crop_is_seven_eighths_of_a_larger_image():
    image = RNG.random((16, 24, 3), dtype=np.float32)
    got = jitted(augment.centre_crop, image, size=7)
    expected = pillow_resize(image, (1, 5, 14, 14), (7, 7), "bicubic")
    np.testing.assert_allclose(got, expected, atol=2e-5)


def test_centre_crop_keeps_all_of_an_image_that_is_not_larger():
    image = RNG.random((7, 9, 3), dtype=np.float32)
    got = jitted(augment.centre_crop, image, size=7)
    np.testing.assert_allclose(got, image[:, 1:8], atol=1e-6)
    enlarged = jitted(augment.centre_crop, image, size=10)
    expected = pillow_resize(image, (0, 1, 7, 7), (10, 10), "bicubic")
    np.testing.assert_allclose(enlarged, expected, atol=2e-5)
    np.testing.assert_array_equal(
        jitted(augment.centre_crop, image[:, :7], size=7), image[:, :7]
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 0}, r"size must be >= 1, got 0"),
        ({"size": 8.5}, r"size must be an integer, got 8\.5"),
        ({"size": 8, "scale": 0.5}, r"scale must be .* got 0\.5"),
        ({"size": 8, "scale": (0.0, 1.0)}, r"scale must be .* got \(0\.0, 1\.0\)"),
        ({"size": 8, "scale": (0.1, 1.2)}, r"scale must be .*<= 1, got"),
        ({"size": 8, "ratio": (2.0, 0.5)}, r"ratio must be .* got \(2\.0, 0\.5\)"),
        ({"size": 8, "method": "nearest"}, r"method must be .* got 'nearest'"),
    ],
)
def test_wrong_arguments_are_named(options, message):
    with pytest.raises(UsageError, match=message):
        augment.random_resized_crop(jax.random.key(0), jnp.zeros((4, 4, 1)), **options)


def test_centre_crop_names_wrong_arguments():
    with pytest.raises(UsageError, match=r"fraction must be in \(0, 1\], got 1\.5"):
        augment.centre_crop(jnp.zeros((4, 4, 1)), size=2, fraction=1.5)
    with pytest.raises(UsageError, match="size must be >= 1"):
        augment.centre_crop(jnp.zeros((4, 4, 1)), size=0)
    with pytest.raises(UsageError, match="size must be an integer, got 2.5"):
        augment.centre_crop(jnp.zeros((4, 4, 1)), size=2.5)


@pytest.mark.parametrize(
    ("size", "message"),
    [
        (8, "resample: size must be two numbers, got 8"),
        ((8, 8.5), "resample: width must be an integer, got 8.5"),
        ((0, 8), "resample: height must be >= 1, got 0"),
    ],
)
def test_resample_names_wrong_sizes(size, message):
    box = jnp.array([0.0, 0.0, 4.0, 4.0])
    with pytest.raises(UsageError, match=message):
        augment.resample(jnp.zeros((4, 4, 1)), box, size=size)


def test_a_share_may_be_traced():
    image = jnp.asarray(np.random.default_rng(0).random((8, 8, 1)), jnp.float32)
    plain = augment.centre_crop(image, size=4, fraction=0.5)
    share = jnp.float32(0.5)
    inside = jax.jit(lambda x: augment.centre_crop(x, size=4, fraction=share))(image)
    np.testing.assert_allclose(inside, plain, atol=1e-6)
