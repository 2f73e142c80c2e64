"""Colour operations against Pillow, colorsys and dm-pix; the order of the jitter."""

import colorsys
import math
from functools import partial

import dm_pix
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps
from scipy import stats

from rl_jax import augment
from rl_jax.errors import UsageError

RNG = np.random.default_rng(0)
BYTES = RNG.integers(0, 256, (9, 7, 3), dtype=np.uint8)
IMAGE = (BYTES / 255).astype(np.float32)
LEVEL = 1 / 255


@pytest.mark.parametrize("factor", [0.0, 0.6, 1.0, 1.7])
@pytest.mark.parametrize(
    ("adjust", "enhancer"),
    [
        (augment.adjust_brightness, ImageEnhance.Brightness),
        (augment.adjust_contrast, ImageEnhance.Contrast),
        (augment.adjust_saturation, ImageEnhance.Color),
    ],
)
def test_adjustments_equal_pillow(adjust, enhancer, factor):
    expected = np.asarray(enhancer(Image.fromarray(BYTES)).enhance(factor)) / 255
    # Pillow truncates the result and rounds the grey it blends with.
    np.testing.assert_allclose(
        jax.jit(adjust)(IMAGE, factor), expected, atol=1.51 * LEVEL
    )


def test_greyscale_equals_pillow():
    expected = np.asarray(Image.fromarray(BYTES).convert("L")) / 255
    got = augment.greyscale(IMAGE)
    assert got.shape == IMAGE.shape
    for c in range(3):
        np.testing.assert_allclose(got[..., c], expected, atol=0.51 * LEVEL)


def test_solarise_equals_pillow_on_every_level():
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    expected = np.asarray(ImageOps.solarize(Image.fromarray(levels), 128)) / 255
    got = augment.solarise((levels / 255).astype(np.float32)[..., None])
    np.testing.assert_allclose(got[..., 0], expected, atol=1e-6)
    # The threshold itself is inverted.
    quarter = np.full((1, 1, 1), 0.25, np.float32)
    assert augment.solarise(quarter, threshold=0.25).item() == 0.75


@pytest.mark.parametrize("delta", [-0.5, -0.13, 0.0, 0.31, 0.5])
def test_adjust_hue_equals_colorsys_and_dm_pix(delta):
    corners = np.mgrid[0:2, 0:2, 0:2].reshape(3, 8).T[None].astype(np.float32)
    image = np.concatenate([IMAGE.reshape(1, -1, 3), corners], axis=1)
    got = jax.jit(augment.adjust_hue)(image, delta)
    expected = []
    for pixel in image[0].astype(float):
        h, s, v = colorsys.rgb_to_hsv(*pixel)
        expected.append(colorsys.hsv_to_rgb((h + delta) % 1, s, v))
    np.testing.assert_allclose(got[0], expected, atol=1e-5)
    with jax.numpy_rank_promotion("allow"):
        np.testing.assert_allclose(got, dm_pix.adjust_hue(image, delta), atol=1e-5)


def test_one_channel_has_brightness_and_contrast_but_no_colour():
    grey = IMAGE[..., :1]
    for adjust in (augment.adjust_saturation, augment.adjust_hue):
        np.testing.assert_array_equal(adjust(grey, 0.3), grey)
    np.testing.assert_array_equal(augment.greyscale(grey), grey)
    expected = grey.mean() + 0.5 * (grey - grey.mean())
    np.testing.assert_allclose(augment.adjust_contrast(grey, 0.5), expected, atol=1e-6)
    rng = jax.random.key(0)
    only_colour = partial(augment.colour_jitter, saturation=0.5, hue=0.2)
    np.testing.assert_array_equal(only_colour(rng, grey), grey)
    light = augment.colour_jitter(rng, grey, brightness=0.5, saturation=0.5)
    assert not np.allclose(light, grey)


