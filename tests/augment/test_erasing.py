"""Random erasing: how often, how large, where, and what is put there."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from rl_jax import augment
from rl_jax.errors import UsageError

FAR = 50.0
"""A value that no noise has."""


def erased(side, number, *, fill="mean", channels=1, **options):
    """The images, each of `FAR` alone before, and which of their pixels are erased."""
    op = partial(augment.random_erasing, fill=fill, **options)
    rngs = jax.random.split(jax.random.key(0), number)
    image = jnp.full((*side, channels), FAR)
    found = np.asarray(jax.jit(jax.vmap(op, (0, None)))(rngs, image))
    return found, found[..., 0] != FAR


def extents(gone):
    """Rows and columns of each box, which is checked to be one."""
    rows, columns = gone.any(axis=2), gone.any(axis=1)
    heights, widths = rows.sum(axis=1), columns.sum(axis=1)
    assert (gone == rows[:, :, None] & columns[:, None, :]).all()
    for lines in (rows, columns):  # without a gap
        assert (np.abs(np.diff(lines.astype(int), axis=1)).sum(axis=1) <= 2).all()
        edges = lines[:, 0].astype(int) + lines[:, -1]
        assert (edges[lines.any(axis=1) & ~lines.all(axis=1)] <= 1).all()
    return heights, widths


@pytest.mark.parametrize("probability", [0.25, 0.8])
def test_share_of_images_whatever_the_box(probability):
    _, gone = erased((40, 40), 4000, probability=probability)
    hit = gone.any(axis=(1, 2))
    deviation = np.sqrt(probability * (1 - probability) / 4000)
    assert abs(hit.mean() - probability) < 4 * deviation
    share = gone[hit].mean(axis=(1, 2))
    assert stats.kstest(share, "uniform", (0.02, 1 / 3 - 0.02)).statistic < 0.06
    for axis in (1, 2):
        lines = gone[hit].any(axis=axis)
        centre = lines @ np.arange(40) / lines.sum(axis=1)
        assert abs(centre.mean() - 19.5) < 0.8


def by_the_definition(rng, side, area, aspect):
    """Rows and columns of a box, by a loop that ends at the first that fits."""
    height, width = side
    for _ in range(10):
        pixels = rng.uniform(*area) * height * width
        ratio = np.exp(rng.uniform(*np.log(aspect)))
        rows, columns = round(np.sqrt(pixels * ratio)), round(np.sqrt(pixels / ratio))
        if rows < height and columns < width:
            return rows, columns
    return 0, 0


@pytest.mark.parametrize(
    ("side", "options"),
    [
        ((64, 48), {}),
        ((64, 48), {"area": (0.1, 0.6), "aspect": (0.5, 8.0)}),
        ((7, 9), {"area": (0.9, 1.0), "aspect": (0.3, 3.0)}),
    ],
)
def test_areas_and_aspects_are_those_of_the_definition(side, options):
    _, gone = erased(side, 4000, probability=1.0, **options)
    heights, widths = extents(gone)
    rng = np.random.default_rng(0)
    usual = {"area": (0.02, 1 / 3), "aspect": (0.3, 1 / 0.3)} | options
    expected = np.array([by_the_definition(rng, side, **usual) for _ in range(4000)])
    for got, want in (
        (heights * widths, expected.prod(axis=1)),
        (
            heights / np.maximum(widths, 1),
            expected[:, 0] / np.maximum(expected[:, 1], 1),
        ),
    ):
        assert stats.ks_2samp(got, want).pvalue > 1e-3
    if not options:
        share = heights * widths / (side[0] * side[1])
        assert stats.kstest(share, "uniform", (0.02, 1 / 3 - 0.02)).statistic < 0.05
    else:
        assert heights.max() < side[0]
        assert widths.max() < side[1]


def test_places_are_uniform():
    _, gone = erased((32, 40), 6000, probability=1.0, area=(0.05, 0.1))
    heights, widths = extents(gone)
    for lines, extent, side in (
        (gone.any(axis=2), heights, 32),
        (gone.any(axis=1), widths, 40),
    ):
        first = lines.argmax(axis=1)
        room = side - extent
        assert (first <= room).all()
        # Spread over its step, a whole number is uniform where it was drawn so.
        jittered = (first + np.random.default_rng(1).random(6000)) / (room + 1)
        assert stats.kstest(jittered, "uniform").pvalue > 1e-3


def test_noise_is_normal_and_each_value_by_itself():
    found, gone = erased((32, 32), 400, fill="noise", channels=3, probability=1.0)
    assert (gone == (found[..., 2] != FAR)).all()
    noise = found[gone].astype(np.float64)
    assert len(noise) > 40_000
    assert abs(noise.mean()) < 0.01
    assert abs(noise.std() - 1) < 0.01
    assert stats.kstest(noise.ravel()[::7], "norm").pvalue > 1e-3
    assert np.abs(np.corrcoef(noise.T) - np.eye(3)).max() < 0.015
    beside = gone[:, :, :-1] & gone[:, :, 1:]
    below = gone[:, :-1] & gone[:, 1:]
    for here, there in (
        (found[:, :, :-1][beside], found[:, :, 1:][beside]),
        (found[:, :-1][below], found[:, 1:][below]),
    ):
        assert abs(np.corrcoef(here.ravel(), there.ravel())[0, 1]) < 0.015
    # Nor is any value of an image another of it, as the bits are for the largest box.
    whole, where = erased(
        (16, 20), 50, fill="noise", probability=1.0, area=(0.5, 1.0), aspect=(0.3, 3.0)
    )
    for image, inside in zip(whole, where, strict=True):
        values = image[inside].ravel()
        assert len(np.unique(values)) >= 0.98 * len(values)


def test_mean_is_zero_and_the_rest_stays():
    image = np.random.default_rng(0).normal(size=(16, 12, 3)).astype(np.float32)
    for fill in ("mean", "noise"):
        op = partial(augment.random_erasing, probability=1.0, fill=fill)
        got = np.asarray(jax.jit(op)(jax.random.key(3), image))
        gone = (got != image).any(axis=2)
        assert 0 < gone.sum() < 100
        if fill == "mean":
            assert (got[gone] == 0).all()
        assert (got.shape, got.dtype) == (image.shape, image.dtype)


def test_draws_are_of_the_key_and_jit_changes_nothing():
    image = np.random.default_rng(0).normal(size=(16, 12, 3)).astype(np.float32)
    op = partial(augment.random_erasing, probability=1.0)
    jitted = jax.jit(op)
    one, again, other = (
        np.asarray(jitted(jax.random.key(k), image)) for k in (0, 0, 1)
    )
    np.testing.assert_array_equal(one, again)
    assert (one != other).any()
    np.testing.assert_allclose(op(jax.random.key(0), image), one, atol=1e-6)
    never = augment.random_erasing(jax.random.key(0), image, probability=0.0)
    np.testing.assert_array_equal(never, image)


@pytest.mark.parametrize("side", [(1, 1), (2, 2), (3, 1)])
def test_small_images_have_no_error(side):
    found, _ = erased(side, 100, fill="noise", probability=1.0, area=(0.5, 1.0))
    assert np.isfinite(found).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"probability": 1.5}, r"probability must be in \[0, 1\], got 1\.5"),
        ({"area": (0.0, 0.5)}, r"area must be \(low, high\) .* got \(0\.0, 0\.5\)"),
        ({"area": (0.5, 1.5)}, r"area must be .*<= 1, got \(0\.5, 1\.5\)"),
        ({"aspect": (2.0, 1.0)}, r"aspect must be \(low, high\)"),
        ({"fill": "pixel"}, r"fill must be 'noise' or 'mean', got 'pixel'"),
    ],
)
def test_wrong_arguments_are_named(options, message):
    with pytest.raises(UsageError, match=f"random_erasing: {message}"):
        augment.random_erasing(jax.random.key(0), jnp.zeros((4, 4, 3)), **options)
