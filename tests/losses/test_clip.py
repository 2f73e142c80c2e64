"""The CLIP loss against NumPy float64 and closed forms."""

import functools
import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import assert_close, central_differences
from reference import losses as reference
from reference.machine import largest_array, make_mesh, share, temporary_bytes

from rl_jax import losses

pytestmark = pytest.mark.core

VALUE, GRADIENT = 1e-6, 1e-5


def evaluate(image, text, scale, implementation=None):
    """The loss and its gradients to both sides and the scale."""

    def loss(image, text, scale):
        return losses.clip(
            image, text, logit_scale=scale, implementation=implementation
        )

    return jax.value_and_grad(loss, (0, 1, 2))(image, text, scale)


compiled = jax.jit(evaluate, static_argnames="implementation")


def expected(image, text, scale):
    image, text = (np.asarray(x, np.float64) for x in (image, text))
    return reference.clip(image, text, logit_scale=scale)


def normals(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def pairs(seed, size, dim=8):
    image = normals(seed, size, dim)
    return image, image + normals(seed + 1, size, dim)


def check(actual, target, *, scale, value=VALUE, gradient=GRADIENT):
    """Loss and gradients, up to what a cosine rounded to float32 can give."""
    chex.assert_tree_all_finite(actual)
    sharp = max(1.0, 0.05 * scale)
    assert_close({"loss": actual[0]}, {"loss": target[0]}, tolerance=value, floor=sharp)
    (*rows, slope), (*want, target_slope) = actual[1], target[1]
    assert_close({"d": rows}, {"d": want}, tolerance=gradient * sharp, floor=1e-3)
    # In the logarithm of the scale the loss has slopes of order one.
    slopes = {"d scale": slope}, {"d scale": target_slope}
    assert_close(*slopes, tolerance=gradient, floor=0.2 / scale)


def test_reference_gradients_equal_central_differences():
    def loss(image, text, scale):
        return reference.clip(image, text, logit_scale=scale)

    for size in (1, 4):
        args = (*pairs(0, size, 3), np.float64(3.0))
        numeric = central_differences(lambda *args: loss(*args)[0], *args)
        assert_close(loss(*args)[1], numeric, tolerance=1e-7, floor=1e-1)


@pytest.mark.parametrize("size", [3, 37, 130, 1031])
def test_equal_reference(size):
    image, text = pairs(size, size)
    actual = compiled(image, text, 5.0)
    check(actual, expected(image, text, 5.0), scale=5.0)
    assert actual[0].shape == ()
    assert actual[0].dtype == jnp.float32


@pytest.mark.parametrize("scale", [1.0, 14.3, 30.0, 100.0])
def test_scales(scale):
    image, text = pairs(0, 37)
    check(compiled(image, text, scale), expected(image, text, scale), scale=scale)


def test_one_pair_is_zero():
    actual = compiled(*pairs(0, 1), 5.0)
    zeros = jax.tree.map(np.zeros_like, actual)
    assert_close(actual, zeros, tolerance=3e-6, floor=1.0)


def test_hand_computed():
    e = np.eye(8, dtype=np.float32)[:3]
    for s in (1.0, 5.0, 20.0):
        # Orthogonal examples whose two sides are equal: one cosine is 1, two are 0.
        same = compiled(e, e, s)[0]
        assert_close(same, math.log1p(2 * math.exp(-s)), tolerance=VALUE, floor=1.0)
        # Each positive is orthogonal and one negative is the same.
        wrong = compiled(e, np.roll(e, 1, 0), s)[0]
        assert_close(wrong, math.log(2 + math.exp(s)), tolerance=VALUE)
        # Each positive is antipodal.
        worst = compiled(e, -e, s)[0]
        assert_close(worst, math.log(2 + math.exp(-s)) + s, tolerance=VALUE)
        # The cosines are 1 0 0 / 1 0 0 / 0 1 1, so the two directions differ.
        uneven = compiled(e[[0, 0, 1]], e[[0, 1, 1]], s)[0]
        one, two = math.log(math.exp(s) + 2), math.log(2 * math.exp(s) + 1)
        target = ((one - s) + one + (two - s)) / 6 + ((two - s) + one + (one - s)) / 6
        assert_close(uneven, target, tolerance=VALUE, floor=1.0)


def test_mean_of_both_directions():
    image, text = pairs(0, 12)
    ways = [
        reference.info_nce(*sides, temperature=0.2)[0]
        for sides in ((image, text), (text, image))
    ]
    assert abs(ways[0] - ways[1]) > 1e-2
    assert_close(compiled(image, text, 5.0)[0], sum(ways) / 2, tolerance=VALUE)


def test_invariances():
    image, text = pairs(0, 12)
    rng = np.random.default_rng(3)
    lengths = np.exp(rng.normal(size=(2, 12, 1))).astype(np.float32)
    rotation = np.linalg.qr(normals(4, 8, 8))[0]
    order = rng.permutation(12)
    value, (d_image, d_text, slope) = compiled(image, text, 5.0)
    for other in (
        (lengths[0] * image, lengths[1] * text),
        (image @ rotation, text @ rotation),
        (image[order], text[order]),
    ):
        assert_close(compiled(*other, 5.0)[0], value, tolerance=2e-6)
    assert abs(compiled(image, text[order], 5.0)[0] - value) > 0.1
    # The two sides may be exchanged, gradients and all.
    swapped = compiled(text, image, 5.0)
    assert_close(swapped, (value, (d_text, d_image, slope)), tolerance=2e-6)


def test_dense_equals_xla():
    image, text = pairs(0, 37)
    dense, xla = (compiled(image, text, 5.0, name) for name in ("dense", "xla"))
    check(dense, expected(image, text, 5.0), scale=5.0)
    assert_close(xla, dense, tolerance=3e-6)


def test_jit_equals_no_jit():
    image, text = pairs(0, 3)
    assert_close(evaluate(image, text, 5.0), compiled(image, text, 5.0), tolerance=3e-6)


def test_the_scale_may_be_any_scalar():
    image, text = pairs(0, 3)
    target = expected(image, text, 5.0)[0]
    for scale in (5, 5.0, np.float32(5), jnp.float32(5), jnp.bfloat16(5)):
        actual = losses.clip(image, text, logit_scale=scale)
        assert actual.dtype == jnp.float32
        assert_close(actual, target, tolerance=VALUE, floor=1.0)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_degenerate_rows(dtype):
    """Identical, antipodal and zero rows among ordinary ones."""
    image, text = pairs(0, 12)
    image[1], image[2], image[3] = image[0], -image[0], 0.0
    text[0], text[1], text[2] = image[0], -image[0], image[0]
    image[4], text[4], text[5] = 0.0, 0.0, 0.0
    sides = [jnp.asarray(x, dtype) for x in (image, text)]
    actual, target = compiled(*sides, 100.0), expected(*sides, 100.0)
    chex.assert_tree_all_finite(actual)
    assert_close(actual[0], target[0], tolerance=VALUE, floor=5.0)
    assert_close(actual[1][2], target[1][2], tolerance=GRADIENT)
    # The loss is float32; the gradient is rounded to the inputs at the end.
    tolerance = 5e-5 if dtype == jnp.float32 else 2**-7
    for got, want, side in zip(actual[1], target[1], sides, strict=False):
        assert got.dtype == dtype
        # At a zero row the gradient is as large as the epsilon is small.
        alive = np.any(np.asarray(side, np.float32) != 0, axis=1)
        got = np.asarray(got, np.float32)[alive]
        assert_close(got, want[alive], tolerance=tolerance, floor=1e-2)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("fill", [1.0, 0.0])
def test_a_batch_of_identical_rows(dtype, fill):
    rows = jnp.full((12, 8), fill, dtype)
    actual = compiled(rows, rows, 100.0)
    chex.assert_tree_all_finite(actual)
    assert_close(actual[0], math.log(12), tolerance=1e-5)
    assert_close(actual[1][2], 0.0, tolerance=1e-5, floor=1.0)


@functools.cache
def one_device():
    return compiled(*pairs(0, 24), 5.0)


@pytest.mark.parametrize(
    "order", [[0], [1, 0], [2, 0, 3, 1], [5, 2, 7, 0, 3, 6, 1, 4]], ids=len
)
def test_sharded_equals_one_device(order):
    # The offset of a shard is its place in the mesh, not the number of its device.
    mesh = make_mesh(order)
    with jax.set_mesh(mesh):
        actual = compiled(*share(mesh, pairs(0, 24)), 5.0)
    (*rows, slope), (*want, target_slope) = actual[1], one_device()[1]
    assert_close(actual[0], one_device()[0], tolerance=1e-6)
    assert_close(rows, want, tolerance=1e-6)
    # The slope is a difference of mean cosines.
    assert_close(slope, target_slope, tolerance=1e-6, floor=0.5)


def test_gradient_memory_is_linear():
    def compile_gradient(size):
        side = jax.ShapeDtypeStruct((size, 32), jnp.float32)
        return compiled.lower(side, side, 5.0).compile()

    once, twice = compile_gradient(4096), compile_gradient(8192)
    # The tile is of a fixed size, so the larger problem is where a matrix shows.
    assert largest_array(once) < 4096**2 / 4
    assert largest_array(twice) < 4096**2 / 4
    assert 0 < temporary_bytes(twice) < 3 * temporary_bytes(once)
