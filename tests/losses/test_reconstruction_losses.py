"""Error of reconstructions and penalties of codes against NumPy float64."""

import functools
import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import assert_close, central_differences
from reference import reconstruction as reference
from reference.machine import make_mesh, share

from rl_jax import losses
from rl_jax.errors import UsageError

pytestmark = pytest.mark.core

VALUE, GRADIENT = 2e-6, 1e-5
SHAPE = (16, 3, 2)
RHO = 0.1


def normals(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def sparsity(z):
    return losses.kl_sparsity(z, rho=RHO)


ACTIVATIONS = 1 / (1 + np.exp(-normals(3, 16, 5)))
# Of each: the function, the reference, and arguments.
FORMS = {
    "squared_distance": (
        losses.squared_distance,
        reference.squared_distance,
        [normals(0, *SHAPE), normals(1, *SHAPE)],
    ),
    "l1": (losses.l1, reference.l1, [normals(2, 16, 5)]),
    "kl_sparsity": (
        sparsity,
        lambda z: reference.kl_sparsity(z, RHO),
        [ACTIVATIONS],
    ),
}
every_form = pytest.mark.parametrize("name", FORMS)


def compiled(name):
    function, _, args = FORMS[name]
    return jax.jit(jax.value_and_grad(function, tuple(range(len(args)))))


def expected(name, args):
    value = FORMS[name][1]
    args = [np.asarray(x, np.float64) for x in args]
    return value(*args), central_differences(value, *args)


@every_form
def test_equal_reference(name):
    args = FORMS[name][2]
    actual, gradients = compiled(name)(*args)
    value, numeric = expected(name, args)
    assert_close(actual, value, tolerance=VALUE)
    assert_close(gradients, numeric, tolerance=GRADIENT)
    assert actual.dtype == jnp.float32


@every_form
def test_numerical_gradients(name):
    function, _, args = FORMS[name]
    chex.assert_numerical_grads(function, [x[:2] for x in args], order=1, eps=1e-3)


@every_form
@pytest.mark.parametrize("devices", [1, 2, 4, 8])
def test_sharded_equals_reference(name, devices):
    args = FORMS[name][2]
    mesh = make_mesh(range(devices))
    with jax.set_mesh(mesh):
        actual = compiled(name)(*share(mesh, args))
    assert_close(actual, expected(name, args), tolerance=GRADIENT)


@every_form
def test_jit_equals_no_jit(name):
    function, _, args = FORMS[name]
    assert_close(function(*args), compiled(name)(*args)[0], tolerance=VALUE)


@every_form
def test_half_precision_is_computed_in_float32(name):
    function, value, args = FORMS[name]
    rounded = [jnp.asarray(x, jnp.bfloat16) for x in args]
    assert function(*rounded).dtype == jnp.float32
    exact = value(*(np.asarray(x, np.float64) for x in rounded))
    assert_close(function(*rounded), exact, tolerance=VALUE)


def test_by_hand():
    x = jnp.asarray([[1.0, 2.0], [0.0, 0.0]])
    y = jnp.asarray([[0.0, 0.0], [0.0, 4.0]])
    # (1 + 4 + 16) over two examples; over four entries it would be 5.25.
    assert losses.squared_distance(x, y) == 10.5
    assert losses.squared_error(x, y) == 5.25
    assert losses.l1(x - y) == 3.5
    # Means 1/2 and 1/4 against 1/2: 0, and ½ log 2 + ½ log ⅔ = ½ log 4/3.
    z = jnp.asarray([[1.0, 0.5], [0.0, 0.0]])
    found = losses.kl_sparsity(z, rho=0.5)
    assert_close(found, 0.5 * math.log(4 / 3), tolerance=VALUE)


def test_codes_of_zero_are_not_pulled():
    z = jnp.asarray([[1.0, 0.0], [-2.0, -0.0]])
    expected = [[0.5, 0.0], [-0.5, 0.0]]
    np.testing.assert_array_equal(jax.grad(losses.l1)(z), expected)


def test_rotations_and_permutations_change_nothing():
    x, y = normals(0, 16, 6), normals(1, 16, 6)
    turn = np.linalg.qr(normals(2, 6, 6))[0]
    assert_close(
        losses.squared_distance(x @ turn, y @ turn),
        losses.squared_distance(x, y),
        tolerance=1e-5,
    )
    order = [3, 1, 4, 0, 2]
    for function in (losses.l1, sparsity):
        moved = function(ACTIVATIONS[::-1][:, order])
        assert_close(moved, function(ACTIVATIONS), tolerance=VALUE)


def test_sparsity_is_of_the_means():
    """Least, 0, where they are ρ; finite where a unit is never or always on."""
    z = np.zeros((10, 3), np.float32)
    z[0] = 1
    assert abs(losses.kl_sparsity(z, rho=0.1)) < 1e-6
    assert losses.kl_sparsity(z, rho=0.2) > 0.01
    for constant in (0.0, 1.0):
        value, grad = jax.value_and_grad(sparsity)(jnp.full((4, 2), constant))
        assert np.isfinite(value)
        assert value > 1
        # Pulled back to where it ought to be.
        assert (grad < 0 if constant == 0 else grad > 0).all()


def test_sparsity_of_logits():
    """That of their sigmoids, with a gradient where those are flat."""
    a = normals(3, 16, 5)
    of_logits = functools.partial(losses.kl_sparsity, rho=RHO, logits=True)
    value, grad = jax.value_and_grad(of_logits)(a)
    plain = jax.value_and_grad(lambda a: sparsity(jax.nn.sigmoid(a)))(a)
    assert_close(value, plain[0], tolerance=VALUE)
    assert_close(grad, plain[1], tolerance=1e-5)
    for constant in (-40.0, -14.0, 20.0):
        grad = jax.grad(of_logits)(jnp.full((4, 2), constant))
        share = 1 / (1 + np.exp(-constant))
        np.testing.assert_allclose(grad.sum(0), share - RHO, rtol=1e-5)


def test_refused():
    one, two = jnp.ones((4, 3)), jnp.ones((4, 1))
    with pytest.raises(UsageError, match=r"squared_distance: .*\(4, 3\), \(4, 1\)"):
        losses.squared_distance(one, two)
    with pytest.raises(UsageError, match=r"l1: expected codes \[B, d\], got \(3,\)"):
        losses.l1(jnp.ones(3))
    with pytest.raises(UsageError, match=r"kl_sparsity: .*got \(2, 2, 2\)"):
        losses.kl_sparsity(jnp.ones((2, 2, 2)), rho=0.5)
    for rho in (0.0, 1.0, -0.1, float("nan")):
        with pytest.raises(UsageError, match=r"rho must be in \(0, 1\), got"):
            losses.kl_sparsity(one, rho=rho)
