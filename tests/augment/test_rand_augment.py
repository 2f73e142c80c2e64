"""RandAugment: each operation against Pillow, two in a row, and what is drawn."""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import rand_augment as reference
from scipy import stats

from rl_jax import augment
from rl_jax.augment.rand_augment import COLOURS, MOVES, OPERATIONS, Drawn, applied, draw
from rl_jax.errors import UsageError

RNG = np.random.default_rng(0)
LEVEL = 1 / 255
BYTES = RNG.integers(20, 240, (22, 34, 3), dtype=np.uint8)
IMAGE = (BYTES / 255).astype(np.float32)
FILL = tuple(value / 255 for value in reference.FILL)
MAGNITUDES = (0.0, 3.3, 7.0, 9.0, 10.0)
EXACT = ("invert", "equalise", "posterise", "solarise", "solarise_add")


def drawn(name, magnitude, sign=1.0):
    return Drawn(jnp.int32(1 + OPERATIONS.index(name)), jnp.float32(magnitude), sign)


DONE = jax.jit(applied, static_argnames="fill")


@pytest.mark.parametrize("name", COLOURS)
@pytest.mark.parametrize("channels", [1, 3])
def test_colours_equal_pillow(name, channels):
    pixels, image = BYTES[..., :channels], IMAGE[..., :channels]
    for magnitude, sign in itertools.product(MAGNITUDES, (-1.0, 1.0)):
        got = DONE(image, drawn(name, magnitude, sign), fill=0.5)
        if (name, channels) == ("colour", 1):
            np.testing.assert_array_equal(got, image)
            continue
        expected = reference.by_pillow(name, pixels, magnitude, sign) / 255
        # Pillow truncates what it blends or stretches, and rounds what it blends with.
        tolerance = 1e-6 if name in EXACT else 1.51 * LEVEL
        np.testing.assert_allclose(got, expected, atol=tolerance, err_msg=magnitude)
        same = magnitude == 0 and name not in ("auto_contrast", *EXACT[:3])
        assert np.allclose(got, image, atol=1e-6) == same, (magnitude, sign)


@pytest.mark.parametrize("name", MOVES)
@pytest.mark.parametrize("channels", [1, 3])
def test_moves_equal_pillow(name, channels):
    pixels, image = BYTES[..., :channels], IMAGE[..., :channels]
    height, width, _ = BYTES.shape
    fill = FILL if channels == 3 else FILL[1]
    row, column = np.mgrid[:height, :width] + 0.5
    for magnitude, sign in itertools.product(MAGNITUDES, (-1.0, 1.0)):
        got = np.asarray(DONE(image, drawn(name, magnitude, sign), fill=fill))
        matrix = reference.source(name, height, width, magnitude, sign)
        expected = reference.sampled(image, matrix, fill)
        np.testing.assert_allclose(got, expected, atol=2e-5)
        if magnitude == 0:
            np.testing.assert_array_equal(got, image)
        # Pillow blends with no border, and leaves off what is behind the point.
        x = matrix[0, 0] * column + matrix[0, 1] * row + matrix[0, 2]
        y = matrix[1, 0] * column + matrix[1, 1] * row + matrix[1, 2]
        least = np.minimum(np.minimum(x, width - x), np.minimum(y, height - y))
        inside, outside = least > 0.51, least < -0.51
        by_pillow = reference.by_pillow(name, pixels, magnitude, sign) / 255
        above = (got - by_pillow)[inside]
        assert -2e-5 < above.min() <= above.max() < LEVEL + 2e-5
        np.testing.assert_allclose(got[outside], by_pillow[outside], atol=1e-6)
        assert inside.mean() > 0.4
        assert outside.any() == (magnitude > 0)


@pytest.mark.parametrize("name", OPERATIONS)
def test_two_operations_are_done_one_after_the_other(name):
    for other in OPERATIONS:
        first, second = drawn(name, 4.0, -1.0), drawn(other, 8.0)
        got = DONE(IMAGE, first, second, fill=FILL)
        if name in MOVES and other in MOVES:
            before, after = (
                reference.source(which, *IMAGE.shape[:2], magnitude, sign)
                for which, magnitude, sign in ((name, 4.0, -1.0), (other, 8.0, 1.0))
            )
            expected = reference.sampled(IMAGE, before @ after, FILL)
        else:
            expected = DONE(DONE(IMAGE, first, fill=FILL), second, fill=FILL)
        # A value may be rounded to either of two levels, by two programs.
        differ = np.abs(got - expected) > 1e-4
        assert differ.mean() < 0.005, other


def draws(number, ops, **options):
    rngs = jax.random.split(jax.random.key(0), number)
    usual = {"magnitude": 9.0, "spread": 0.5, "probability": 0.5}
    chosen = jax.jit(jax.vmap(lambda rng: draw(rng, ops, **(usual | options))))(rngs)
    return jax.tree.map(np.asarray, chosen)


