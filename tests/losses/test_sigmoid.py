"""The sigmoid loss of SigLIP against NumPy float64 and closed forms."""

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
# Where training starts (Zhai et al. 2023), and about where it ends.
SETTINGS = [(10.0, -10.0), (1.0, 0.0), (5.0, 3.0), (110.0, -16.0)]


def evaluate(image, text, scale, bias, implementation=None):
    """The loss and its gradients to both sides, the scale and the bias."""

    def loss(image, text, scale, bias):
        return losses.sigmoid(
            image, text, logit_scale=scale, bias=bias, implementation=implementation
        )

    return jax.value_and_grad(loss, (0, 1, 2, 3))(image, text, scale, bias)


compiled = jax.jit(evaluate, static_argnames="implementation")


def expected(image, text, scale, bias):
    image, text = (np.asarray(x, np.float64) for x in (image, text))
    return reference.sigmoid(image, text, logit_scale=scale, bias=bias)


def normals(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def pairs(seed, size, dim=8):
    image = normals(seed, size, dim)
    return image, image + normals(seed + 1, size, dim)


def check(actual, target, *, scale, value=VALUE, gradient=GRADIENT):
    """Loss and gradients, up to what a cosine rounded to float32 can give."""
    chex.assert_tree_all_finite(actual)
    sharp = max(1.0, 0.05 * scale)
    # One pair is one logit, of size `scale` and rounded to float32 like it.
    floor = max(sharp, 0.15 * scale)
    assert_close({"loss": actual[0]}, {"loss": target[0]}, tolerance=value, floor=floor)
    rows, want = {"d": actual[1][:2]}, {"d": target[1][:2]}
    assert_close(rows, want, tolerance=gradient * sharp, floor=1e-3)
    slopes, want = {"d scalars": actual[1][2:]}, {"d scalars": target[1][2:]}
    assert_close(slopes, want, tolerance=gradient * sharp, floor=0.2)


def test_reference_gradients_equal_central_differences():
    def loss(image, text, scale, bias):
        return reference.sigmoid(image, text, logit_scale=scale, bias=bias)

    for size, scale, bias in ((1, 10.0, -10.0), (4, 3.0, -1.0), (4, 10.0, -10.0)):
        args = (*pairs(0, size, 3), np.float64(scale), np.float64(bias))
        numeric = central_differences(lambda *args: loss(*args)[0], *args)
        assert_close(loss(*args)[1], numeric, tolerance=1e-7)


def test_reference_is_the_sum_over_all_pairs_divided_by_the_batch():
    image, text = pairs(0, 5)
    u, v = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (image, text))
    total = 0.0
    for i in range(5):
        for j in range(5):
            logit = 3.0 * float(u[i] @ v[j]) - 1.0
            sign = 1.0 if i == j else -1.0
            total -= math.log(1.0 / (1.0 + math.exp(-sign * logit)))
    assert_close(expected(image, text, 3.0, -1.0)[0], total / 5, tolerance=1e-6)


@pytest.mark.parametrize("size", [1, 3, 37, 130, 1031])
def test_equal_reference(size):
    image, text = pairs(size, size)
    actual = compiled(image, text, 10.0, -10.0)
    check(actual, expected(image, text, 10.0, -10.0), scale=10.0)
    assert actual[0].shape == ()
    assert actual[0].dtype == jnp.float32


@pytest.mark.parametrize(("scale", "bias"), SETTINGS)
def test_scales_and_biases(scale, bias):
    image, text = pairs(0, 37)
    actual = compiled(image, text, scale, bias)
    target = expected(image, text, scale, bias)
    check(actual, target, scale=scale)


def softplus(logit):
    return math.log1p(math.exp(logit))


def test_hand_computed():
    e = np.eye(8, dtype=np.float32)[:3]
    for s, b in ((10.0, -10.0), (2.0, 1.0), (5.0, -3.0)):
        # Orthogonal examples whose two sides are equal: each row has one positive of
        # logit s + b and two negatives of logit b.
        same = compiled(e, e, s, b)[0]
        target = softplus(-(s + b)) + 2 * softplus(b)
        assert_close(same, target, tolerance=VALUE, floor=1.0)
        # Each positive is orthogonal and one negative is the same.
        wrong = compiled(e, np.roll(e, 1, 0), s, b)[0]
        target = softplus(-b) + softplus(s + b) + softplus(b)
        assert_close(wrong, target, tolerance=VALUE, floor=1.0)
        # Each positive is antipodal.
        worst = compiled(e, -e, s, b)[0]
        target = softplus(s - b) + 2 * softplus(b)
        assert_close(worst, target, tolerance=VALUE, floor=1.0)
    one = normals(0, 1, 8)
    assert_close(compiled(one, one, 10.0, -10.0)[0], math.log(2.0), tolerance=2e-6)


