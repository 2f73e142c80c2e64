"""Barlow Twins and VICReg against NumPy float64, by hand, and shared out."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import assert_close, central_differences
from reference import redundancy as reference
from reference.machine import make_mesh, share

from rl_jax import losses
from rl_jax.errors import UsageError

pytestmark = pytest.mark.core

VALUE, GRADIENT = 2e-6, 2e-5
FORMS = {
    "barlow_twins": {},
    "barlow_twins pseudo-code": {"unbiased": True},
    "barlow_twins weighted": {"off_diagonal": 0.5, "scale": 0.1},
    "vicreg": {},
    "vicreg weighted": {"invariance": 2.0, "variance": 3.0, "covariance": 5.0},
    "vicreg summed": {"halve": False},
}


def form(name, module=losses):
    return functools.partial(getattr(module, name.split()[0]), **FORMS[name])


def evaluate(a, b):
    """Every form with its gradients, in one compilation."""
    return {n: jax.value_and_grad(form(n), (0, 1))(a, b) for n in FORMS}


compiled = jax.jit(evaluate)


def expected(a, b):
    """Values and gradients in float64, the latter by central differences."""
    out = {}
    for name in FORMS:
        function = form(name, reference)
        out[name] = (function(a, b), central_differences(function, a, b, step=1e-5))
    return out


def views(seed, size, dim, spread=1.0):
    """Two views; dimensions on both sides of the hinge at a deviation of 1."""
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(dim, dim)) * np.linspace(0.9, 0.1, dim)
    a = spread * rng.normal(size=(size, dim)) @ mixing + rng.normal(size=dim)
    b = a + 0.3 * rng.normal(size=(size, dim))
    return a.astype(np.float32), b.astype(np.float32)


def check(actual, target, *, value=VALUE, gradient=GRADIENT):
    chex.assert_tree_all_finite(actual)
    for name in FORMS:
        assert_close({name: actual[name][0]}, {name: target[name][0]}, tolerance=value)
        assert_close({name: actual[name][1]}, {name: target[name][1]},
                     tolerance=gradient)  # fmt: skip


@pytest.mark.parametrize(("size", "dim"), [(2, 3), (16, 4), (5, 8), (7, 1)])
def test_equal_reference(size, dim):
    a, b = views(size, size, dim)
    actual = compiled(a, b)
    # Two rows a side make correlations of ±1, whose gradients cancel.
    check(actual, expected(a, b), gradient=GRADIENT if size > 2 else 1e-2)
    for value, _ in actual.values():
        assert value.shape == ()
        assert value.dtype == jnp.float32


def test_barlow_twins_by_hand():
    # Orthogonal columns of variance 1: c is the identity, or a rotation of it.
    x = np.array([[1, 1], [1, -1], [-1, 1], [-1, -1]], np.float32)
    loss = functools.partial(losses.barlow_twins, off_diagonal=0.25)
    assert_close(loss(x, x), 0.0, tolerance=1e-6, floor=1.0)
    # Columns swapped: c_ii = 0 costs 1 each, c_ij = 1 costs a quarter each.
    assert_close(loss(x, x[:, ::-1]), 2 * 1 + 2 * 0.25, tolerance=1e-4)
    # Columns negated: c_ii = -1 costs 4 each.
    assert_close(loss(x, -x), 8.0, tolerance=1e-4)
    # One column twice: the diagonal is right, the redundancy costs a quarter twice.
    twice = x[:, [0, 0]]
    assert_close(loss(twice, twice), 0.5, tolerance=1e-4)
    # Variances of n - 1 = 3 instead of 4: c_ii = 3/4.
    assert_close(loss(x, x, unbiased=True), 2 * 0.25**2, tolerance=1e-3)


def test_vicreg_by_hand():
    x = np.array([[1, 1], [1, -1], [-1, 1], [-1, -1]], np.float32)
    # Variances 4/3, no covariance, equal views.
    assert_close(losses.vicreg(x, x), 0.0, tolerance=1e-6, floor=1.0)
    # A shift by 2 of one view: only the views differ, by 4 in each entry.
    assert_close(losses.vicreg(x, x + 2), 25 * 4.0, tolerance=1e-6)
    # One column twice: covariance 4/3 off the diagonal twice, /D, for each view.
    twice = x[:, [0, 0]]
    covariance = 2 * (2 * (4 / 3) ** 2 / 2)
    assert_close(losses.vicreg(twice, twice), covariance, tolerance=1e-5)
    # Collapsed: both hinges are 1 - sqrt(eps), halved and added.
    none = np.ones((4, 2), np.float32)
    assert_close(losses.vicreg(none, none), 25 * 0.99, tolerance=1e-5)
    assert_close(losses.vicreg(none, none, halve=False), 50 * 0.99, tolerance=1e-5)


def test_invariances():
    a, b = views(0, 12, 4)
    order = np.random.default_rng(1).permutation(12)
    dims = np.random.default_rng(2).permutation(4)
    start = jax.tree.map(float, {n: v for n, (v, _) in compiled(a, b).items()})

    def values(a, b):
        return {n: v for n, (v, _) in compiled(a, b).items()}

    for other in (
        (a[order], b[order]),
        (a[:, dims], b[:, dims]),
        (a + 3, b + 3),
        (b, a),
    ):
        assert_close(values(*other), start, tolerance=2e-5)
    # The scale of a column is what Barlow Twins takes away and VICReg holds at 1.
    gains = np.array([10.0, 20.0, 30.0, 40.0], np.float32)
    scaled = values(gains * a, gains * b)
    for name, value in start.items():
        if name.startswith("barlow"):
            assert_close(scaled[name], value, tolerance=1e-2)
        else:
            assert scaled[name] > 1.5 * value
        assert abs(values(a, b[order])[name] - value) > 1e-2 * value


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_constant_columns_are_finite(dtype):
    a, b = (x.copy() for x in views(0, 8, 4))
    a[:, 0], b[:, 0], a[:, 1] = 0.0, 5.0, -2.0
    a, b = jnp.asarray(a, dtype), jnp.asarray(b, dtype)
    actual = compiled(a, b)
    chex.assert_tree_all_finite(actual)
    for _, gradients in actual.values():
        assert all(gradient.dtype == dtype for gradient in gradients)
    flat = jnp.full((8, 4), 3.0, dtype)
    chex.assert_tree_all_finite(compiled(flat, flat))
    # Nothing but the diagonal is left: each of the four costs 1.
    for name in ("barlow_twins", "barlow_twins pseudo-code"):
        assert_close(compiled(flat, flat)[name][0], 4.0, tolerance=1e-6)


def test_bfloat16_inputs_equal_reference_of_the_rounded_rows():
    a, b = (jnp.asarray(x, jnp.bfloat16) for x in views(1, 16, 4))
    exact = expected(np.asarray(a, np.float64), np.asarray(b, np.float64))
    check(compiled(a, b), exact, value=1e-5, gradient=2**-7)


def test_jit_equals_no_jit():
    a, b = views(2, 6, 3)
    assert_close(evaluate(a, b), compiled(a, b), tolerance=1e-5)


@pytest.mark.parametrize("devices", [1, 2, 4, 8])
def test_sharded_equals_one_device(devices):
    a, b = views(0, 24, 8)
    mesh = make_mesh(range(devices)[::-1])
    with jax.set_mesh(mesh):
        actual = compiled(*share(mesh, (a, b)))
    assert_close(actual, compiled(a, b), tolerance=1e-5)


def test_terms_add_up_to_the_losses():
    a, b = views(0, 12, 4)
    on, off = losses.barlow_twins_terms(a, b)
    assert_close(
        losses.barlow_twins(a, b, off_diagonal=0.3), on + 0.3 * off, tolerance=1e-6
    )
    terms = losses.vicreg_terms(a, b)
    assert all(term.dtype == jnp.float32 for term in terms)
    total = 25 * terms.invariance + 25 * terms.variance + terms.covariance
    assert_close(losses.vicreg(a, b), total, tolerance=1e-6)


@pytest.mark.parametrize("name", ["barlow_twins", "vicreg"])
@pytest.mark.parametrize(
    ("a", "b", "said"),
    [
        ((4, 3), (4, 2), r"got \(4, 3\), \(4, 2\)"),
        ((4,), (4,), r"expected two \[B, D\]"),
        ((0, 3), (0, 3), r"got \(0, 3\)"),
        ((1, 3), (1, 3), "one row has no variance"),
    ],
)
def test_shapes_are_refused(name, a, b, said):
    a, b = (jax.ShapeDtypeStruct(x, jnp.float32) for x in (a, b))
    with pytest.raises(UsageError, match=f"{name}: .*{said}") as error:
        jax.eval_shape(getattr(losses, name), a, b)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["barlow_twins", "vicreg"])
def test_embeddings_must_be_floating(name):
    one = jax.ShapeDtypeStruct((4, 3), jnp.float32)
    two = jax.ShapeDtypeStruct((4, 3), jnp.int32)
    with pytest.raises(UsageError, match=f"{name}: .*int32"):
        jax.eval_shape(getattr(losses, name), one, two)


@pytest.mark.parametrize("loss", [losses.barlow_twins, losses.vicreg])
def test_rows_of_an_explicit_mesh_are_refused_in_one_line(loss):
    x = jnp.asarray(np.random.default_rng(0).normal(size=(16, 4)), jnp.float32)
    mesh = jax.make_mesh((4,), ("data",), devices=jax.devices()[:4])
    with jax.set_mesh(mesh):
        shared = share(mesh, x)
        assert jnp.isfinite(loss(x, x[::-1]))
        for f in (loss, jax.jit(loss)):
            with pytest.raises(UsageError, match="rows are shared out over an axis of"):
                f(shared, shared)