@pytest.mark.parametrize("channels", [1, 2, 4])
@pytest.mark.parametrize("backend", ["cpu", "gpu"])
def test_contrast_is_about_the_mean_of_all_channels(channels, backend, monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    image = RNG.random((9, 7, channels), dtype=np.float32)
    rng = jax.random.key(2)
    got = augment.colour_jitter(rng, image, contrast=0.9)
    factor = 0.1 + 1.8 * jax.random.uniform(rng, (3,))[1]
    expected = augment.adjust_contrast(image, factor)
    np.testing.assert_allclose(got, expected, atol=2e-6)


STRENGTHS = {"brightness": 0.4, "contrast": 0.5, "saturation": 0.6, "hue": 0.1}


@pytest.mark.parametrize(
    "names",
    [
        ("brightness", "contrast", "saturation", "hue"),
        ("contrast", "hue"),
        ("brightness", "saturation"),
        ("contrast",),
        ("hue",),
    ],
)
@pytest.mark.parametrize("backend", ["cpu", "gpu"])
def test_jitter_is_its_steps_in_the_order_drawn(names, backend, monkeypatch):
    # What is computed on a GPU is another arrangement, and right anywhere.
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    strengths = {name: STRENGTHS[name] for name in names}
    rngs = jax.random.split(jax.random.key(0), 240)
    op = partial(augment.colour_jitter, **strengths, p=0.8)
    jittered = jax.jit(jax.vmap(op, in_axes=(0, None)))(rngs, IMAGE)
    draw = jax.vmap(lambda rng: jax.random.uniform(rng, (2 * len(names) + 1,)))
    orders = []
    for got, draws in zip(jittered, np.asarray(draw(rngs)), strict=True):
        expected = IMAGE
        order = np.argsort(draws[: len(names)], kind="stable")
        for k in order if draws[-1] < np.float32(0.8) else ():
            s = STRENGTHS[names[k]]
            low = -s if names[k] == "hue" else 1 - s
            amount = low + 2 * s * draws[len(names) + k]
            expected = getattr(augment, f"adjust_{names[k]}")(expected, amount)
        np.testing.assert_allclose(got, expected, atol=2e-6)
        orders.append(tuple(order))
    _, counts = np.unique(orders, axis=0, return_counts=True)
    assert len(counts) == math.factorial(len(names))
    if len(counts) > 1:
        assert stats.chisquare(counts).pvalue > 1e-3


@pytest.mark.parametrize(
    ("name", "strength"), [("brightness", 0.4), ("contrast", 0.7), ("saturation", 0.7)]
)
def test_jitter_factors_are_uniform(name, strength):
    image = jnp.array([[[0.4, 0.5, 0.6]], [[0.5, 0.5, 0.5]]])
    rngs = jax.random.split(jax.random.key(0), 3000)
    op = partial(augment.colour_jitter, **{name: strength})
    out = jax.jit(jax.vmap(op, in_axes=(0, None)))(rngs, image)
    if name == "brightness":
        factor = out[:, 1, 0, 0] / 0.5
    else:
        factor = (out[:, 0, 0, 2] - out[:, 0, 0, 0]) / 0.2
    uniform = (np.asarray(factor, np.float64) - 1 + strength) / (2 * strength)
    assert stats.kstest(uniform, "uniform").pvalue > 1e-3


def test_jitter_hue_is_uniform():
    rngs = jax.random.split(jax.random.key(0), 2000)
    op = partial(augment.colour_jitter, hue=0.15)
    out = jax.jit(jax.vmap(op, in_axes=(0, None)))(rngs, jnp.array([[[0.9, 0.1, 0.1]]]))
    hue = [colorsys.rgb_to_hsv(*pixel)[0] for pixel in np.asarray(out).reshape(-1, 3)]
    turn = (np.array(hue) + 0.5) % 1 - 0.5
    assert stats.kstest((turn + 0.15) / 0.3, "uniform").pvalue > 1e-3


@pytest.mark.parametrize(
    "op",
    [
        partial(augment.colour_jitter, brightness=0.4, p=0.8),
        partial(augment.random_greyscale, p=0.8),
        partial(augment.random_solarise, p=0.8),
    ],
)
def test_probability_of_doing_anything(op):
    rngs = jax.random.split(jax.random.key(0), 2000)
    out = jax.jit(jax.vmap(op, in_axes=(0, None)))(rngs, IMAGE)
    changed = (np.asarray(out) != IMAGE).any(axis=(1, 2, 3))
    assert abs(changed.mean() - 0.8) < 0.03


def test_full_jitter_stays_finite_and_in_range():
    op = partial(
        augment.colour_jitter, brightness=1.0, contrast=1.0, saturation=1.0, hue=0.5
    )
    rngs = jax.random.split(jax.random.key(0), 200)
    jitter = jax.jit(jax.vmap(op, in_axes=(0, None)))
    constant = [jnp.full(IMAGE.shape, value) for value in (0.0, 0.5, 1.0)]
    for image in (IMAGE, *constant):
        out = jitter(rngs, image)
        assert out.min() >= 0
        assert out.max() <= 1  # false for NaN too
    grey = jitter(rngs, constant[1])
    np.testing.assert_allclose(grey[..., 0], grey[..., 1], atol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"brightness": -0.1}, r"brightness must be >= 0, got -0\.1"),
        ({"hue": 0.6}, r"hue must be in \[0, 0\.5\], got 0\.6"),
        ({"p": 1.5}, r"p must be in \[0, 1\], got 1\.5"),
    ],
)
def test_jitter_names_wrong_arguments(options, message):
    with pytest.raises(UsageError, match=f"colour_jitter: {message}"):
        augment.colour_jitter(jax.random.key(0), IMAGE, **options)


def test_colour_needs_one_or_three_channels():
    two = jnp.zeros((4, 4, 2))
    for op in (augment.greyscale, lambda x: augment.adjust_hue(x, 0.1)):
        with pytest.raises(UsageError, match="1 or 3 channels, got shape"):
            op(two)
    assert augment.adjust_contrast(two, 0.5).shape == two.shape


@pytest.mark.parametrize("op", [augment.random_greyscale, augment.random_solarise])
def test_probabilities_are_checked(op):
    with pytest.raises(UsageError, match=r"p must be in \[0, 1\], got -0\.1"):
        op(jax.random.key(0), IMAGE, p=-0.1)
