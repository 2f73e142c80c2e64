"""Smooth L1 and absolute error against NumPy float64."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
from reference import assert_close, central_differences, masked
from reference.machine import make_mesh

from rl_jax import losses
from rl_jax.errors import UsageError

pytestmark = pytest.mark.core

SHAPE = (8, 3, 5)


def arrays(seed, *, spread=2.0):
    """Differences on both sides of 1, and weights with zeros among them."""
    rng = np.random.default_rng(seed)
    predicted, target = spread * rng.normal(size=(2, *SHAPE))
    weight = rng.uniform(0.1, 2.0, SHAPE[:-1]) * (rng.uniform(size=SHAPE[:-1]) < 0.6)
    return [x.astype(np.float32) for x in (predicted, target, weight)]


slopes = jax.value_and_grad(losses.smooth_l1, (0, 1))
compiled = jax.jit(slopes, static_argnames="beta")


@pytest.mark.parametrize("beta", [0.3, 1.0, 2.5])
@pytest.mark.parametrize("weighted", [False, True])
def test_equal_reference(weighted, beta):
    predicted, target, weight = arrays(0)
    weight = weight if weighted else None
    found = compiled(predicted, target, weight, beta=beta)
    expected = masked.smooth_l1(predicted, target, weight, beta=beta)
    assert found[0].shape == ()
    assert found[0].dtype == jnp.float32
    assert_close(found[0], expected[0], tolerance=1e-6)
    assert_close(found[1], expected[1], tolerance=1e-5)


def test_reference_gradient_equals_central_differences():
    predicted, target, weight = (x[:2] for x in arrays(1))
    oracle = functools.partial(masked.smooth_l1, weight=weight)
    numeric = central_differences(lambda *x: oracle(*x)[0], predicted, target)
    assert_close(oracle(predicted, target)[1], numeric, tolerance=1e-6)


def test_hand_computed():
    """Differences 0, ½, −1 and 3: 0, ⅛, ½ and 2½."""
    predicted = jnp.asarray([[0.0, 0.5], [-1.0, 3.0]])
    zero = jnp.zeros((2, 2))
    assert losses.smooth_l1(predicted, zero) == pytest.approx(3.125 / 4)
    assert losses.smooth_l1(predicted, zero, jnp.asarray([0, 1])) == 1.5
    assert losses.smooth_l1(predicted, zero, jnp.asarray([3, 1])) == pytest.approx(
        (3 * 0.0625 + 1.5) / 4
    )
    # At β = ¼ ½ is on the straight part: ½ − ⅛.
    assert losses.smooth_l1(predicted, zero, beta=0.25) == pytest.approx(
        (0.375 + 0.875 + 2.875) / 4
    )
    assert losses.smooth_l1(predicted, predicted) == 0


def test_only_the_difference_counts_and_either_sign_alike():
    predicted, target, weight = arrays(2)
    value = losses.smooth_l1(predicted, target, weight)
    for other in (
        losses.smooth_l1(target, predicted, weight),
        losses.smooth_l1(predicted + 1, target + 1, weight),
        losses.smooth_l1(predicted, target, 3 * weight),
        losses.smooth_l1(predicted[::-1], target[::-1], weight[::-1]),
    ):
        assert_close(other, value, tolerance=2e-6)


def test_what_does_not_count_may_be_anything():
    predicted, target, weight = arrays(3)
    expected = compiled(predicted, target, weight)
    none = weight == 0
    assert none.any()
    predicted[none], target[none] = np.nan, np.inf
    found = compiled(predicted, target, weight)
    chex.assert_tree_all_finite(found)
    chex.assert_trees_all_equal(found, expected)
    nothing = compiled(predicted, target, np.zeros_like(weight))
    chex.assert_tree_all_finite(nothing)
    assert nothing[0] == 0


def test_numerical_gradients():
    predicted, target, weight = arrays(4, spread=0.3)
    chex.assert_numerical_grads(
        lambda *x: losses.smooth_l1(*x, weight),
        (predicted, target),
        order=1,
        modes=("rev",),
        eps=1e-2,
    )


def test_jit_equals_no_jit():
    given = arrays(5)
    assert_close(slopes(*given), compiled(*given), tolerance=1e-6)


def test_half_precision_is_computed_in_full():
    predicted, target, weight = (jnp.asarray(x, jnp.bfloat16) for x in arrays(6))
    value, grads = compiled(predicted, target, weight)
    expected, _ = masked.smooth_l1(predicted, target, np.asarray(weight, np.float64))
    assert value.dtype == jnp.float32
    assert_close(value, expected, tolerance=1e-5)
    assert all(g.dtype == jnp.bfloat16 for g in grads)


@pytest.mark.parametrize("devices", [1, 2, 4, 8])
def test_sharded_equals_reference(devices):
    given = arrays(7)
    mesh = make_mesh(range(devices))
    with jax.set_mesh(mesh):
        placed = jax.device_put(given, NamedSharding(mesh, P("data")))
        found = compiled(*placed)
    expected = masked.smooth_l1(*given)
    assert_close(found[0], expected[0], tolerance=1e-6)
    assert_close(found[1], expected[1], tolerance=1e-5)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ((jnp.ones((2, 3)), jnp.ones((2, 4))), r"of one shape, got \(2, 3\), \(2, 4\)"),
        ((jnp.ones(()), jnp.ones(())), "of one shape"),
        (
            (jnp.ones((2, 3)), jnp.ones((2, 3)), jnp.ones((2, 3))),
            r"a weight for each row, \(2,\), got \(2, 3\)",
        ),
    ],
)
def test_shapes_that_do_not_fit(given, message):
    with pytest.raises(UsageError, match=f"smooth_l1: .*{message}") as error:
        losses.smooth_l1(*given)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("beta", [0.0, -1.0, np.nan, np.inf])
def test_a_beta_that_is_not_positive(beta):
    one = jnp.ones((2, 3))
    with pytest.raises(UsageError, match="smooth_l1: beta must be > 0 and finite, got"):
        losses.smooth_l1(one, one, beta=beta)


def test_absolute_error_equals_reference():
    predicted, target, _ = arrays(8)
    predicted[0] = target[0]
    found = jax.jit(jax.value_and_grad(losses.absolute_error, (0, 1)))(
        predicted, target
    )
    expected = masked.absolute_error(predicted, target)
    assert found[0].dtype == jnp.float32
    assert_close(found[0], expected[0], tolerance=1e-6)
    # Its derivative where both are equal is 0.
    assert_close(found[1], expected[1], tolerance=1e-6)


def test_absolute_error_hand_computed():
    predicted = jnp.asarray([[0.0, 0.5], [-1.0, 3.0]])
    assert losses.absolute_error(predicted, jnp.zeros((2, 2))) == 4.5 / 4
    assert losses.absolute_error(predicted, predicted) == 0
    # The limit of smooth L1 for a small β.
    close = losses.smooth_l1(predicted, jnp.zeros((2, 2)), beta=1e-6)
    assert_close(close, 4.5 / 4, tolerance=1e-6)
    with pytest.raises(UsageError, match=r"of one shape, got \(2, 2\), \(2,\)"):
        losses.absolute_error(predicted, predicted[0])
