"""Where float32 ends: far logits, near-collapsed batches, cotangents of any size."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import assert_close
from reference.machine import make_mesh, share

from rl_jax import pairwise
from rl_jax.errors import UsageError

pytestmark = pytest.mark.core


def normals(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def gradients(x, y, cotangent, *, scale, **options):
    value, vjp = jax.vjp(
        lambda x, y: pairwise.logsumexp(x, y, scale=scale, **options), x, y
    )
    return value, vjp(jax.tree.map(lambda v: cotangent * jnp.ones_like(v), value))


def far(seed, rows):
    """Rows whose inner products times 300 are all far below -100."""
    x = np.abs(normals(seed, rows, 8)) + 0.3
    return x * np.where(np.arange(8) < 4, 1, -1).astype(np.float32)


@pytest.mark.parametrize("path", ["ring", "xla"])
def test_far_logits_and_a_column_without_rows_on_its_device(path):
    """One row a device, which leaves out its own column: sums of nothing are joined."""
    x, y, only = far(0, 4), -far(1, 4), np.arange(4, dtype=np.int32)

    def run(x, y, only):
        options = {"scale": 300.0, "implementation": path, "axis": "both"}
        return gradients(x, y, 1.0, exclude=only, **options)

    mesh = make_mesh(range(4))
    with jax.set_mesh(mesh):
        found = jax.jit(run)(*share(mesh, (x, y, only)))
    target = run(x, y, only)
    assert np.max(target[0][1]) < -100
    assert_close(found, target, tolerance=1e-5)


def test_two_far_rows_on_two_devices():
    x = np.float32([[1.0, 0.0], [-1.0, 0.01]])
    mesh = make_mesh([0, 1])
    with jax.set_mesh(mesh):
        run = functools.partial(pairwise.logsumexp, scale=300.0, implementation="ring")
        found = jax.jit(run)(share(mesh, x))
    assert_close(found, np.full(2, -300.0), tolerance=1e-6)


@pytest.mark.parametrize("cotangent", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("spread", [1e-3, 1.0])
def test_cotangents_of_any_size(cotangent, spread):
    """τ = 0.02 with a shift far from the logits: weights stay normal numbers."""
    x = 1 + spread * normals(0, 300, 8)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    run = jax.jit(
        functools.partial(gradients, scale=50.0, axis="both", max_norm=1.0),
        static_argnames="implementation",
    )
    found = run(x, x[:200], cotangent)
    target = run(x, x[:200], cotangent, implementation="dense")
    assert_close(found, target, tolerance=2e-5)
    assert np.any(np.asarray(found[1][0]) != 0)


@pytest.mark.parametrize("scale", [79.0, 76.9, 77.1, 120.0])
def test_both_sides_of_the_limit_of_the_shift(scale):
    x = normals(0, 40, 8)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    run = jax.jit(gradients, static_argnames="implementation")
    for y in (x[:30], -x[:30]):
        found = run(x, y, 1.0, scale=jnp.float32(scale))
        target = run(x, y, 1.0, scale=jnp.float32(scale), implementation="dense")
        assert_close(found, target, tolerance=2e-5)


def test_forward_mode_says_what_it_cannot():
    x = normals(0, 6, 3)
    with pytest.raises(TypeError, match="custom_vjp"):
        jax.jvp(lambda x: pairwise.logsumexp(x, scale=1.0), (x,), (x,))
    dense = functools.partial(pairwise.logsumexp, scale=1.0, implementation="dense")
    assert np.all(np.isfinite(jax.jvp(dense, (x,), (x,))[1]))


def test_a_second_mesh_axis_changes_nothing():
    x, auto = normals(0, 16, 8), jax.sharding.AxisType.Auto
    mesh = jax.make_mesh((4, 2), ("data", "model"), axis_types=(auto, auto))
    run = jax.jit(functools.partial(gradients, cotangent=1.0, scale=0.7, axis="both"))
    with jax.set_mesh(mesh):
        found = run(*share(mesh, (x, x[::-1].copy())))
    assert_close(found, run(x, x[::-1].copy()), tolerance=1e-6)


@pytest.mark.parametrize("path", ["xla", "ring"])
@pytest.mark.parametrize("precision", ["bf16", "bf16x3"])
def test_precision_on_devices(path, precision):
    x, mesh = normals(0, 24, 8), make_mesh(range(4))
    run = jax.jit(
        lambda x, implementation: gradients(
            x, x, 1.0, scale=0.7, axis="both", precision=precision, block_size=4,
            implementation=implementation,
        ),
        static_argnames="implementation",
    )  # fmt: skip
    with jax.set_mesh(mesh):
        found = run(share(mesh, x), path)
    assert_close(found, run(x, "xla"), tolerance=1e-5)


def test_rows_of_an_explicit_mesh_are_refused_in_one_line():
    """The kind that `jax.make_mesh` makes; whole arrays inside it are one device's."""
    x = normals(0, 16, 8)
    mesh = jax.make_mesh((4,), ("data",), devices=jax.devices()[:4])
    run = functools.partial(pairwise.logsumexp, scale=0.7)
    with jax.set_mesh(mesh):
        assert_close(run(x), run(x, implementation="dense"), tolerance=1e-6)
        shared = share(mesh, x)
        for f in (run, jax.jit(run)):
            with pytest.raises(UsageError, match="rows are shared out over an axis of"):
                f(shared)
