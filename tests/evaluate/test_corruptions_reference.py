"""The corruptions of ImageNet-C against an implementation written independently."""

import colorsys

import jax
import numpy as np
import pytest
from reference import corruptions as reference
from reference import jpeg as written_out
from reference import severities
from scipy import stats

from rl_jax.evaluate import corruptions
from rl_jax.evaluate.corruptions import blur
from rl_jax.evaluate.corruptions.severities import published
from rl_jax.evaluate.corruptions.severities import scaled as ours_scaled


def picture(*shape, seed=0):
    """Waves, a red square, a grey and a black one and some noise, on levels of 255."""
    h, w, c = shape
    y, x = np.mgrid[:h, :w] / h
    waves = [0.5 + 0.5 * np.sin(7 * x + 3 * y), x * y, 0.5 + 0.4 * np.cos(9 * (x - y))]
    z = np.stack(waves[:c], -1)
    z += 0.05 * np.random.default_rng(seed).normal(size=z.shape)
    z[h // 4 : h // 2, w // 3 : w // 2] = [0.9, 0.1, 0.2][:c]
    z[-h // 4 :, : w // 4] = 0.4
    z[: h // 8, -w // 8 :] = 0
    return np.rint(255 * np.clip(z, 0, 1)) / 255


def ours(name, severity, images, seed=3):
    """The corrupted images, in grey levels."""
    images = np.asarray(images, np.float32)
    out = corruptions.corrupt(
        jax.random.key(seed), images, name=name, severity=severity
    )
    assert out.shape == images.shape
    assert out.dtype == np.float32
    levels = 255 * np.asarray(out, np.float64)
    np.testing.assert_allclose(levels, np.rint(levels), atol=1e-4)
    return np.rint(levels)


# Which constants are lengths, and the least that the smallest of the five scales to.
LENGTHS = {
    "defocus_blur": [(0, 1.0)],
    "glass_blur": [(0, 0.4), (1, 0.0)],
    "motion_blur": [(0, 1.5), (1, 0.5)],
    "gaussian_blur": [(0, 0.4)],
    "snow": [(4, 1.0), (5, 0.5)],
    "elastic_transform": [(0, 0.0), (1, 0.0), (2, 0.0)],
}


def scaled(name, shape):
    """The constants of the five severities, lengths scaled to the image."""
    large = min(shape[:2]) >= 64
    table = (severities.IMAGENET if large else severities.CIFAR)[name]
    if name == "zoom_blur":
        return [(factors,) for factors in table]
    rows = [row if isinstance(row, tuple) else (row,) for row in table]
    table, scale = np.array(rows, float), min(shape[:2]) / (224 if large else 32)

    def factor(lengths, least):
        return max(scale, min(1, least / min(v for v in lengths if v > 0)))

    for column, least in LENGTHS.get(name, ()):
        table[:, column] *= factor(table[:, column], least)
    if name == "spatter":  # noise and its blur; the blur of mud
        table[:, 1:3] *= factor(table[:, 2], 0.5)
        table[3:, 4] *= factor(table[3:, 4], 0.5)
    return [tuple(row) for row in table]


def impulse_noise(x, c, f):
    """One draw decides both: the lowest are pepper and the highest salt."""
    u = f["uniform"]
    return reference.impulse_noise(x, *c, 2 * np.minimum(u, 1 - u), u < 0.5)


def shot_noise(x, c, f):
    counts = stats.poisson.ppf(f["uniform"], c[0] * x)
    return reference.shot_noise(x, *c, np.maximum(counts, 0))


def glass_blur(x, c, f):
    sigma, reach, rounds = c[0], max(1, round(c[1])), round(c[2])
    h, w, _ = x.shape
    u = f["shifts"][:rounds, h - reach : reach : -1, w - reach : reach : -1, ::-1]
    shifts = np.floor(2 * reach * u).astype(int) - reach
    return reference.glass_blur(x, sigma, reach, rounds, shifts, swap=False, cut=False)


def zoom_blur(x, c, f):
    small = min(x.shape[:2]) < 32
    zoom = reference.centred_zoom if small else reference.clipped_zoom
    return reference.zoom_blur(x, *c, zoom)


def snow(x, c, f):
    mean, sd, *layer, keep = c
    zoom = reference.centred_zoom if min(x.shape[:2]) < 32 else reference.clipped_zoom
    layer = reference.snow_layer(
        *layer, mean + sd * f["normal"], f["angle"], zoom=zoom, cut=False
    )
    return reference.snow(x, keep, layer)


def frost(x, c, f):
    texture = reference.frost_texture(f["lattice"], *x.shape[:2])
    if x.shape[2] == 1:
        shade = texture - [0.57, 0.66, 0.70]
        texture = reference.luma(np.array([[[0.57, 0.66, 0.70]]]))[0] + shade[..., :1]
    return reference.frost(x, *c, texture)


def fog(x, c, f):
    thickness, decay = c
    height, width, _ = x.shape
    left = iter(octaves(f["uniform"]))
    cloud = reference.plasma(len(f["uniform"]), decay, lambda _: next(left))
    assert next(left, None) is None
    return reference.fog(x, thickness, cloud[:height, :width])


def octaves(u):
    """Of one draw per point those of each step, in the order they are filled."""
    step = len(u)
    while step >= 2:
        half = step // 2
        for rows, columns in ((half, half), (0, half), (half, 0)):
            yield 2 * u[rows::step, columns::step] - 1
        step = half


def water(x, sigma, threshold, strength, field):
    return reference.spatter_water(
        x,
        sigma,
        threshold,
        strength,
        field,
        edges=reference.rims,
        distance=reference.euclidean,
    )


def spatter(x, c, f, water=water):
    mean, sd, sigma, threshold, strength, is_mud = c
    return (reference.spatter_mud if is_mud else water)(
        x, sigma, threshold, strength, mean + sd * f["normal"]
    )


def elastic_transform(x, c, f):
    alpha, sigma, reach = c
    wobble = 2 * np.stack([f["right"], f["down"]]) - 1
    moves = reach * (2 * f["corners"] - 1)
    return reference.elastic_transform(x, alpha, sigma, moves, wobble)


def saturate(x, c, f):
    """One channel has no colour to saturate."""
    return x if x.shape[2] == 1 else reference.saturate(x, *c)


def plain(name, *fields):
    def expected(x, c, f):
        return getattr(reference, name)(x, *c, *(f[field] for field in fields))

    return expected


EXPECTED = {
    "gaussian_noise": plain("gaussian_noise", "normal"),
    "speckle_noise": plain("speckle_noise", "normal"),
    "shot_noise": shot_noise,
    "impulse_noise": impulse_noise,
    "defocus_blur": plain("defocus_blur"),
    "gaussian_blur": plain("gaussian_blur"),
    "glass_blur": glass_blur,
    "motion_blur": plain("motion_blur", "angle"),
    "zoom_blur": zoom_blur,
    "snow": snow,
    "frost": frost,
    "fog": fog,
    "spatter": spatter,
    "brightness": plain("brightness"),
    "contrast": plain("contrast"),
    "saturate": saturate,
    "pixelate": plain("pixelate"),
    "elastic_transform": elastic_transform,
}


def drawn(name, images, seed=3):
    """The fields of the second image."""
    f = corruptions.fields(jax.random.key(seed), images.shape, name=name)
    return {field: np.asarray(value[1], np.float64) for field, value in f.items()}


SHAPES = {
    (32, 32, 3): EXPECTED,
    (9, 13, 1): [
        "defocus_blur", "glass_blur", "zoom_blur", "snow", "frost",
        "brightness", "saturate", "pixelate", "elastic_transform",
    ],
    (64, 72, 3): ["defocus_blur", "motion_blur", "spatter", "contrast", "pixelate"],
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "shape"),
    [(name, shape) for shape, names in SHAPES.items() for name in names],
)
def test_equals_the_reference_on_the_same_draws(name, shape):
    """The second of two images, at each severity, to the nearest level."""
    images = np.stack([picture(*shape), picture(*shape, seed=1)])
    f = drawn(name, images)
    for severity, c in enumerate(scaled(name, shape), 1):
        found = ours(name, severity, images)[1]
        expected = 255 * EXPECTED[name](images[1], c, f)
        error = np.abs(found - expected)
        assert error.max() < 0.51, f"severity {severity}: {np.mean(error > 0.51):.3f}"


@pytest.mark.parametrize("shape", [(9, 13, 1), (8, 8, 3), (32, 32, 3), (64, 72, 3)])
def test_jpeg_is_pillows(shape):
    """To the bit: libjpeg computes in integers."""
    images = np.stack([picture(*shape), picture(*shape, seed=1)])
    for severity, (quality,) in enumerate(scaled("jpeg_compression", shape), 1):
        found = ours("jpeg_compression", severity, images)
        for levels, x in zip(found, images, strict=True):
            pillow = 255 * reference.jpeg_compression(x, round(quality))
            np.testing.assert_allclose(levels, pillow, atol=1e-6)


def test_constants_are_the_published_ones():
    for size, table in ((224, severities.IMAGENET), (32, severities.CIFAR)):
        for name, rows in table.items():
            found = published(name, (size, size, 3))
            if name == "zoom_blur":
                for (end, step), factors in zip(found, rows, strict=True):
                    np.testing.assert_array_equal(np.arange(1, end, step), factors)
            elif name == "spatter":  # of strength and σ of mud one is zero
                rows = [
                    (*row[:4], row[4] * (1 - row[5]), row[4] * row[5]) for row in rows
                ]
                np.testing.assert_array_equal(found, rows)
            else:
                rows = np.array(rows).reshape(5, -1)
                np.testing.assert_array_equal(found, rows)


def test_water_is_near_that_of_cannys_edges():
    """The published rims and distances on the same draws: the same drops."""
    images, alike = np.full((2, 32, 32, 3), 51 / 255), []
    for seed in range(4):
        f = drawn("spatter", images, seed)
        for severity, c in enumerate(scaled("spatter", (32, 32, 3))[:3], 1):
            found = ours("spatter", severity, images, seed)[1] - 51
            water = spatter(images[1], c, f, reference.spatter_water) * 255 - 51
            alike.append(np.corrcoef(found.ravel(), water.ravel())[0, 1])
    assert np.mean(alike) > 0.8


# The draws.


def test_draws_of_an_image_are_those_of_its_own_key():
    rng = jax.random.key(5)
    f = corruptions.fields(rng, (2, 32, 32, 3), name="gaussian_noise")["normal"]
    own = [jax.random.normal(jax.random.fold_in(rng, i), (32, 32, 3)) for i in (0, 1)]
    np.testing.assert_allclose(f, np.stack(own), rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "field", "law"),
    [
        ("motion_blur", "angle", stats.uniform(-45, 90)),
        ("snow", "angle", stats.uniform(-135, 90)),
        ("snow", "normal", stats.norm()),
        ("fog", "uniform", stats.uniform()),
    ],
)
def test_draws_follow_their_laws(name, field, law):
    f = corruptions.fields(jax.random.key(0), (200, 8, 8, 1), name=name)
    values = np.asarray(f[field], np.float64)
    assert len(values) == 200
    assert stats.kstest(values.ravel(), law.cdf).pvalue > 1e-3
    flat = values.reshape(200, -1)[:, -1]
    assert abs(stats.pearsonr(flat[1:], flat[:-1]).statistic) < 0.25


# The reference itself.


@pytest.mark.parametrize("quality", [80, 40, 25, 7])
@pytest.mark.parametrize("shape", [(8, 8, 1), (32, 32, 3), (33, 41, 3)])
def test_jpeg_written_out_is_pillows(quality, shape):
    """2 levels from roundings, up to 8 where a coefficient lies between two steps."""
    x = picture(*shape)
    error = 255 * np.abs(
        written_out.jpeg(x, quality) - reference.jpeg_compression(x, quality)
    )
    assert error.max() < 8.5
    assert error.mean() < 0.25


def test_hue_saturation_value_is_that_of_the_standard_library():
    x = picture(8, 8, 3)
    hsv = np.stack(reference.to_hsv(x), -1).reshape(-1, 3)
    expected = [colorsys.rgb_to_hsv(*pixel) for pixel in x.reshape(-1, 3)]
    np.testing.assert_allclose(hsv, expected, atol=1e-12)
    np.testing.assert_allclose(
        reference.to_rgb(*hsv.T), [colorsys.hsv_to_rgb(*row) for row in hsv], atol=1e-12
    )


# Noise, in distribution.

GREY = np.full((2, 64, 64, 3), 128 / 255)


def correlations(noise):
    """Of the first example with the second, of neighbours, of two channels."""
    first = noise[0]
    pairs = [
        (first, noise[1]),
        (first[1:], first[:-1]),
        (first[:, 1:], first[:, :-1]),
        (first[..., 0], first[..., 1]),
    ]
    return [stats.pearsonr(a.ravel(), b.ravel()).statistic for a, b in pairs]


@pytest.mark.parametrize("name", ["gaussian_noise", "speckle_noise"])
def test_noise_is_normal_and_independent(name):
    scale = severities.IMAGENET[name][0] * (
        1 if name == "gaussian_noise" else 128 / 255
    )
    noise = ours(name, 1, GREY) - 128
    # Within a level the noise is spread evenly again, so that it has no ties.
    spread = noise + np.random.default_rng(0).uniform(-0.5, 0.5, noise.shape)
    test = stats.kstest(spread.ravel(), stats.norm(0, 255 * scale).cdf)
    assert test.pvalue > 1e-3
    assert np.abs(correlations(noise)).max() < 0.06


def test_shot_noise_counts_photons():
    photons = severities.IMAGENET["shot_noise"][0]
    levels = ours("shot_noise", 1, GREY)
    counts = np.rint(levels / 255 * photons)
    np.testing.assert_allclose(255 * counts / photons, levels, atol=1)
    rate = photons * 128 / 255
    assert counts.mean() == pytest.approx(rate, abs=4 * np.sqrt(rate / counts.size))
    inner = np.arange(18, 45)
    found = [np.sum(counts == k) for k in inner]
    chances = stats.poisson.pmf(inner, rate)
    found = [*found, counts.size - sum(found)]
    expected = counts.size * np.append(chances, 1 - chances.sum())
    assert stats.chisquare(found, expected).pvalue > 1e-3
    assert np.abs(correlations(counts)).max() < 0.06


def test_impulse_noise_is_salt_and_pepper_on_each_value():
    amount = severities.IMAGENET["impulse_noise"][4]
    levels = ours("impulse_noise", 5, GREY)
    assert set(np.unique(levels)) == {0, 128, 255}
    for extreme in (0, 255):
        hits = np.sum(levels == extreme)
        assert stats.binomtest(int(hits), levels.size, amount / 2).pvalue > 1e-3
    assert np.abs(correlations(1.0 * (levels == 255))).max() < 0.06


def test_the_discs_of_large_images_are_the_published_ones():
    """Too large an image to blur here; its kernel is all that differs."""
    table = np.asarray(ours_scaled("defocus_blur", (224, 224, 3)))
    for index, (radius, alias) in enumerate(table):
        found = blur._disc(table, index, (224, 224, 3))["kernel"]
        expected = reference.disk(radius, alias)
        beside = (len(found) - len(expected)) // 2
        np.testing.assert_allclose(found, np.pad(expected, beside), atol=1e-7)
