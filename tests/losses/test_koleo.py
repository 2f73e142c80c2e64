"""KoLeo against NumPy, by hand and shared out; which rows it sees, and their slopes."""

import functools
import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import assert_close, central_differences
from reference import koleo as reference
from reference.machine import largest_array, make_mesh, share

from rl_jax import losses
from rl_jax.errors import UsageError

pytestmark = pytest.mark.core


def rows(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


both = jax.value_and_grad(losses.koleo)
compiled = jax.jit(both)


@pytest.mark.parametrize("shape", [(2, 3), (12, 4), (40, 2)])
@pytest.mark.parametrize("epsilon", [1e-8, 0.1])
def test_equals_the_reference(shape, epsilon):
    z = rows(0, *shape)
    exact = functools.partial(reference.koleo, epsilon=epsilon)
    run = jax.jit(jax.value_and_grad(functools.partial(losses.koleo, epsilon=epsilon)))
    value, gradient = run(z)
    assert value.dtype == gradient.dtype == jnp.float32
    assert_close(value, exact(z), tolerance=1e-5, floor=1.0)
    # Neighbours on a circle are close, and the slope is one over their distance.
    expected = central_differences(exact, z, step=1e-7)
    assert_close(gradient, *expected, tolerance=2e-4)


def test_by_hand():
    """A right angle is √2 apart; a third row between is 2 sin 22.5° from both."""
    e = np.eye(2, dtype=np.float32)
    assert_close(losses.koleo(3 * e), -math.log(math.sqrt(2)), tolerance=1e-6)
    near = 2 * math.sin(math.pi / 8)
    assert_close(
        losses.koleo(np.stack([*e, e.sum(0)])), -math.log(near), tolerance=1e-6
    )
    assert_close(losses.koleo(np.stack([e[0], -e[0]])), -math.log(2), tolerance=1e-6)


def test_a_chain_of_neighbours():
    """At 0°, 10°, 30°: the first two are each other's, the third's is the second."""
    angle = np.deg2rad([0.0, 10.0, 30.0])

    def exact(angle):
        chord = 2 * np.sin(np.abs(np.diff(angle)) / 2)
        return -(2 * np.log(chord[0]) + np.log(chord[1])) / 3

    def ours(angle):
        return losses.koleo(jnp.stack([jnp.cos(angle), jnp.sin(angle)], axis=1))

    value, slope = jax.value_and_grad(ours)(jnp.asarray(angle, jnp.float32))
    assert_close(value, exact(angle), tolerance=1e-5)
    # The second row has a slope from its own neighbour and from being one.
    assert_close(slope, *central_differences(exact, angle), tolerance=1e-4)


def test_numerical_gradients():
    chex.assert_numerical_grads(losses.koleo, (jnp.asarray(rows(2, 5, 3)),), order=1)


def test_invariances():
    z = rows(0, 12, 4)
    start = compiled(z)[0]
    rng = np.random.default_rng(1)
    turn = np.linalg.qr(rng.normal(size=(4, 4)))[0].astype(np.float32)
    scale = rng.uniform(0.5, 2.0, (12, 1)).astype(np.float32)
    for same in (z[rng.permutation(12)], z @ turn, scale * z):
        assert_close(compiled(same)[0], start, tolerance=1e-5)
    # It is no distance to the mean: pairs far from each other may be close.
    close = np.concatenate([z, z + 1e-3 * rng.normal(size=z.shape)]).astype(np.float32)
    assert compiled(close)[0] > start + 3


def test_a_step_down_spreads_the_rows():
    z = jnp.asarray(rows(3, 32, 2)) + 2.0
    start = compiled(z)[0]
    for _ in range(200):
        z = z - 0.05 * compiled(z)[1]
    assert compiled(z)[0] < start - 1


def test_rows_that_are_there_twice_are_finite():
    z = np.repeat(rows(0, 3, 4), 2, axis=0)
    value, gradient = compiled(z)
    assert_close(value, -math.log(1e-8), tolerance=1e-6)
    assert not gradient.any()
    zero = compiled(np.zeros((4, 3), np.float32))
    chex.assert_tree_all_finite(zero)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
@pytest.mark.parametrize("scale", [0.1, 1.0, 1e2])
def test_other_types_are_computed_in_float32(dtype, scale):
    z = jnp.asarray(scale * rows(0, 8, 3), dtype)
    value, gradient = compiled(z)
    chex.assert_tree_all_finite((value, gradient))
    assert value.dtype == jnp.float32
    assert gradient.dtype == dtype
    same = np.asarray(z.astype(jnp.float32), np.float64)
    assert_close(value, reference.koleo(same), tolerance=1e-5, floor=1.0)


def test_what_is_no_number_is_none():
    z = rows(0, 8, 3)
    z[2, 1] = np.nan
    assert np.isnan(compiled(z)[0])


def test_jit_equals_no_jit():
    z = rows(2, 6, 3)
    assert_close(both(z), compiled(z), tolerance=1e-5)


@pytest.mark.parametrize("count", [24, 21])
@pytest.mark.parametrize("devices", [1, 2, 4, 8])
def test_sharded_equals_one_device(devices, count):
    """Neighbours are those of the whole batch, also where it does not divide."""
    z = rows(0, count, 5)
    mesh = make_mesh(range(devices)[::-1])
    with jax.set_mesh(mesh):
        shared = share(mesh, z) if count % devices == 0 else z
        actual = compiled(shared)
    assert_close(actual, compiled(z), tolerance=1e-5)


def test_the_matrix_is_never_held():
    z = jax.ShapeDtypeStruct((8192, 4), jnp.float32)
    assert largest_array(compiled.lower(z).compile()) <= 8192 * 8192 // 8


@pytest.mark.parametrize(
    ("shape", "options", "said"),
    [
        ((4,), {}, r"expected \[N, D\] with N >= 2, got \(4,\)"),
        ((1, 3), {}, r"expected \[N, D\] with N >= 2, got \(1, 3\)"),
        ((4, 2, 3), {}, r"expected .*, got \(4, 2, 3\)"),
        ((4, 0), {}, r"expected .*, got \(4, 0\)"),
        ((4, 3), {"epsilon": 0.0}, "epsilon must be > 0 and finite, got 0.0"),
        ((4, 3), {"epsilon": np.nan}, "epsilon must be > 0 and finite, got nan"),
    ],
)
def test_refused_in_one_line(shape, options, said):
    z = jax.ShapeDtypeStruct(shape, jnp.float32)
    with pytest.raises(UsageError, match=f"koleo: {said}") as error:
        jax.eval_shape(functools.partial(losses.koleo, **options), z)
    assert "\n" not in str(error.value)


def test_embeddings_must_be_floating():
    with pytest.raises(UsageError, match="koleo: embeddings must be .* got int32"):
        losses.koleo(jnp.zeros((4, 3), jnp.int32))


def test_rows_of_an_explicit_mesh_are_refused_in_one_line():
    mesh = jax.make_mesh((4,), ("data",), devices=jax.devices()[:4])
    with jax.set_mesh(mesh):
        shared = share(mesh, rows(0, 16, 4))
        with pytest.raises(UsageError, match="rows are shared out over an axis of"):
            losses.koleo(shared)
