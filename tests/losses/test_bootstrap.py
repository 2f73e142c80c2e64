"""Alignment, uniformity and negative cosine against NumPy float64."""

import functools
import math
import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from reference import assert_close, central_differences
from reference import losses as reference

from rl_jax import losses

pytestmark = pytest.mark.core

VALUE, GRADIENT = 1e-6, 1e-5
FORMS = {
    "alignment": (losses.alignment, reference.alignment, 2),
    "alignment_1": (
        functools.partial(losses.alignment, alpha=1.0),
        functools.partial(reference.alignment, alpha=1.0),
        2,
    ),
    "alignment_3": (
        functools.partial(losses.alignment, alpha=3.0),
        functools.partial(reference.alignment, alpha=3.0),
        2,
    ),
    "uniformity": (losses.uniformity, reference.uniformity, 1),
    "uniformity_5": (
        functools.partial(losses.uniformity, t=5.0),
        functools.partial(reference.uniformity, t=5.0),
        1,
    ),
    "negative_cosine": (losses.negative_cosine, reference.negative_cosine, 2),
}


def evaluate(a, b):
    """Every loss with all its gradients, in one compilation."""
    return {
        name: jax.value_and_grad(loss, tuple(range(inputs)))(*(a, b)[:inputs])
        for name, (loss, _, inputs) in FORMS.items()
    }


compiled = jax.jit(evaluate)
VALUES = {name: jax.jit(loss) for name, (loss, _, _) in FORMS.items()}


def expected(a, b):
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    return {
        name: oracle(*(a, b)[:inputs]) for name, (_, oracle, inputs) in FORMS.items()
    }


def views(seed, size, dim):
    rng = np.random.default_rng(seed)
    a = rng.normal(size=(size, dim))
    b = a + 0.7 * rng.normal(size=(size, dim))
    return a.astype(np.float32), b.astype(np.float32)


def check(actual, target, *, value=VALUE, gradient=GRADIENT):
    chex.assert_tree_all_finite(actual)
    for name in target:
        assert_close(actual[name][0], target[name][0], tolerance=value)
        assert_close(actual[name][1], target[name][1], tolerance=gradient)


def test_reference_gradients_equal_central_differences():
    a, b = views(0, 4, 3)
    for _, oracle, inputs in FORMS.values():
        args = (a, b)[:inputs]
        numeric = central_differences(lambda *xs, f=oracle: f(*xs)[0], *args)
        assert_close(oracle(*args)[1], numeric, tolerance=1e-7)


@pytest.mark.parametrize("size", [2, 97, 513])
def test_equal_reference(size):
    a, b = views(size, size, 8)
    actual = compiled(a, b)
    check(actual, expected(a, b))
    for value, _ in actual.values():
        assert value.shape == ()
        assert value.dtype == jnp.float32


def test_hand_computed():
    e = np.eye(3, dtype=np.float32)
    turned = np.roll(e, 1, axis=0)
    alignment, uniformity = VALUES["alignment"], VALUES["uniformity"]
    cosine = VALUES["negative_cosine"]
    assert alignment(e, 2 * e) == 0.0
    assert_close(alignment(e, -e), 4.0, tolerance=VALUE)
    assert_close(VALUES["alignment_1"](e, -e), 2.0, tolerance=VALUE)
    assert_close(alignment(e, turned), 2.0, tolerance=VALUE)
    assert_close(VALUES["alignment_3"](e, turned), math.sqrt(8.0), tolerance=VALUE)
    # Orthogonal rows are at squared distance 2.
    assert_close(uniformity(e), -4.0, tolerance=VALUE)
    assert_close(VALUES["uniformity_5"](e), -10.0, tolerance=VALUE)
    same = np.ones((3, 3), np.float32)
    assert_close(uniformity(same), 0.0, tolerance=VALUE, floor=1.0)
    assert_close(cosine(e, 3 * e), -1.0, tolerance=VALUE)
    assert_close(cosine(e, -e), 1.0, tolerance=VALUE)
    assert cosine(e, turned) == 0.0


def test_rows_of_zeros_are_alike():
    """All at (1, 0, ..., 0): collapse to zero is collapse, and not the sphere."""
    uniformity = VALUES["uniformity"]
    zeros = np.zeros((6, 4), np.float32)
    assert_close(uniformity(zeros), 0.0, tolerance=VALUE, floor=1.0)
    z = np.random.default_rng(0).normal(size=(8, 4)).astype(np.float32)
    z[[2, 5]] = 0
    stood = z.copy()
    stood[[2, 5], 0] = 3.0
    target, (expected,) = reference.uniformity(stood)
    assert_close(uniformity(z), target, tolerance=VALUE)
    slope = jax.grad(losses.uniformity)(z)
    assert bool(jnp.isfinite(slope).all())
    assert bool((slope[np.array([2, 5])] == 0).all())
    others = np.array([0, 1, 3, 4, 6, 7])
    np.testing.assert_allclose(slope[others], expected[others], rtol=1e-4, atol=1e-6)


def test_uniformity_of_the_circle():
    # Over all pairs of the uniform circle the mean is exp(-2t) I_0(2t); the n equal
    # pairs i = j are taken out of n^2.
    n, t = 64, 2.0
    angle = 2 * np.pi * np.arange(n) / n
    z = np.stack([np.cos(angle), np.sin(angle)], 1).astype(np.float32)
    with_self = math.exp(-2 * t) * np.i0(2 * t)
    target = math.log((n * with_self - 1) / (n - 1))
    assert_close(VALUES["uniformity"](z), target, tolerance=VALUE)


