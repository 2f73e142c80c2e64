"""Derivatives where one reduction is used in several ways, and of second order."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec
from reference import assert_close
from reference.machine import make_mesh

from rl_jax import losses, pairwise
from rl_jax.pairwise import reduce

pytestmark = pytest.mark.core

RNG = np.random.default_rng(0)
A, B, C = RNG.normal(size=(3, 12, 6)).astype(np.float32)
FIXED = jax.lax.stop_gradient


def logsumexp(x, y, implementation):
    return pairwise.logsumexp(x, y, scale=1.0, implementation=implementation).sum()


def info_nce(x, y, implementation):
    return losses.info_nce(x, y, temperature=0.2, implementation=implementation)


def clip(x, y, implementation):
    return losses.clip(x, y, logit_scale=5.0, implementation=implementation)


def sigmoid(x, y, implementation):
    return losses.sigmoid(
        x, y, logit_scale=5.0, bias=-2.0, implementation=implementation
    )


LOSSES = [logsumexp, info_nce, clip, sigmoid]


@pytest.mark.parametrize("loss", LOSSES, ids=lambda f: f.__name__)
@pytest.mark.parametrize("jitted", [False, True])
def test_with_and_without_a_gradient_of_y_in_one_program(loss, jitted):
    def both(implementation):
        def f(x, y):
            one = loss(x, y, implementation) + loss(x, FIXED(y), implementation)
            return one + loss(y, FIXED(x), implementation)

        gradient = jax.grad(f, (0, 1))
        return (jax.jit(gradient) if jitted else gradient)(A, B)

    assert_close(both("xla"), both("dense"), tolerance=1e-4)


@pytest.mark.parametrize("loss", LOSSES, ids=lambda f: f.__name__)
def test_a_gradient_does_not_depend_on_one_before(loss):
    def gradients(implementation):
        f = functools.partial(loss, implementation=implementation)
        jax.grad(f)(A, B)
        after = jax.grad(jax.checkpoint(f), (0, 1))(A, B)
        _, first = jax.vjp(f, A, B)
        _, second = jax.vjp(lambda x: f(x, B), A)
        return after, first(jnp.float32(1)), second(jnp.float32(1))

    assert_close(gradients("xla"), gradients("dense"), tolerance=1e-4)


def nt_xent(x, y, t):
    return losses.nt_xent(x, y, temperature=t)


@pytest.mark.parametrize(
    "loss",
    [
        nt_xent,
        lambda x, y, t: losses.clip(x, y, logit_scale=1 / t),
        lambda x, y, t: losses.sigmoid(x, y, logit_scale=1 / t, bias=-t),
        lambda x, y, t: losses.uniformity(x) + t * losses.uniformity(y),
        lambda x, y, t: pairwise.logsumexp(x, y, scale=1 / t, block_size=2).sum(),
    ],
    ids=["nt_xent", "clip", "sigmoid", "uniformity", "logsumexp"],
)
def test_in_a_shard_map_that_checks_what_varies(loss):
    mesh = make_mesh(range(2))

    def local(x, y, t):
        return jax.lax.pmean(loss(x, y, t), "data")

    def shared(x, y, t):
        rows = PartitionSpec("data")
        specs = (rows, rows, PartitionSpec())
        run = jax.shard_map(local, mesh=mesh, in_specs=specs, out_specs=PartitionSpec())
        return run(x, y, t)

    def apart(x, y, t):
        halves = [loss(x[h], y[h], t) for h in (slice(6), slice(6, 12))]
        return sum(halves) / 2

    t = jnp.float32(0.3)
    found = jax.jit(jax.value_and_grad(shared, (0, 1, 2)))(A, B, t)
    expected = jax.value_and_grad(apart, (0, 1, 2))(A, B, t)
    assert_close(found, expected, tolerance=1e-4)


def test_top_k_and_moments_in_a_shard_map_that_checks_what_varies():
    mesh, rows = make_mesh(range(2)), PartitionSpec("data")

    def local(x, y):
        scores, index = pairwise.top_k(x, y, k=3, block_size=2)
        found = pairwise.moments(x, y, block_size=2)
        return scores, index, jax.tree.map(lambda v: v[None], found)

    run = jax.jit(
        jax.shard_map(local, mesh=mesh, in_specs=(rows, rows), out_specs=rows)
    )
    scores, index, found = run(A, B)
    for half in (0, 1):
        part = slice(6 * half, 6 * half + 6)
        expected = local(A[part], B[part])
        assert_close(scores[part], expected[0], tolerance=1e-6)
        np.testing.assert_array_equal(index[part], expected[1])
        here = jax.tree.map(lambda v, half=half: v[half], found)
        there = jax.tree.map(lambda v: v[0], expected[2])
        assert_close(here, there, tolerance=1e-5)


@pytest.mark.parametrize("scale", [5.0, 200.0])
def test_second_derivatives_on_a_mesh(scale):
    def product(x, implementation):
        f = functools.partial(
            losses.clip, logit_scale=scale, implementation=implementation
        )
        return jax.grad(lambda v: jnp.vdot(jax.grad(f)(v, B[:8]), C[:8]))(x)

    expected = product(A[:8], "dense")
    with jax.set_mesh(make_mesh(range(2))):
        found = jax.jit(functools.partial(product, implementation="xla"))(A[:8])
    assert_close(found, expected, tolerance=1e-3)


def test_second_derivatives_at_rows_of_zeros():
    def hessian(implementation):
        f = functools.partial(logsumexp, implementation=implementation)
        return jax.hessian(f)(jnp.zeros((4, 6)), B[:4])

    assert_close(hessian("xla"), hessian("dense"), tolerance=1e-4)


@pytest.mark.parametrize("loss", [losses.nt_xent, losses.info_nce])
def test_a_temperature_that_is_an_array_under_jit(loss):
    t = jnp.float32(0.2)
    found = jax.jit(lambda x: loss(x, B, temperature=t))(A)
    assert_close(found, loss(A, B, temperature=0.2), tolerance=1e-5)


def test_another_temperature_compiles_nothing():
    losses.nt_xent(A, B, temperature=0.2)
    before = reduce._compiled._cache_size()
    for t in (0.21, 0.25, 0.3):
        losses.nt_xent(A, B, temperature=t)
    assert reduce._compiled._cache_size() == before