def test_a_small_gain_of_a_negative_is_not_lost():
    # Every negative adds about exp(-10), less than float32 keeps of log(1 + that) when
    # the sum is formed first.
    e = np.eye(12, 16, dtype=np.float32)
    actual = compiled(e, e, 0.01, -10.0)
    target = expected(e, e, 0.01, -10.0)
    check(actual, target, scale=0.01)
    # Off the diagonal the gradient comes from negatives only and is as small as they.
    negatives = ~np.eye(12, 16, dtype=bool)
    gradients = (np.where(negatives, g[1][0], 0.0) for g in (actual, target))
    assert_close(*gradients, tolerance=GRADIENT)


def test_invariances():
    image, text = pairs(0, 12)
    rng = np.random.default_rng(3)
    lengths = np.exp(rng.normal(size=(2, 12, 1))).astype(np.float32)
    rotation = np.linalg.qr(normals(4, 8, 8))[0]
    order = rng.permutation(12)
    value, (d_image, d_text, *slopes) = compiled(image, text, 10.0, -5.0)
    for other in (
        (lengths[0] * image, lengths[1] * text),
        (image @ rotation, text @ rotation),
        (image[order], text[order]),
    ):
        assert_close(compiled(*other, 10.0, -5.0)[0], value, tolerance=3e-6)
    assert abs(compiled(image, text[order], 10.0, -5.0)[0] - value) > 0.1
    # The two sides may be exchanged, gradients and all.
    swapped = compiled(text, image, 10.0, -5.0)
    assert_close(swapped, (value, (d_text, d_image, *slopes)), tolerance=3e-6)


def test_dense_equals_xla():
    image, text = pairs(0, 37)
    dense, xla = (compiled(image, text, 10.0, -10.0, name) for name in ("dense", "xla"))
    check(dense, expected(image, text, 10.0, -10.0), scale=10.0)
    assert_close(xla, dense, tolerance=5e-6)


def test_jit_equals_no_jit():
    args = (*pairs(0, 3), 10.0, -10.0)
    assert_close(evaluate(*args), compiled(*args), tolerance=5e-6)


def test_scale_and_bias_may_be_any_scalars():
    image, text = pairs(0, 3)
    target = expected(image, text, 5.0, -2.0)[0]
    for kind in (int, float, np.float32, jnp.float32, jnp.bfloat16):
        actual = losses.sigmoid(image, text, logit_scale=kind(5), bias=kind(-2))
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
    for bias in (0.0, -10.0, 100.0):
        actual, target = (f(*sides, 100.0, bias) for f in (compiled, expected))
        chex.assert_tree_all_finite(actual)
        assert_close(actual[0], target[0], tolerance=3e-6)
        assert_close(actual[1][2:], target[1][2:], tolerance=GRADIENT, floor=1.0)
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
    actual = compiled(rows, rows, 100.0, -10.0)
    chex.assert_tree_all_finite(actual)
    logit = 100.0 * fill - 10.0
    assert_close(
        actual[0], 11 * softplus(logit) + softplus(-logit), tolerance=1e-5, floor=1.0
    )


@functools.cache
def one_device():
    return compiled(*pairs(0, 24), 10.0, -5.0)


@pytest.mark.parametrize(
    "order", [[0], [1, 0], [2, 0, 3, 1], [5, 2, 7, 0, 3, 6, 1, 4]], ids=len
)
def test_sharded_equals_one_device(order):
    # The offset of a shard is its place in the mesh, not the number of its device.
    mesh = make_mesh(order)
    with jax.set_mesh(mesh):
        actual = compiled(*share(mesh, pairs(0, 24)), 10.0, -5.0)
    assert_close(actual[0], one_device()[0], tolerance=1e-6)
    assert_close(actual[1][:2], one_device()[1][:2], tolerance=1e-6)
    # Negatives pull one way and positives the other.
    assert_close(actual[1][2:], one_device()[1][2:], tolerance=1e-6, floor=1.0)


def test_gradient_memory_is_linear():
    def compile_gradient(size):
        side = jax.ShapeDtypeStruct((size, 32), jnp.float32)
        return compiled.lower(side, side, 10.0, -10.0).compile()

    once, twice = compile_gradient(4096), compile_gradient(8192)
    # The tile is of a fixed size, so the larger problem is where a matrix shows.
    assert largest_array(once) < 4096**2 / 4
    assert largest_array(twice) < 4096**2 / 4
    assert 0 < temporary_bytes(twice) < 3 * temporary_bytes(once)
