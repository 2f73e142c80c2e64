"""SIGReg against the paper's listing, the integral in full, by hand and shared out."""

import functools
import importlib

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import assert_close, central_differences
from reference import sigreg as reference
from reference.machine import make_mesh, share, temporary_bytes

from rl_jax import losses
from rl_jax.errors import UsageError

pytestmark = pytest.mark.core

# The function has its name in the package.
module = importlib.import_module("rl_jax.losses.sigreg")

RNG = jax.random.key(7)
FORMS = {
    "the authors' code": {"knots": 17, "t_max": 3.0},
    "the paper's listing": {"knots": 9, "t_max": 5.0},
    "coarse": {"knots": 2, "t_max": 1.0},
}


def rows(seed, *shape):
    """Neither centred nor of one scale."""
    rng = np.random.default_rng(seed)
    spread = np.linspace(0.3, 2.0, shape[-1])
    return (rng.normal(size=shape) * spread + 0.2).astype(np.float32)


def directions(slices, dim, rng=RNG):
    """What is drawn: normal vectors, of unit length."""
    drawn = np.asarray(jax.random.normal(rng, (slices, dim)), np.float64)
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


def both(z, rng=RNG, *, slices=7, **options):
    loss = functools.partial(losses.sigreg, rng, slices=slices, **options)
    return jax.value_and_grad(loss)(z)


compiled = jax.jit(both, static_argnames=("slices", "knots", "t_max"))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("shape", [(12, 3), (5, 2, 4), (1, 3)])
def test_equals_the_reference(form, shape):
    z, options = rows(0, *shape), FORMS[form]
    a = directions(7, shape[-1])

    def exact(z):
        return reference.sigreg(z.reshape(len(z), -1, shape[-1]), a, **options)

    value, gradient = compiled(z, **options)
    assert value.dtype == gradient.dtype == jnp.float32
    assert_close(value, exact(z), tolerance=5e-6)
    assert_close(gradient, *central_differences(exact, z), tolerance=2e-5)


def test_by_hand():
    """In one dimension directions are ±1, of which the statistic does not know."""
    loss = functools.partial(losses.sigreg, RNG, slices=3, knots=2, t_max=1.0)
    g = np.exp(-0.5)
    # At t = 1 alone, on both sides of 0 with half the weight: B·g·|φ − g|².
    assert_close(loss(np.zeros((2, 1))), 2 * g * (1 - g) ** 2, tolerance=1e-6)
    pi = np.array([[np.pi], [-np.pi]], np.float32)
    assert_close(loss(pi), 2 * g * (-1 - g) ** 2, tolerance=1e-6)
    # cos = 0 and sin = 1 for both: the imaginary part is all there is.
    half = np.full((2, 1), np.pi / 2, np.float32)
    assert_close(loss(half), 2 * g * (g**2 + 1), tolerance=1e-6)


@pytest.mark.parametrize("spread", [0.0, 1.0, 2.5])
def test_is_the_integral_over_the_whole_axis(spread):
    """The sums of Gaussian kernels that it has as a closed form."""
    s = np.random.default_rng(1).normal(size=(30, 1)) * spread + 0.3
    exact = reference.closed_form(s[:, 0])
    fine = reference.epps_pulley(s[:, 0], knots=65, t_max=8.0)
    assert abs(fine - exact) < 1e-11 * exact
    s = jnp.asarray(s, jnp.float32)
    found = losses.sigreg(RNG, s, slices=2, knots=33, t_max=8.0)
    assert_close(found, exact, tolerance=2e-5)
    told = losses.sigreg(RNG, s, slices=2, knots=17, t_max=5.0)
    assert_close(told, exact, tolerance=2e-5)


def test_numerical_gradients():
    loss = functools.partial(losses.sigreg, RNG, slices=3, knots=5)
    chex.assert_numerical_grads(loss, (jnp.asarray(rows(2, 6, 2)),), order=1)


def test_invariances():
    z = rows(0, 12, 2, 4)
    start = compiled(z)[0]
    order = np.random.default_rng(1).permutation(12)
    for same in (z[order], z[:, ::-1], -z):
        assert_close(compiled(same)[0], start, tolerance=2e-6)
    # Rows twice have the same characteristic function, and count twice.
    twice = np.concatenate([z, z])
    assert_close(compiled(twice)[0], 2 * start, tolerance=2e-6)
    # Views are tested one by one, in the same directions.
    alone = [compiled(z[:, v])[0] for v in range(2)]
    assert_close(start, np.mean(alone), tolerance=2e-6)
    for other in (compiled(2 * z)[0], compiled(z + 1)[0]):
        assert abs(other - start) > 1e-2 * start
    assert compiled(z, jax.random.key(8))[0] != start


