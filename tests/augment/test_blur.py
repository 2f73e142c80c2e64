"""Blur against SciPy; noise and dropout by their statistics."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from rl_jax import augment
from rl_jax.errors import UsageError

IMAGE = np.random.default_rng(0).random((13, 9, 3), dtype=np.float32)


@pytest.mark.parametrize("radius", [1, 3, 8])
def test_blur_equals_scipy(radius):
    blur = jax.jit(partial(augment.gaussian_blur, radius=radius))
    for sigma in (0.1, 0.8, 2.5):
        expected = ndimage.gaussian_filter(
            IMAGE.astype(np.float64),
            sigma,
            mode="mirror",
            radius=(radius, radius, 0),
            axes=(0, 1, 2),
        )
        np.testing.assert_allclose(blur(IMAGE, sigma), expected, atol=1e-6)


def test_blur_radius_is_a_twentieth_of_the_height_by_default():
    image = jnp.zeros((60, 3, 1)).at[30].set(1.0)
    rows = jax.jit(augment.gaussian_blur)(image, 5.0)[:, 0, 0]
    np.testing.assert_array_equal(np.flatnonzero(rows), np.arange(27, 34))


def test_blur_of_constant_and_tiny_images_changes_nothing():
    blur = jax.jit(partial(augment.gaussian_blur, radius=4))
    for shape in ((1, 1, 1), (2, 1, 3), (6, 5, 1)):
        image = np.full(shape, 0.7, np.float32)
        got = blur(image, 1.5)
        np.testing.assert_allclose(got, image, atol=1e-6)


def test_random_blur_draws_its_own_sigma_and_probability():
    impulse = jnp.zeros((9, 9, 1)).at[4, 4].set(1.0)
    rngs = jax.random.split(jax.random.key(0), 2000)
    op = partial(augment.random_blur, sigma=(0.5, 1.0), radius=1, p=0.4)
    out = jax.jit(jax.vmap(op, in_axes=(0, None)))(rngs, impulse)
    out = np.asarray(out)
    blurred = (out != np.asarray(impulse)).any(axis=(1, 2, 3))
    assert abs(blurred.mean() - 0.4) < 0.04
    # Neighbour over centre is exp(−1 / 2σ²) along one axis.
    ratio = (out[:, 4, 5] / out[:, 4, 4])[blurred, 0]
    sigma = np.sqrt(-0.5 / np.log(ratio))
    assert 0.5 <= sigma.min() < 0.52
    assert 0.98 < sigma.max() <= 1.0
    assert abs(sigma.mean() - 0.75) < 0.02


def test_gaussian_noise_has_its_deviation_and_is_not_clipped():
    noise = jax.jit(partial(augment.gaussian_noise, sd=0.2))
    noisy = noise(jax.random.key(0), np.zeros((100, 100, 1), np.float32))
    assert abs(noisy.mean()) < 0.01
    assert abs(noisy.std() - 0.2) < 0.01
    rng = jax.random.key(0)
    np.testing.assert_array_equal(augment.gaussian_noise(rng, IMAGE, sd=0.0), IMAGE)


def test_pixel_dropout_drops_whole_pixels_at_its_rate():
    image = np.ones((100, 100, 3), np.float32)
    drop = jax.jit(partial(augment.pixel_dropout, rate=0.3))
    out = np.asarray(drop(jax.random.key(0), image))
    assert set(np.unique(out.sum(-1))) == {0.0, 3.0}
    assert abs(1 - out.mean() - 0.3) < 0.03
    rng = jax.random.key(0)
    np.testing.assert_array_equal(augment.pixel_dropout(rng, IMAGE, rate=0.0), IMAGE)


@pytest.mark.parametrize(
    ("op", "message"),
    [
        (partial(augment.random_blur, p=1.1), r"random_blur: p must be in \[0, 1\]"),
        (partial(augment.random_blur, sigma=(0.0, 1.0)), r"sigma must be .* got \(0"),
        (partial(augment.random_blur, sigma=1.0), r"sigma must be .* got 1\.0"),
        (partial(augment.random_blur, radius=1.5), r"radius must be an integer"),
        (partial(augment.random_blur, radius=0), r"radius must be >= 1, got 0"),
        (partial(augment.gaussian_noise, sd=-1.0), r"sd must be >= 0, got -1\.0"),
        (partial(augment.pixel_dropout, rate=1.5), r"rate must be in \[0, 1\]"),
    ],
)
def test_wrong_arguments_are_named(op, message):
    with pytest.raises(UsageError, match=message):
        op(jax.random.key(0), IMAGE)
