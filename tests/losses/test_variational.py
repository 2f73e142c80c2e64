"""Divergences, likelihoods and samples against NumPy float64 and closed forms."""

import functools
import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
from reference import assert_close, central_differences
from reference import variational as reference
from reference.machine import make_mesh, share

from rl_jax import losses
from rl_jax.errors import UsageError

pytestmark = pytest.mark.core

VALUE, GRADIENT = 2e-6, 1e-5
SHAPE = (24, 3)


def normals(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def total(function):
    """The sum over all that `function` returns."""
    return lambda *args: jnp.sum(function(*args))


# Of each: the function, the reference, its gradients, and arguments.
FORMS = {
    "gaussian_kl": (
        losses.gaussian_kl,
        reference.gaussian_kl,
        reference.gaussian_kl_vjp,
        [normals(i, *SHAPE) for i in range(4)],
    ),
    "gaussian_log_likelihood": (
        losses.gaussian_log_likelihood,
        reference.gaussian_log_likelihood,
        reference.gaussian_log_likelihood_vjp,
        [normals(i, *SHAPE) for i in range(3)],
    ),
    "bernoulli_log_likelihood": (
        losses.bernoulli_log_likelihood,
        reference.bernoulli_log_likelihood,
        reference.bernoulli_log_likelihood_vjp,
        [np.abs(np.tanh(normals(0, *SHAPE))), 3 * normals(1, *SHAPE)],
    ),
}
every_form = pytest.mark.parametrize("name", FORMS)


@functools.cache
def compiled(name):
    function, *_, args = FORMS[name]
    count = tuple(range(len(args)))
    return jax.jit(lambda *xs: (function(*xs), jax.grad(total(function), count)(*xs)))


def as64(arrays):
    return [np.asarray(x, np.float64) for x in arrays]


@every_form
def test_reference_gradients_equal_central_differences(name):
    _, value, vjp, args = FORMS[name]
    args = [x[:3] for x in as64(args)]
    numeric = central_differences(lambda *xs: value(*xs).sum(), *args)
    assert_close(vjp(*args), numeric, tolerance=1e-7)


@every_form
def test_equal_reference(name):
    _, value, vjp, args = FORMS[name]
    actual = compiled(name)(*args)
    expected = value(*as64(args)), vjp(*as64(args))
    assert_close(actual[0], expected[0], tolerance=VALUE)
    assert_close(actual[1], expected[1], tolerance=GRADIENT)
    assert actual[0].dtype == jnp.float32


@every_form
@pytest.mark.parametrize("devices", [2, 8])
def test_sharded_equals_reference(name, devices):
    _, value, vjp, args = FORMS[name]
    mesh = make_mesh(range(devices))
    with jax.set_mesh(mesh):
        actual = compiled(name)(*share(mesh, args))
    assert_close(actual[0], value(*as64(args)), tolerance=VALUE)
    assert_close(actual[1], vjp(*as64(args)), tolerance=GRADIENT)


@every_form
def test_numerical_gradients(name):
    function, *_, args = FORMS[name]
    args = [x[:2] for x in args]
    chex.assert_numerical_grads(total(function), args, order=1, eps=1e-2)


@every_form
def test_jit_equals_no_jit(name):
    function, *_, args = FORMS[name]
    assert_close(function(*args), compiled(name)(*args)[0], tolerance=VALUE)


@every_form
def test_half_precision_is_computed_in_float32(name):
    _, value, _, args = FORMS[name]
    rounded = [jnp.asarray(x, jnp.bfloat16) for x in args]
    out = FORMS[name][0](*rounded)
    assert out.dtype == jnp.float32
    assert_close(out, value(*as64(rounded)), tolerance=VALUE)


def test_divergence_by_hand():
    kl = losses.gaussian_kl
    one, zero = jnp.ones((1, 1)), jnp.zeros((1, 1))
    assert_close(kl(one, zero)[0, 0], 0.5, tolerance=VALUE)
    # σ = 2: ½(4 − 1 − log 4).
    four = jnp.full((1, 1), math.log(4))
    assert_close(kl(zero, four)[0, 0], 1.5 - math.log(2), tolerance=VALUE)
    # N(3, 1) from N(1, 4): log 2 + (1 + 4)/8 − ½.
    moved = kl(3 * one, zero, one, four)
    assert_close(moved[0, 0], math.log(2) + 1 / 8, tolerance=VALUE)


def test_divergence_is_zero_for_equals_and_positive_else():
    mean, lv = normals(0, *SHAPE), normals(1, *SHAPE)
    assert np.all(np.asarray(losses.gaussian_kl(mean, lv, mean, lv)) == 0)
    near = losses.gaussian_kl(mean, lv, mean, lv + np.float32(1e-3))
    # ¼δ² to first order: what 1 + δ − δ would lose.
    assert_close(near, np.full(SHAPE, 2.5e-7), tolerance=2e-3)


def test_divergence_is_invariant_to_scale_and_shift():
    mean, lv, m, s = (normals(i, *SHAPE) for i in range(4))
    moved = losses.gaussian_kl(
        3 * mean + 2, lv + 2 * math.log(3), 3 * m + 2, s + 2 * math.log(3)
    )
    assert_close(moved, losses.gaussian_kl(mean, lv, m, s), tolerance=1e-5)


def test_likelihoods_by_hand():
    x = jnp.asarray([[[1.0], [0.0]]])
    gaussian = losses.gaussian_log_likelihood(x, jnp.zeros_like(x), math.log(4))
    expected = -0.5 * (1 / 4 + 2 * math.log(4) + 2 * math.log(2 * math.pi))
    assert_close(gaussian[0], expected, tolerance=VALUE)
    logits = jnp.full_like(x, math.log(3))
    # p = ¾ for a one and a zero.
    bernoulli = losses.bernoulli_log_likelihood(x, logits)
    assert_close(bernoulli[0], math.log(3 / 16), tolerance=VALUE)


def test_bernoulli_of_large_logits_is_finite():
    logits = jnp.asarray([[200.0, -200.0, 200.0]])
    x = jnp.asarray([[1.0, 0.0, 0.0]])
    value, grad = jax.value_and_grad(
        lambda v: losses.bernoulli_log_likelihood(x, v)[0]
    )(logits)
    assert_close(value, -200.0, tolerance=VALUE)
    assert_close(grad, np.array([[0.0, 0.0, -1.0]]), tolerance=VALUE)


def test_samples_belong_to_the_example():
    """Not to its position: the same index gets the same noise anywhere."""
    mean, lv = normals(0, 8, 2, 3), normals(1, 8, 2, 3)
    index, rng = jnp.arange(8) * 7, jax.random.key(3)
    z = losses.gaussian_sample(rng, mean, lv, index=index)
    order = np.random.default_rng(0).permutation(8)
    moved = losses.gaussian_sample(rng, mean[order], lv[order], index=index[order])
    np.testing.assert_array_equal(moved, z[order])
    noise = (z - mean) / jnp.exp(0.5 * lv)
    assert len(np.unique(np.round(noise, 4))) == noise.size
    mesh = make_mesh(range(8))
    rows = NamedSharding(mesh, P("data"))
    with jax.set_mesh(mesh):
        shared = jax.jit(losses.gaussian_sample)(
            rng, *(jax.device_put(x, rows) for x in (mean, lv)), index=index
        )
    assert_close(shared, z, tolerance=1e-6)


def test_samples_have_the_mean_and_the_variance():
    n = 20_000
    mean, lv = jnp.full((n, 2), 1.5), jnp.full((n, 2), math.log(0.25))
    sample = jax.jit(losses.gaussian_sample)
    z = np.asarray(sample(jax.random.key(0), mean, lv, index=jnp.arange(n)))
    np.testing.assert_allclose(z.mean(0), 1.5, atol=4 * 0.5 / n**0.5)
    np.testing.assert_allclose(z.std(0), 0.5, atol=4 * 0.5 / (2 * n) ** 0.5)


def test_samples_pass_gradients_to_both():
    mean, lv = normals(0, 4, 3), normals(1, 4, 3)
    index, rng = jnp.arange(4), jax.random.key(3)

    def last(mean, lv):
        return jnp.sum(losses.gaussian_sample(rng, mean, lv, index=index))

    d_mean, d_lv = jax.grad(last, (0, 1))(mean, lv)
    assert_close(d_mean, np.ones((4, 3)), tolerance=VALUE)
    z = losses.gaussian_sample(rng, mean, lv, index=index)
    assert_close(d_lv, 0.5 * (np.asarray(z) - mean), tolerance=1e-5)


def test_free_bits_equal_reference():
    kl = np.abs(normals(0, *SHAPE)) * np.float32([0.1, 1, 10])
    for threshold in (0.0, 0.3, 3.0, 100.0):
        value = losses.free_bits(kl, threshold=threshold)
        expected = reference.free_bits(as64([kl])[0], threshold=threshold)
        assert_close(value, expected, tolerance=VALUE)
    assert_close(losses.free_bits(kl, threshold=0.0), kl.mean(0).sum(), tolerance=VALUE)
    # Below the threshold a dimension gets no gradient; the others all of it.
    grad = jax.grad(lambda k: losses.free_bits(k, threshold=0.3))(kl)
    above = kl.mean(0) > 0.3
    assert above.tolist() == [False, True, True]
    assert_close(grad, np.tile(above / len(kl), (len(kl), 1)), tolerance=VALUE)


def array(*shape, dtype=jnp.float32):
    return jax.ShapeDtypeStruct(shape, dtype)


@pytest.mark.parametrize(
    ("name", "shapes"),
    [
        ("gaussian_kl", [(4, 3), (4, 2)]),
        ("gaussian_kl", [(4, 3), (4, 3), (1, 3), (1, 3)]),
        ("gaussian_log_likelihood", [(4, 3), (4, 3), (3,)]),
        ("bernoulli_log_likelihood", [(4, 8, 8, 1), (4, 64)]),
    ],
)
def test_shapes_must_match(name, shapes):
    with pytest.raises(UsageError, match=f"{name}: ") as error:
        jax.eval_shape(getattr(losses, name), *(array(*s) for s in shapes))
    assert str(shapes[0]) in str(error.value)
    assert str(shapes[-1]) in str(error.value)


def test_samples_and_free_bits_refuse_other_shapes():
    index = array(5, dtype=jnp.int32)
    sample = functools.partial(jax.eval_shape, losses.gaussian_sample)
    with pytest.raises(UsageError, match=r"index \[4\].*got \(5,\)"):
        sample(jax.random.key(0), array(4, 3), array(4, 3), index=index)
    with pytest.raises(UsageError, match=r"kl \[B, d\], got \(3,\)"):
        losses.free_bits(jnp.ones(3), threshold=0.0)
    with pytest.raises(UsageError, match="threshold must be >= 0, got -1"):
        losses.free_bits(jnp.ones((3, 2)), threshold=-1.0)