def test_is_about_one_for_gaussian_rows_and_grows_for_others():
    rng = np.random.default_rng(0)

    def mean(draw):
        return np.mean([compiled(draw().astype(np.float32))[0] for _ in range(20)])

    for count in (64, 256):
        size = (count, 5)
        assert mean(lambda s=size: rng.normal(size=s)) == pytest.approx(1.05, abs=0.15)
        for other in (
            lambda s=size: 2 * rng.normal(size=s),
            lambda s=size: rng.normal(size=s) + 1,
            # Of the right mean and covariance, but a point on a line.
            lambda s=size: rng.choice([-1.0, 1.0], (s[0], 1)) * np.ones(s),
        ):
            assert mean(other) > 0.04 * count


def test_directions_are_even_on_the_sphere():
    """Their second moment is I/D: of z = e·x no axis stands out."""
    a = directions(4000, 3)
    np.testing.assert_allclose(a.T @ a / len(a), np.eye(3) / 3, atol=0.02)
    axes = [np.eye(3, dtype=np.float32)[:, [i]] for i in range(3)]
    x = rows(3, 20, 1)
    values = [compiled(x @ e.T, slices=500)[0] for e in axes]
    assert np.ptp(values) < 0.1 * np.mean(values)


def test_jit_equals_no_jit():
    z = rows(2, 6, 3)
    assert_close(both(z), compiled(z), tolerance=1e-5)


@pytest.mark.parametrize("devices", [1, 2, 4, 8])
def test_sharded_equals_one_device(devices):
    z = rows(0, 24, 2, 5)
    mesh = make_mesh(range(devices)[::-1])
    with jax.set_mesh(mesh):
        actual = compiled(share(mesh, z))
    assert_close(actual, compiled(z), tolerance=1e-5)


@pytest.mark.parametrize("devices", [1, 4])
def test_in_blocks_it_is_the_same(monkeypatch, devices):
    """Also where blocks do not divide the directions."""
    z = rows(0, 24, 2, 5)
    expected = compiled(z, slices=23)
    monkeypatch.setattr(module, "TILE", 24 * 2 * 17 * 5 // devices)
    mesh = make_mesh(range(devices))
    with jax.set_mesh(mesh):
        assert module._blocks(jnp.asarray(z), 23, 17) == (5, 5)
        actual = jax.jit(functools.partial(both, slices=23))(share(mesh, z))
    assert_close(actual, expected, tolerance=1e-5)


def test_memory_does_not_grow_with_the_directions(monkeypatch):
    monkeypatch.setattr(module, "TILE", 2**15)
    z = jax.ShapeDtypeStruct((256, 8), jnp.float32)
    sizes = [
        temporary_bytes(jax.jit(functools.partial(both, slices=m)).lower(z).compile())
        for m in (64, 512)
    ]
    # Directions and what is found in them; 256·512·17 cosines would be 9 MB.
    assert sizes[1] - sizes[0] < 512 * (8 + 2) * 4 * 3
    assert sizes[1] < 8 * 4 * 2**15


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("scale", [0.0, 1.0, 1e4])
def test_extremes_are_finite(dtype, scale):
    z = jnp.asarray(scale * rows(0, 8, 3), dtype)
    value, gradient = compiled(z)
    chex.assert_tree_all_finite((value, gradient))
    assert value.dtype == jnp.float32
    assert gradient.dtype == dtype


@pytest.mark.parametrize(
    ("shape", "options", "said"),
    [
        ((4,), {}, r"expected z \[B, D\] or \[B, V, D\], got \(4,\)"),
        ((0, 3), {}, r"expected .*, got \(0, 3\)"),
        ((4, 3), {"slices": 0}, "slices must be at least 1, got 0"),
        ((4, 3), {"slices": 2.5}, "slices must be an integer, got 2.5"),
        ((4, 3), {"knots": 1}, "knots must be at least 2, got 1"),
        ((4, 3), {"t_max": 0.0}, "t_max must be > 0 and finite, got 0.0"),
        ((4, 3), {"t_max": np.inf}, "t_max must be > 0 and finite, got inf"),
    ],
)
def test_refused_in_one_line(shape, options, said):
    z = jax.ShapeDtypeStruct(shape, jnp.float32)
    with pytest.raises(UsageError, match=f"sigreg: {said}") as error:
        jax.eval_shape(functools.partial(losses.sigreg, RNG, **options), z)
    assert "\n" not in str(error.value)


def test_embeddings_must_be_floating():
    with pytest.raises(UsageError, match="sigreg: embeddings must be .* got int32"):
        losses.sigreg(RNG, jnp.zeros((4, 3), jnp.int32))


def test_rows_of_an_explicit_mesh_are_refused_in_one_line():
    mesh = jax.make_mesh((4,), ("data",), devices=jax.devices()[:4])
    with jax.set_mesh(mesh):
        shared = share(mesh, rows(0, 16, 4))
        with pytest.raises(UsageError, match="rows are shared out over an axis of"):
            losses.sigreg(RNG, shared)
