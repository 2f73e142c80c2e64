"""NT-Xent without the positive in its denominator."""

import functools
import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import assert_close, central_differences
from reference import losses as reference
from reference.machine import largest_array, make_mesh, share
from reference.networks import linear

from rl_jax import losses, methods
from rl_jax.errors import UsageError

pytestmark = pytest.mark.core


def loss(a, b, temperature, **options):
    return losses.nt_xent(a, b, temperature=temperature, decoupled=True, **options)


both = jax.value_and_grad(loss, (0, 1, 2))
compiled = jax.jit(both)


def views(seed, size, dim):
    rng = np.random.default_rng(seed)
    a = rng.normal(size=(size, dim)).astype(np.float32)
    return a, a + 0.7 * rng.normal(size=(size, dim)).astype(np.float32)


def test_reference_gradients_equal_central_differences():
    a, b = views(0, 4, 3)

    def value(a, b, t):
        return reference.nt_xent(a, b, temperature=t, decoupled=True)[0]

    _, found = reference.nt_xent(a, b, temperature=0.3, decoupled=True)
    numeric = central_differences(value, a, b, np.float64(0.3))
    assert_close(found, numeric, tolerance=1e-7)


@pytest.mark.parametrize("size", [2, 97, 513])
@pytest.mark.parametrize("temperature", [0.5, 0.05])
def test_equals_the_reference(size, temperature):
    a, b = views(size, size, 8)
    value, gradients = compiled(a, b, temperature)
    exact = reference.nt_xent(
        *(x.astype(np.float64) for x in (a, b)), temperature=temperature, decoupled=True
    )
    assert_close(value, exact[0], tolerance=2e-6)
    assert_close(gradients, exact[1], tolerance=2e-5)


def test_by_hand():
    e = np.eye(2, dtype=np.float32)
    for t in (1.0, 0.07):
        # The positive has cosine 1, both others 0.
        assert_close(loss(e, e, t), math.log(2) - 1 / t, tolerance=1e-6)
    same = np.ones((5, 3), np.float32)
    assert_close(loss(same, same, 0.5), math.log(8), tolerance=1e-6)


def test_aligned_pairs_do_not_cancel():
    """At τ = 0.01 a positive is e^100 times the rest: no difference would hold it."""
    a, _ = views(0, 16, 64)
    value, gradients = compiled(a, a, 0.01)
    exact = reference.nt_xent(
        *[a.astype(np.float64)] * 2, temperature=0.01, decoupled=True
    )
    chex.assert_tree_all_finite(gradients)
    assert_close(value, exact[0], tolerance=1e-6)
    assert_close(gradients, exact[1], tolerance=1e-4)


@pytest.mark.parametrize("devices", [1, 2, 4, 8])
@pytest.mark.parametrize("implementation", [None, "ring"])
def test_sharded_and_dense_equal_streaming(devices, implementation):
    a, b = views(0, 24, 8)
    expected = compiled(a, b, 0.3)
    dense = jax.value_and_grad(
        functools.partial(loss, implementation="dense"), (0, 1, 2)
    )
    assert_close(dense(a, b, 0.3), expected, tolerance=1e-5)
    mesh = make_mesh(range(devices)[::-1])
    function = functools.partial(loss, implementation=implementation)
    with jax.set_mesh(mesh):
        many = jax.jit(jax.value_and_grad(function, (0, 1, 2)))
        actual = many(*share(mesh, (a, b)), 0.3)
    assert_close(actual, expected, tolerance=1e-5)


def test_memory_is_that_of_tiles():
    rows = [jax.ShapeDtypeStruct((2048, 16), jnp.float32)] * 2
    assert largest_array(compiled.lower(*rows, 0.3).compile()) < 4096**2 / 4


def test_one_pair_is_refused():
    a, b = views(0, 1, 3)
    with pytest.raises(UsageError, match="nt_xent: decoupled needs .* two pairs, got"):
        loss(a, b, 0.5)


def test_simclr_has_it():
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(6, 2, 5)), jnp.float32)
    method = methods.simclr(linear(5, 4, 1), linear(4, 3, 2), decoupled=True)
    params, state = method.init(jax.random.key(0), {"views": x})
    value, aux = method.loss(params, state, {"views": x}, None)
    z = aux.features["z"]
    assert_close(value, loss(z[:, 0], z[:, 1], 0.5), tolerance=1e-6)
