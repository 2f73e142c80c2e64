"""Assignments to prototypes, and one view predicting another's, against NumPy."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import assert_close, central_differences
from reference import assignment as reference
from reference.machine import make_mesh, share

from rl_jax import losses
from rl_jax.errors import UsageError

pytestmark = pytest.mark.core


def cosines(seed, rows, prototypes, dim=8):
    rng = np.random.default_rng(seed)
    z, c = rng.normal(size=(rows, dim)), rng.normal(size=(prototypes, dim))
    return reference.scores(z, c).astype(np.float32)


@pytest.mark.parametrize(("rows", "prototypes"), [(12, 5), (5, 12), (1, 3), (3, 1)])
@pytest.mark.parametrize("iterations", [1, 3])
def test_sinkhorn_equals_the_loop(rows, prototypes, iterations):
    s = cosines(rows, rows, prototypes)
    options = {"epsilon": 0.05, "iterations": iterations}
    got = jax.jit(functools.partial(losses.sinkhorn, **options))(s)
    assert got.dtype == jnp.float32
    assert_close(got, reference.sinkhorn(s, **options), tolerance=1e-5)


def test_marginals():
    """Rows at once, columns in the limit."""
    s = cosines(0, 24, 6)
    uneven = []
    for iterations in (1, 3, 10, 100):
        q = np.asarray(losses.sinkhorn(s, epsilon=0.05, iterations=iterations))
        np.testing.assert_allclose(q.sum(1), 1.0, rtol=1e-5)
        uneven.append(np.abs(q.sum(0) - 24 / 6).max())
    assert uneven == sorted(uneven, reverse=True)
    assert uneven[0] > 0.1
    assert uneven[-1] < 1e-3


def test_the_optimum_is_that_of_the_entropic_transport():
    """Q_ik Q_jl / Q_il Q_jk = exp((s_ik + s_jl − s_il − s_jk)/ε) survives scaling."""
    s = cosines(0, 6, 4)
    log_q = np.log(np.asarray(losses.sinkhorn(s, epsilon=0.2), np.float64))

    def mixed(x):
        return x[1:, 1:] + x[:-1, :-1] - x[1:, :-1] - x[:-1, 1:]

    np.testing.assert_allclose(mixed(log_q), mixed(s / 0.2), atol=1e-4)


@pytest.mark.parametrize("epsilon", [1e-3, 1e-2, 100.0])
def test_no_epsilon_overflows(epsilon):
    s = cosines(0, 16, 8)
    s[0], s[:, 1] = 1.0, -1.0
    q = losses.sinkhorn(s, epsilon=epsilon)
    chex.assert_tree_all_finite(q)
    assert_close(q.sum(1), np.ones(16), tolerance=1e-5)


def test_collapsed_scores_are_assigned_evenly():
    q = losses.sinkhorn(jnp.full((8, 4), 0.7))
    assert_close(q, np.full((8, 4), 0.25), tolerance=1e-6)


@pytest.mark.parametrize("devices", [2, 8])
def test_sharded_equals_one_device(devices):
    s = cosines(0, 24, 6)
    mesh = make_mesh(range(devices)[::-1])
    run = jax.jit(losses.sinkhorn)
    with jax.set_mesh(mesh):
        many = run(share(mesh, s))
    assert_close(many, run(s), tolerance=1e-5)


def case(seed=0):
    rng = np.random.default_rng(seed)
    targets = reference.softmax(rng.normal(size=(6, 2, 4)))
    return targets, rng.normal(size=(6, 5, 4))


def test_swapped_equals_the_loop_over_pairs():
    targets, logits = case()
    value, gradients = jax.value_and_grad(losses.swapped_cross_entropy, (0, 1))(
        *(jnp.asarray(x, jnp.float32) for x in (targets, logits))
    )
    assert_close(value, reference.swapped(targets, logits), tolerance=1e-6)
    numeric = central_differences(reference.swapped, targets, logits)
    assert_close(gradients, numeric, tolerance=1e-5)


def test_swapped_by_hand():
    # Two views, two prototypes. Certain and equal: nothing to pay; different: 2 each.
    one, two = [1.0, 0.0], [0.0, 1.0]
    sure = 2.0 * np.array([[one, one]])
    floor = np.log1p(np.exp(-2.0))
    same = losses.swapped_cross_entropy(jnp.array([[one, one]]), jnp.asarray(sure))
    assert_close(same, floor, tolerance=1e-6)
    apart = losses.swapped_cross_entropy(
        jnp.array([[one, two]]), 2.0 * jnp.array([[one, two]])
    )
    assert_close(apart, 2 + floor, tolerance=1e-6)
    # A view's own target is not its business.
    own = losses.swapped_cross_entropy(
        jnp.array([[one]]), jnp.array([[[-50.0, 50.0], [2.0, 0.0]]])
    )
    assert_close(own, floor, tolerance=1e-6)


def test_scores_are_cosines():
    rng = np.random.default_rng(0)
    z, c = rng.normal(size=(3, 2, 5)), rng.normal(size=(4, 5))
    got = losses.prototype_scores(jnp.asarray(z, jnp.float32), jnp.float32(7 * c))
    assert_close(got, reference.scores(z, c), tolerance=1e-6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: losses.sinkhorn(jnp.zeros(3)), r"sinkhorn: .* got \(3,\)"),
        (lambda: losses.sinkhorn(jnp.zeros((3, 2)), epsilon=0), "epsilon must be > 0"),
        (lambda: losses.sinkhorn(jnp.zeros((3, 2)), iterations=0), "at least 1, got 0"),
        (
            lambda: losses.swapped_cross_entropy(
                jnp.zeros((3, 2, 4)), jnp.zeros((3, 1, 4))
            ),
            r"got \(3, 2, 4\), \(3, 1, 4\)",
        ),
        (
            lambda: losses.prototype_scores(jnp.zeros((3, 2)), jnp.zeros((4, 3))),
            r"got \(3, 2\), \(4, 3\)",
        ),
    ],
)
def test_refused(call, message):
    with pytest.raises(UsageError, match=message) as error:
        call()
    assert "\n" not in str(error.value)
