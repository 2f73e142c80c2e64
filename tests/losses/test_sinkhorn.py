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


@pytest.mark.parametrize("held", [0.0, 1e4, np.nan])
def test_rows_without_weight_change_no_other(held):
    """As if they were not there."""
    s = cosines(1, 12, 5)
    weight = np.arange(12) % 3 != 1
    s[~weight] = held
    run = jax.jit(functools.partial(losses.sinkhorn, epsilon=0.05))
    got = np.asarray(run(s, weight))
    expected = reference.sinkhorn(s[weight], epsilon=0.05, iterations=3)
    assert_close(got[weight], expected, tolerance=1e-5)
    if np.isfinite(held):
        assert_close(got.sum(1), np.ones(12), tolerance=1e-5)
        none = run(s, np.zeros(12, bool))
        assert_close(none, reference.softmax(s / np.float64(0.05)), tolerance=1e-5)


def test_a_weight_of_two_is_a_row_twice():
    s = cosines(2, 6, 4)
    twice = losses.sinkhorn(np.concatenate([s, s[:2]]))
    got = losses.sinkhorn(s, np.float32([2, 2, 1, 1, 1, 1]))
    assert_close(got, twice[:6], tolerance=1e-5)


def test_epsilon_may_be_traced():
    s = cosines(3, 6, 4)
    got = jax.jit(lambda e: losses.sinkhorn(s, epsilon=e))(0.07)
    assert_close(got, losses.sinkhorn(s, epsilon=0.07), tolerance=1e-5)


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


def hidden(seed=0):
    """Targets, logits, and weights of which one image has none."""
    rng = np.random.default_rng(seed)
    targets = reference.softmax(rng.normal(size=(5, 7, 4)))
    weight = rng.uniform(size=(5, 7)) < 0.5
    weight[2], weight[3] = False, True
    return targets, rng.normal(size=(5, 7, 4)), weight


def test_patches_equal_the_loop_over_images():
    targets, logits, weight = hidden()
    run = jax.jit(jax.value_and_grad(losses.patch_cross_entropy, (0, 1)))
    arrays = [jnp.asarray(x, jnp.float32) for x in (targets, logits)]
    value, gradients = run(*arrays, weight)
    assert value.dtype == jnp.float32
    assert_close(value, reference.patches(targets, logits, weight), tolerance=1e-6)
    numeric = central_differences(
        lambda *x: reference.patches(*x, weight), targets, logits
    )
    assert_close(gradients, numeric, tolerance=1e-5)
    # What does not count may hold anything.
    poisoned = [jnp.where(weight[..., None], x, jnp.nan) for x in arrays]
    again, slopes = run(*poisoned, weight)
    assert_close(again, value, tolerance=1e-6)
    assert_close(slopes, gradients, tolerance=1e-6)


def test_patches_by_hand():
    """An image of one hidden patch counts as much as one of two, one of none as 0."""
    one = jnp.array([1.0, 0.0])
    targets = jnp.broadcast_to(one, (3, 2, 2))
    logits = jnp.zeros((3, 2, 2)).at[1, 1].set(jnp.array([0.0, 50.0]))
    weight = jnp.array([[1, 1], [0, 1], [0, 0]])
    value = losses.patch_cross_entropy(targets, logits, weight)
    assert_close(value, (np.log(2) + 50 + 0) / 3, tolerance=1e-6)


@pytest.mark.parametrize("devices", [2, 8])
def test_sharded_patches_equal_one_device(devices):
    rng = np.random.default_rng(0)
    targets = reference.softmax(rng.normal(size=(8, 3, 4))).astype(np.float32)
    given = (
        targets,
        np.float32(rng.normal(size=(8, 3, 4))),
        rng.uniform(size=(8, 3)) < 0.5,
    )
    mesh = make_mesh(range(devices))
    run = jax.jit(losses.patch_cross_entropy)
    with jax.set_mesh(mesh):
        many = run(*share(mesh, given))
    assert_close(many, run(*given), tolerance=1e-6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: losses.sinkhorn(jnp.zeros(3)), r"sinkhorn: .* got \(3,\)"),
        (lambda: losses.sinkhorn(jnp.zeros((3, 2)), epsilon=0), "epsilon must be > 0"),
        (lambda: losses.sinkhorn(jnp.zeros((3, 2)), iterations=0), "at least 1, got 0"),
        (
            lambda: losses.sinkhorn(jnp.zeros((3, 2)), jnp.ones(2)),
            r"a weight for each row, \(3,\), got \(2,\)",
        ),
        (
            lambda: losses.patch_cross_entropy(
                jnp.zeros((3, 2, 4)), jnp.zeros((3, 2, 4)), jnp.ones(3)
            ),
            r"patch_cross_entropy: .* got \(3, 2, 4\), \(3, 2, 4\), \(3,\)",
        ),
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
