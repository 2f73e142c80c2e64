"""Affine maps against SciPy, hand-made cases, and the distribution of the draws."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage, stats

from rl_jax import augment
from rl_jax.errors import UsageError

RNG = np.random.default_rng(0)
IMAGE = RNG.random((7, 10, 3), dtype=np.float32)


def jitted(op, *arrays, **options):
    return jax.jit(partial(op, **options))(*arrays)


def scipy_affine(image, matrix, fill):
    height, width, channels = image.shape
    centre = np.array([(height - 1) / 2, (width - 1) / 2])
    linear = matrix[::-1, 1::-1]  # SciPy counts (row, column), affine (x, y)
    offset = matrix[::-1, 2] + centre - linear @ centre
    return np.stack(
        [
            ndimage.affine_transform(
                image[..., c].astype(np.float64),
                linear,
                offset,
                order=1,
                mode="grid-constant",
                cval=fill,
            )
            for c in range(channels)
        ],
        axis=-1,
    )


def matrix_of(**options):
    neutral = {"shift": (0.0, 0.0), "rotate": 0.0, "shear": 0.0, "scale": 1.0}
    return np.asarray(jax.jit(augment.affine_matrix)(**{**neutral, **options}))


def test_affine_equals_scipy():
    transform = jax.jit(partial(augment.affine, fill=0.25))
    for _ in range(5):
        matrix = np.eye(2, 3) + RNG.normal(size=(2, 3)) * [[0.5, 0.5, 3]]
        got = transform(IMAGE, jnp.asarray(matrix, jnp.float32))
        np.testing.assert_allclose(got, scipy_affine(IMAGE, matrix, 0.25), atol=2e-5)


def test_affine_fills_each_channel_with_its_own():
    matrix = matrix_of(shift=(2.3, -1.4), rotate=0.4)
    fills = (0.1, 0.5, 0.9)
    got = jitted(augment.affine, IMAGE, matrix, fill=fills)
    for c, fill in enumerate(fills):
        expected = jitted(augment.affine, IMAGE[..., c : c + 1], matrix, fill=fill)
        np.testing.assert_allclose(got[..., c : c + 1], expected, atol=1e-6)
    with pytest.raises(UsageError, match=r"affine: fill must be one value or one per"):
        augment.affine(IMAGE, matrix, fill=(0.1, 0.5))


def test_affine_identity_is_exact_and_far_away_is_fill():
    np.testing.assert_array_equal(jitted(augment.affine, IMAGE, matrix_of()), IMAGE)
    away = jitted(augment.affine, IMAGE, matrix_of(shift=(0.0, 1e6)), fill=0.5)
    np.testing.assert_array_equal(away, jnp.full(IMAGE.shape, 0.5))


def test_affine_shift_moves_right_and_down():
    got = jitted(augment.affine, IMAGE, matrix_of(shift=(2.0, 1.0)), fill=0.5)
    np.testing.assert_allclose(got[1:, 2:], IMAGE[:-1, :-2], atol=1e-6)
    np.testing.assert_allclose(got[0], 0.5)
    np.testing.assert_allclose(got[:, :2], 0.5)


def test_affine_rotates_clockwise():
    square = IMAGE[:, :7]
    got = jitted(augment.affine, square, matrix_of(rotate=jnp.pi / 2))
    np.testing.assert_allclose(got, np.rot90(square, k=-1), atol=1e-5)


def test_affine_matrix_inverts_scale_rotation_shear_then_shift():
    angle, slant, scale, shift = 0.4, 0.3, 1.3, np.array([1.5, -0.7])
    rotation = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    forward = scale * np.array(rotation) @ [[1, np.tan(slant)], [0, 1]]
    inverse = np.linalg.inv(forward)
    expected = np.concatenate([inverse, -(inverse @ shift)[:, None]], axis=1)
    got = matrix_of(shift=(1.5, -0.7), rotate=angle, shear=slant, scale=scale)
    np.testing.assert_allclose(got, expected, atol=1e-6)


def test_random_affine_draws_each_parameter_uniformly_and_alone():
    # (A | b) can be read off a picture whose channels are the coordinates x and y.
    y, x = np.mgrid[-8:9, -8:9].astype(np.float32)
    ramp = np.stack([x, y], axis=-1)
    rngs = jax.random.split(jax.random.key(0), 3000)
    op = partial(
        augment.random_affine, shift=1.5, rotate=30.0, shear=20.0, scale=(0.8, 1.6)
    )
    out = np.asarray(jax.jit(jax.vmap(op, in_axes=(0, None)))(rngs, ramp), np.float64)
    origin = out[:, 8, 8]
    linear = np.stack([out[:, 8, 9] - origin, out[:, 9, 8] - origin], axis=-1)

    forward = np.linalg.inv(linear)  # s R(θ) K(φ)
    shift = -np.einsum("nij,nj->ni", forward, origin)
    scale = np.hypot(forward[:, 0, 0], forward[:, 1, 0])
    angle = np.arctan2(forward[:, 1, 0], forward[:, 0, 0])
    along = np.cos(angle) * forward[:, 0, 1] + np.sin(angle) * forward[:, 1, 1]
    draws = np.stack(
        [
            shift[:, 0] / 3 + 0.5,
            shift[:, 1] / 3 + 0.5,
            np.degrees(angle) / 60 + 0.5,
            np.degrees(np.arctan(along / scale)) / 40 + 0.5,
            (scale - 0.8) / 0.8,
        ]
    )
    for uniform in draws:
        assert stats.kstest(uniform, "uniform").pvalue > 1e-3
    assert np.abs(np.corrcoef(draws) - np.eye(5)).max() < 0.08


def test_affine_of_one_pixel_is_finite():
    op = partial(augment.random_affine, shift=1.0, rotate=90.0, shear=45.0)
    out = jax.jit(op)(jax.random.key(0), jnp.ones((1, 1, 1)))
    assert 0 <= out.item() <= 1


def test_random_flip_mirrors_with_its_probability():
    rngs = jax.random.split(jax.random.key(0), 2000)
    op = partial(augment.random_flip, p=0.3)
    out = jax.jit(jax.vmap(op, in_axes=(0, None)))(rngs, IMAGE[:3])
    out = np.asarray(out)
    flipped = (out == IMAGE[:3, ::-1]).all(axis=(1, 2, 3))
    kept = (out == IMAGE[:3]).all(axis=(1, 2, 3))
    assert (flipped ^ kept).all()
    assert abs(flipped.mean() - 0.3) < 0.04
    rng = jax.random.key(1)
    np.testing.assert_array_equal(augment.random_flip(rng, IMAGE, p=0.0), IMAGE)
    np.testing.assert_array_equal(
        augment.random_flip(rng, IMAGE, p=1.0), IMAGE[:, ::-1]
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shift": -1.0}, r"random_affine: shift must be >= 0, got -1\.0"),
        ({"rotate": 200.0}, r"rotate must be in \[0, 180\], got 200\.0"),
        ({"shear": 90.0}, r"shear must be in \[0, 89\], got 90\.0"),
        ({"scale": (0.0, 1.0)}, r"scale must be .* got \(0\.0, 1\.0\)"),
        ({"shift": float("nan")}, r"shift must be >= 0, got nan"),
    ],
)
def test_random_affine_names_wrong_arguments(options, message):
    with pytest.raises(UsageError, match=message):
        augment.random_affine(jax.random.key(0), IMAGE, **options)


def test_random_flip_names_a_wrong_probability():
    with pytest.raises(UsageError, match=r"random_flip: p must be in \[0, 1\], got 2"):
        augment.random_flip(jax.random.key(0), IMAGE, p=2)
