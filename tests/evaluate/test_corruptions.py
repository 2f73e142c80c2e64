"""Corruptions: what every one keeps to, closed cases, Pillow's codec, refusals."""

import functools
import io

import chex
import jax
import numpy as np
import pytest
from PIL import Image

from rl_jax import evaluate
from rl_jax.errors import UsageError
from rl_jax.evaluate import corrupt, corrupt_all, mean_corruption_error
from rl_jax.evaluate.corruptions import CORRUPTIONS, SEVERITIES, fields
from rl_jax.evaluate.corruptions.corrupt import _corrupted

NAMES = [name for names in CORRUPTIONS.values() for name in names]
RANDOM = {
    *("gaussian_noise", "shot_noise", "impulse_noise", "speckle_noise", "glass_blur"),
    *("motion_blur", "snow", "frost", "fog", "elastic_transform", "spatter"),
}
SHAPES = [(24, 8, 8, 1), (8, 32, 32, 3)]
# Published so (saturate first drains, then floods; the others trade one constant for
# another), not by mistake here.
NOT_MONOTONE = {
    *("glass_blur", "snow", "frost", "elastic_transform", "spatter", "saturate"),
}


def smooth(shape, seed=0):
    """Random 4 × 4 grids, enlarged: what a blur must not destroy at once."""
    batch, height, width, channels = shape
    grid = np.random.default_rng(seed).random((batch, 4, 4, channels))

    def enlarge(size):
        position = np.linspace(0, 3, size)
        return np.maximum(1 - np.abs(position[:, None] - np.arange(4)), 0)

    x = np.einsum("hi,wj,bijc->bhwc", enlarge(height), enlarge(width), grid)
    return (np.round(255 * x) / 255).astype(np.float32)


def noisy(shape, seed=0):
    x = np.random.default_rng(seed).integers(0, 256, shape)
    return ((x + 255 * smooth(shape)) / 2).astype(np.uint8)


@functools.cache
def corrupted(name, shape, seed=0):
    return np.asarray(corrupt_all(jax.random.key(seed), smooth(shape), name=name))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_keeps_shape_and_range_and_hurts_more_with_severity(name, shape):
    found = corrupted(name, shape)
    chex.assert_shape(found, (5, *shape))
    assert found.dtype == np.float32
    assert found.min() >= 0
    assert found.max() <= 1
    np.testing.assert_allclose(found * 255, np.round(found * 255), atol=1e-4)
    distance = np.abs(found - smooth(shape)[None]).mean((1, 2, 3, 4))
    if name == "saturate" and shape[-1] == 1:
        assert distance.max() < 1e-6
        return
    assert distance.min() > 1e-4
    if name not in NOT_MONOTONE:
        assert (np.diff(distance) >= 0).all(), distance
        assert distance[4] > 1.2 * distance[0], distance


@pytest.mark.parametrize("name", NAMES)
def test_draws_depend_on_rng_and_position_alone(name):
    shape = SHAPES[0]
    first, x = corrupted(name, shape), smooth(shape)
    compiled = _corrupted._cache_size()
    np.testing.assert_array_equal(
        corrupt(jax.random.key(0), x, name=name, severity=3), first[2]
    )
    others = np.where(np.arange(len(x))[:, None, None, None] == 3, x, x[:1] ** 2)
    alone = corrupt(jax.random.key(0), others, name=name, severity=3)
    np.testing.assert_array_equal(alone[3], first[2, 3])
    other = corrupt(jax.random.key(1), x, name=name, severity=5)
    assert (np.asarray(other) != first[4]).any() == (name in RANDOM)
    assert bool(fields(jax.random.key(0), shape, name=name)) == (name in RANDOM)
    # The five severities, twice, were one compilation.
    assert _corrupted._cache_size() == compiled


@pytest.mark.parametrize("name", ["gaussian_noise", "glass_blur", "jpeg_compression"])
def test_a_batch_equals_its_first_examples(name):
    shape = SHAPES[0]
    few = corrupt(jax.random.key(0), smooth(shape)[:2], name=name, severity=4)
    np.testing.assert_array_equal(few, corrupted(name, shape)[3, :2])