def test_operations_are_drawn_alike_and_one_by_one():
    found = draws(20_000, 2, probability=0.8)
    assert abs((found.operation == 0).mean() - 0.2) < 0.006
    for k in range(2):
        counts = np.bincount(found.operation[:, k], minlength=16)
        assert len(counts) == 16
        assert stats.chisquare(counts[1:]).pvalue > 1e-3
    pairs = np.histogram2d(*found.operation.T, bins=np.arange(17) - 0.5)[0]
    assert stats.chi2_contingency(pairs).pvalue > 1e-3
    assert abs(found.sign.mean()) < 0.02
    assert {*np.unique(found.sign)} == {-1, 1}


def test_magnitudes_are_normal_and_cut():
    found = draws(20_000, 1, magnitude=5.0, spread=1.5)
    assert stats.kstest((found.magnitude.ravel() - 5) / 1.5, "norm").pvalue > 1e-3
    for other in (found.operation, found.sign):
        assert abs(np.corrcoef(found.magnitude.ravel(), other.ravel())[0, 1]) < 0.03
    cut = draws(20_000, 1).magnitude
    assert cut.max() == 10
    assert abs((cut == 10).mean() - stats.norm.sf(2)) < 0.005
    assert draws(2_000, 1, magnitude=0.5, spread=1.0).magnitude.min() == 0
    np.testing.assert_array_equal(draws(9, 1, spread=0.0).magnitude, 9.0)


@pytest.mark.parametrize("ops", [1, 2, 3])
def test_images_are_the_operations_drawn(ops):
    """Of as many as are asked for, in their order, for each image its own."""
    rngs = jax.random.split(jax.random.key(1), 40)
    op = partial(augment.rand_augment, ops=ops, probability=0.9, fill=FILL)
    batch = jnp.broadcast_to(IMAGE, (40, *IMAGE.shape))
    got = np.asarray(jax.jit(jax.vmap(op))(rngs, batch))
    assert got.shape == batch.shape
    assert 0 <= got.min() <= got.max() <= 1
    moves = [1 + OPERATIONS.index(name) for name in MOVES]
    compared = 0
    for rng, result in zip(rngs, got, strict=True):
        chosen = draw(rng, ops, magnitude=9.0, spread=0.5, probability=0.9)
        if np.isin(chosen.operation, moves).sum() > 1:
            continue  # one resampling: another test
        expected, compared = IMAGE, compared + 1
        for k in range(ops):
            one = jax.tree.map(lambda x, k=k: x[k], chosen)
            expected = DONE(expected, one, fill=FILL)
        assert (np.abs(result - expected) > 1e-4).mean() < 0.005
    assert compared > 15


def test_probability_zero_is_the_identity_and_draws_are_of_the_key():
    op = jax.jit(partial(augment.rand_augment, probability=0.0))
    np.testing.assert_array_equal(op(jax.random.key(0), IMAGE), IMAGE)
    op = partial(augment.rand_augment, probability=1.0)
    rngs = jax.random.split(jax.random.key(2), 6)
    jitted = jax.jit(op)
    found = [np.asarray(jitted(rng, IMAGE)) for rng in (*rngs, *rngs)]
    for one, again in itertools.combinations(range(12), 2):
        assert np.array_equal(found[one], found[again]) == (again == one + 6)
    # Without jit it is another program, in which a value may be rounded otherwise.
    eager = op(rngs[0], IMAGE)
    assert (np.abs(eager - found[0]) > 1e-5).mean() < 0.005


def test_grey_images_are_filled_with_the_mean():
    grey = IMAGE[..., :1]
    rngs = jax.random.split(jax.random.key(0), 60)
    several, mean = (
        jax.jit(
            jax.vmap(
                partial(augment.rand_augment, probability=1.0, fill=fill), (0, None)
            )
        )(rngs, grey)
        for fill in (FILL, sum(FILL) / 3)
    )
    np.testing.assert_allclose(several, mean, atol=1e-6)
    assert several.shape == (60, *grey.shape)
    assert np.isfinite(several).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ops": 0}, r"ops must be >= 1, got 0"),
        ({"ops": 1.5}, r"ops must be an integer, got 1\.5"),
        ({"magnitude": 11.0}, r"magnitude must be in \[0, 10\], got 11\.0"),
        ({"magnitude": None}, r"magnitude must be in \[0, 10\], got None"),
        ({"spread": -1.0}, r"spread must be >= 0, got -1\.0"),
        ({"probability": 1.5}, r"probability must be in \[0, 1\], got 1\.5"),
        ({"fill": 128}, r"fill must be in \[0, 1\], got 128"),
        ({"fill": (0.5, 2.0, 0.5)}, r"fill must be in \[0, 1\], got 2\.0"),
        ({"fill": (0.5, 0.5)}, r"fill must have one value or one per channel, got"),
    ],
)
def test_wrong_arguments_are_named(options, message):
    with pytest.raises(UsageError, match=f"rand_augment: {message}"):
        augment.rand_augment(jax.random.key(0), IMAGE, **options)


def test_other_channels_are_refused():
    with pytest.raises(UsageError, match=r"rand_augment: image must have 1 or 3"):
        augment.rand_augment(jax.random.key(0), jnp.zeros((4, 4, 2)))