def test_invariances():
    a, b = views(0, 12, 6)
    rng = np.random.default_rng(3)
    lengths = np.exp(rng.normal(size=(2, 12, 1))).astype(np.float32)
    rotation = np.linalg.qr(rng.normal(size=(6, 6)))[0].astype(np.float32)
    order = rng.permutation(12)
    for name, (_, _, inputs) in FORMS.items():
        loss = VALUES[name]
        value = loss(*(a, b)[:inputs])
        for other in (
            (lengths[0] * a, lengths[1] * b),
            (a @ rotation, b @ rotation),
            (a[order], b[order]),
        ):
            assert_close(loss(*other[:inputs]), value, tolerance=2e-6, floor=0.1)
        if inputs == 2:
            assert_close(loss(b, a), value, tolerance=VALUE)
            assert abs(loss(a, b[order]) - value) > 0.1


def test_numerical_gradients():
    a, b = views(0, 3, 4)
    for name, (_, _, inputs) in FORMS.items():
        args = (a, b)[:inputs]
        chex.assert_numerical_grads(
            VALUES[name], args, order=1, modes=("rev",), eps=1e-2
        )


def test_jit_equals_no_jit():
    a, b = views(2, 2, 8)
    jitted = compiled(a, b)
    for name in ("alignment", "uniformity", "negative_cosine"):
        loss, _, inputs = FORMS[name]
        eager = jax.value_and_grad(loss, tuple(range(inputs)))(*(a, b)[:inputs])
        assert_close(eager, jitted[name], tolerance=1e-6)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_degenerate_rows_are_finite(dtype):
    a, b = views(0, 8, 4)
    # Equal positives: |a - b| has no derivative there, and 0 is the one to take.
    b[0], b[1] = a[0], 3 * a[1]
    a[2], a[3], b[3], b[4], a[5] = 0.0, 0.0, 0.0, 0.0, -b[5]
    a, b = jnp.asarray(a, dtype), jnp.asarray(b, dtype)
    actual = compiled(a, b)
    chex.assert_tree_all_finite(actual)
    for _, gradients in actual.values():
        assert all(gradient.dtype == dtype for gradient in gradients)
    same = compiled(a, a)
    chex.assert_tree_all_finite(same)
    for name in ("alignment", "alignment_1", "alignment_3"):
        assert_close(same[name][0], 0.0, tolerance=VALUE, floor=1.0)


def test_bfloat16_inputs_equal_reference_of_the_rounded_rows():
    a, b = (jnp.asarray(x, jnp.bfloat16) for x in views(1, 8, 4))
    check(compiled(a, b), expected(a, b), value=1e-5, gradient=2**-7)


def test_negative_cosine_stops_no_gradient():
    a, b = views(0, 5, 4)
    dp, dz = jax.jit(jax.grad(losses.negative_cosine, (0, 1)))(a, b)
    assert np.all(np.linalg.norm(dp, axis=1) > 1e-3)
    assert np.all(np.linalg.norm(dz, axis=1) > 1e-3)


def test_alignment_of_pairs_is_negative_cosine():
    a, b = views(0, 9, 4)
    target = 2.0 + 2.0 * VALUES["negative_cosine"](a, b)
    assert_close(VALUES["alignment"](a, b), target, tolerance=2e-6)


@pytest.mark.parametrize("devices", [1, 2, 4, 8])
def test_sharded_equals_reference(devices):
    a, b = views(0, 24, 8)
    auto = (AxisType.Auto,)
    mesh = jax.make_mesh(
        (devices,), ("data",), devices=jax.devices()[:devices][::-1], axis_types=auto
    )
    place = functools.partial(jax.device_put, device=NamedSharding(mesh, P("data")))
    with jax.set_mesh(mesh):
        actual = compiled(place(a), place(b))
    check(actual, expected(a, b))


def test_uniformity_gradient_holds_no_matrix():
    size = 4096
    z = jax.ShapeDtypeStruct((size, 64), jnp.float32)
    executable = jax.jit(jax.value_and_grad(losses.uniformity)).lower(z).compile()
    memory, text = executable.memory_analysis(), executable.as_text()
    assert memory is not None
    assert memory.temp_size_in_bytes < size * size * 4 / 4
    shapes = re.findall(r"[a-z]+\d+\[([\d,]+)\]", text or "")
    assert max(math.prod(map(int, s.split(","))) for s in shapes) < size * size / 4


@pytest.mark.parametrize(
    ("a", "b"),
    [((4, 3), (4, 2)), ((4, 3), (5, 3)), ((4,), (4,)), ((4, 3, 1), (4, 3, 1))],
)
def test_shapes_must_match(a, b):
    a, b = np.ones(a, np.float32), np.ones(b, np.float32)
    for name in ("alignment", "negative_cosine"):
        with pytest.raises(ValueError, match=f"{name}: ") as error:
            getattr(losses, name)(a, b)
        assert "\n" not in str(error.value)
    if a.ndim != 2:
        with pytest.raises(ValueError, match="uniformity: "):
            losses.uniformity(a)