def test_fields_are_the_documented_draws():
    rng, shape = jax.random.key(5), (3, 9, 8, 3)
    own = jax.random.fold_in(rng, 2)
    normal = fields(rng, shape, name="gaussian_noise")["normal"]
    np.testing.assert_allclose(
        normal[2], jax.random.normal(own, shape[1:]), rtol=1e-5, atol=1e-6
    )
    shifts = fields(rng, shape, name="glass_blur")["shifts"]
    np.testing.assert_array_equal(shifts[2], jax.random.uniform(own, (3, 9, 8, 2)))
    drawn = fields(rng, shape, name="snow")
    angle = 90 * jax.random.uniform(own, (73,))[-1] - 135
    assert float(drawn["angle"][2]) == pytest.approx(float(angle), abs=1e-4)
    lattice = fields(rng, shape, name="frost")["lattice"]
    np.testing.assert_array_equal(lattice[2], jax.random.uniform(own, (3, 9, 9)))
    assert fields(rng, shape, name="fog")["uniform"].shape == (3, 16, 16)


@pytest.mark.parametrize(
    "name",
    [
        *("defocus_blur", "glass_blur", "motion_blur", "zoom_blur", "gaussian_blur"),
        *("contrast", "elastic_transform", "pixelate"),
    ],
)
def test_a_flat_image_stays(name):
    x = np.full(SHAPES[0], 102 / 255, np.float32)
    for severity in (1, 5):
        found = corrupt(jax.random.key(0), x, name=name, severity=severity)
        np.testing.assert_allclose(found, x, atol=1e-6)


@pytest.mark.parametrize("shape", [(2, 32, 32, 3), (2, 37, 45, 3)])
@pytest.mark.parametrize("severity", [1, 5])
def test_jpeg_and_pixelate_equal_pillow(shape, severity):
    images = noisy(shape)
    x, options = (images / 255).astype(np.float32), {"severity": severity}
    found = corrupt(jax.random.key(0), x, name="jpeg_compression", **options)
    coarse = corrupt(jax.random.key(0), x, name="pixelate", **options)
    quality, share = {1: (80, 0.95), 5: (40, 0.65)}[severity]
    for i, image in enumerate(images):
        file, image = io.BytesIO(), Image.fromarray(image)
        image.save(file, "JPEG", quality=quality)
        np.testing.assert_array_equal(
            np.round(255 * found[i]), np.asarray(Image.open(file))
        )
        small = image.resize([int(n * share) for n in image.size], Image.Resampling.BOX)
        large = small.resize(image.size, Image.Resampling.BOX)
        np.testing.assert_array_equal(np.round(255 * coarse[i]), np.asarray(large))


def test_by_hand():
    """Two-valued images and one of full colour, whose corruptions are known."""
    halves = np.zeros(SHAPES[0], np.float32)
    halves[:, 4:] = 1
    at = functools.partial(corrupt, jax.random.key(0), severity=2)
    levels = np.unique(np.round(255 * at(halves, name="contrast")))
    np.testing.assert_array_equal(levels, [64, 191])
    np.testing.assert_array_equal(
        np.unique(np.round(255 * at(halves, name="brightness"))), [26, 255]
    )
    salted = np.asarray(at(halves, name="impulse_noise"))
    u = np.asarray(
        fields(jax.random.key(0), halves.shape, name="impulse_noise")["uniform"]
    )
    np.testing.assert_array_equal(salted[u < 0.01], 0)
    np.testing.assert_array_equal(salted[u >= 0.99], 1)
    kept = (u >= 0.01) & (u < 0.99)
    np.testing.assert_array_equal(salted[kept], halves[kept])
    # Counting photons keeps the mean, with variance x / c; black stays black.
    flat = np.full(SHAPES[0], 102 / 255, np.float32)
    shot = np.asarray(at(flat, name="shot_noise"))
    assert shot.mean() == pytest.approx(0.4, abs=4 * np.sqrt(0.4 / 250 / shot.size))
    assert shot.var() == pytest.approx(0.4 / 250, rel=0.2)
    assert not np.asarray(at(0 * flat, name="shot_noise")).any()
    colour = np.zeros(SHAPES[1], np.float32)
    colour[:] = [0.8, 0.4, 0.4]
    drained = at(colour, name="saturate")
    np.testing.assert_array_equal(np.round(255 * drained[0, 0, 0]), [204, 194, 194])
    lifted = at(colour, name="brightness")
    np.testing.assert_allclose(lifted[0, 0, 0], [0.9, 0.45, 0.45], atol=0.002)


def test_large_images_take_the_constants_of_imagenet():
    x = np.full((1, 64, 64, 1), 0.5, np.float32)
    found = corrupt(jax.random.key(0), x, name="gaussian_noise", severity=1)
    assert np.std(found) == pytest.approx(0.08, rel=0.1)


X = np.zeros((2, 8, 8, 3), np.float32)


@pytest.mark.parametrize(
    ("x", "options", "message"),
    [
        (X, {"severity": 0}, "severity must be 1 .. 5, got 0"),
        (X, {"severity": 6}, "severity must be 1 .. 5, got 6"),
        (X, {"name": "rain"}, "name must be one of gaussian_noise, .*, got 'rain'"),
        (X.astype(np.uint8), {}, "float in .* got uint8; divide 8-bit ones by 255"),
        (X[..., :2], {}, r"C = 1 or 3, got shape \(2, 8, 8, 2\)"),
        (X[0], {}, r"must be \[B, H, W, C\], .* got shape \(8, 8, 3\)"),
        (X[:0], {}, r"B >= 1, .* got shape \(0, 8, 8, 3\)"),
        (X[:, :7], {}, r"8 pixels or more .* got \(7, 8\)"),
        (X + np.nan, {}, "must be finite and in .* got nan .. nan"),
        (X + 2, {}, "must be finite and in .* got 2 .. 2"),
        (X - 1, {}, "got -1 .. -1"),
    ],
)
def test_wrong_arguments_are_named(x, options, message):
    options = {"name": "snow", "severity": 1} | options
    with pytest.raises(UsageError, match=f"corrupt: .*{message}"):
        corrupt(jax.random.key(0), x, **options)
    if "severity" in message:
        return
    with pytest.raises(UsageError, match=f"corrupt_all: .*{message}"):
        corrupt_all(jax.random.key(0), x, name=options["name"])


def test_mean_corruption_error_by_hand():
    errors = np.array([[0.1, 0.1, 0.2, 0.3, 0.3], [0.2, 0.2, 0.2, 0.2, 0.2]])
    baseline = np.array([[0.4] * 5, [0.1, 0.2, 0.3, 0.4, 0.5]])
    found = mean_corruption_error(errors, baseline)
    np.testing.assert_allclose(found.per_corruption, [0.5, 2 / 3])
    assert found.mce == pytest.approx(7 / 12)
    assert found.relative_mce is None
    assert found.relative_per_corruption is None
    found = mean_corruption_error(errors, baseline, clean_error=0.1, clean_baseline=0.2)
    assert found.mce == pytest.approx(7 / 12)
    np.testing.assert_allclose(found.relative_per_corruption, [0.5, 1.0])
    assert found.relative_mce == pytest.approx(0.75)
    assert mean_corruption_error(baseline, baseline).mce == 1


GOOD = np.full((2, len(SEVERITIES)), 0.5)


@pytest.mark.parametrize(
    ("errors", "baseline", "clean", "message"),
    [
        (GOOD[:, :4], GOOD, {}, r"errors must be \[F, 5\], .* got \(2, 4\)"),
        (GOOD, GOOD[:1], {}, r"baseline must be \[F, 5\], .* got \(1, 5\)"),
        (GOOD[:0], GOOD[:0], {}, r"got \(0, 5\)"),
        (100 * GOOD, GOOD, {}, r"errors must be error rates .* got 50 .. 50"),
        (GOOD, np.nan * GOOD, {}, "baseline must be error rates .* got nan"),
        (GOOD, GOOD, {"clean_error": 0.1}, "go together, got 0.1 and None"),
        (GOOD, 0 * GOOD, {}, "baseline makes no errors under corruption 0"),
        (
            GOOD,
            GOOD,
            {"clean_error": 0.1, "clean_baseline": 0.5},
            "loses nothing against clean images under corruption 0",
        ),
        (GOOD, GOOD, {"clean_error": 2, "clean_baseline": 0.5}, "clean_error .* got 2"),
    ],
)
def test_wrong_errors_are_named(errors, baseline, clean, message):
    with pytest.raises(UsageError, match=f"mean_corruption_error: .*{message}"):
        evaluate.mean_corruption_error(errors, baseline, **clean)
