"""Dense = streaming = sharded = NumPy float64: values and every gradient."""

import functools
import math
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
from reference import assert_close, central_differences
from reference import losses as reference
from reference.machine import largest_array, make_mesh, temporary_bytes

from rl_jax import pairwise
from rl_jax.errors import UsageError

pytestmark = pytest.mark.core

VALUE, GRADIENT = 1e-6, 1e-5
STATIC = ("axis", "block_size", "implementation", "precision")


def pull_back(x, y, scale, bars, valid=None, exclude=None, **options):
    """Value, and the gradients to x, y and scale of <bars, value>."""

    def function(x, y, scale):
        return pairwise.logsumexp(
            x, y, scale=scale, valid=valid, exclude=exclude, **options
        )

    value, vjp = jax.vjp(function, x, y, scale)
    return value, vjp(bars)


value_and_vjp = jax.jit(pull_back, static_argnames=STATIC)


def normals(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def positive(seed, *shape):
    """Weights without cancellation, so that a sum is as exact as its terms."""
    return np.random.default_rng(seed).uniform(0.5, 1.5, shape).astype(np.float32)


def expected(x, y, scale, bars, valid=None, exclude=None, axis="rows") -> Any:
    options = {"scale": scale, "valid": valid, "exclude": exclude}
    rows = reference.logsumexp_rows(x, y, **options)
    if axis == "rows":
        return rows, reference.logsumexp_vjp(x, y, rows=bars, **options)
    columns = reference.logsumexp_columns(x, y, **options)
    gradients = reference.logsumexp_vjp(x, y, rows=bars[0], columns=bars[1], **options)
    return (rows, columns), gradients


def check(actual, target, *, value=VALUE, gradient=GRADIENT):
    chex.assert_tree_all_finite(actual[1])
    assert_close(actual[0], target[0], tolerance=value)
    assert_close(actual[1], target[1], tolerance=gradient, floor=1e-3)


def test_reference_gradient_equals_central_differences():
    x, y, bars = normals(0, 4, 3), normals(1, 5, 3), (normals(2, 4), normals(3, 5))
    options = {"exclude": np.array([-1, 0, 4, 4])}

    def function(x, y, scale):
        rows = reference.logsumexp_rows(x, y, scale=scale, **options)
        columns = reference.logsumexp_columns(x, y, scale=scale, **options)
        return bars[0] @ rows + bars[1] @ columns

    gradients = expected(x, y, 1.3, bars, axis="both", **options)[1]
    numeric = central_differences(function, x, y, np.float64(1.3))
    assert_close(gradients, numeric, tolerance=1e-7)


@pytest.mark.parametrize(
    ("size", "block_size", "implementation"),
    [
        (2, None, None),
        (3, 64, "xla"),
        (7, None, "dense"),
        (97, 64, "xla"),
        (130, 64, "xla"),
        (513, 128, "xla"),
        (513, None, None),
    ],
)
def test_self_pairs_equal_reference(size, block_size, implementation):
    x, bars = normals(size, size, 8), positive(size + 1, size)
    actual = value_and_vjp(
        x, None, 0.7, bars, block_size=block_size, implementation=implementation
    )
    assert actual[0].dtype == jnp.float32
    check(actual, expected(x, None, 0.7, bars))


@pytest.mark.parametrize(
    ("rows", "columns", "block_size", "implementation", "axis"),
    [
        (7, 7, None, None, "rows"),
        (3, 513, 128, "xla", "both"),
        (513, 2, 128, "xla", "rows"),
        (97, 130, 64, "xla", "rows"),
        (130, 97, 64, "xla", "both"),
        (97, 130, None, "dense", "both"),
    ],
)
def test_rectangles_equal_reference(rows, columns, block_size, implementation, axis):
    x, y = normals(rows, rows, 8), normals(columns + 1, columns, 8)
    bars = positive(2, rows), positive(3, columns)
    bars = bars[0] if axis == "rows" else bars
    options = {"axis": axis, "block_size": block_size, "implementation": implementation}
    every = np.int32(columns), np.full(rows, -1, np.int32)
    check(
        value_and_vjp(x, y, 0.7, bars, *every, **options),
        expected(x, y, 0.7, bars, axis=axis),
    )
    # Garbage in the slots that do not count must not reach anything. With one
    # column left, a row without its column has no pair at all: -inf.
    valid = columns - 1
    y = np.concatenate([y[:valid], np.full_like(y[valid:], np.nan)])
    exclude = np.random.default_rng(4).integers(-1, valid, rows, dtype=np.int32)
    check(
        value_and_vjp(x, y, 0.7, bars, np.int32(valid), exclude, **options),
        expected(x, y, 0.7, bars, valid, exclude, axis=axis),
    )


@pytest.mark.parametrize("implementation", ["dense", "xla"])
def test_row_without_pairs_is_minus_infinity_with_zero_gradient(implementation):
    x, y, bars = normals(0, 5, 4), normals(1, 6, 4), np.ones(5, np.float32)
    run = functools.partial(value_and_vjp, block_size=4, implementation=implementation)
    nothing = np.full(5, -1, np.int32)
    value, gradients = run(x, y, 1.0, bars, np.int32(0), nothing)
    assert np.all(np.isneginf(value))
    chex.assert_trees_all_equal(gradients, jax.tree.map(jnp.zeros_like, gradients))

    exclude = np.array([0, -1, 0, 5, 0], np.int32)
    actual = run(x, y, 1.0, bars, np.int32(1), exclude)
    assert np.array_equal(np.isneginf(actual[0]), exclude == 0)
    check(actual, expected(x, y, 1.0, bars, 1, exclude))

    value, gradients = run(x[:1], None, 1.0, bars[:1])
    assert np.all(np.isneginf(value))
    chex.assert_trees_all_equal(gradients, jax.tree.map(jnp.zeros_like, gradients))


def test_valid_is_traced_once_and_ignores_garbage():
    x, y, bars = normals(0, 5, 4), normals(1, 70, 4), positive(2, 5)
    chex.clear_trace_counter()

    @jax.jit
    @chex.assert_max_traces(n=1)
    def run(y, valid):
        return value_and_vjp(x, y, 1.0, bars, valid=valid, block_size=32)

    for valid in (1, 31, 32, 33, 64, 70):
        for garbage in (np.nan, np.inf, 3e38):
            y_bad = np.where(np.arange(70)[:, None] < valid, y, np.float32(garbage))
            actual = run(y_bad, np.int32(valid))
            check(actual, expected(x, y, 1.0, bars, valid=valid))


def test_exclude_equals_taking_the_column_away():
    x, y = normals(0, 6, 4), normals(1, 9, 4)
    for column in (0, 4, 8):
        exclude = jnp.full(6, column, jnp.int32)
        actual = pairwise.logsumexp(x, y, scale=1.5, exclude=exclude, block_size=4)
        target = pairwise.logsumexp(x, np.delete(y, column, 0), scale=1.5)
        assert_close(actual, target, tolerance=VALUE)


@pytest.mark.parametrize(
    ("devices", "implementation"),
    [(1, "dense"), (1, "xla"), (4, "xla"), (4, "ring"), (2, "ring")],
)
def test_groups_of_columns_are_left_out(devices, implementation):
    """Pairs of one group, those of the diagonal among them, take no part."""
    x, y, bars = (
        normals(0, 24, 4),
        normals(1, 24, 4),
        (positive(2, 24), positive(3, 24)),
    )
    group = np.random.default_rng(4).integers(0, 6, 24, dtype=np.int32)
    exclude = np.where(np.arange(24) % 5 == 0, -1, group).astype(np.int32)
    mesh = make_mesh(range(devices)[::-1])
    place = functools.partial(jax.device_put, device=NamedSharding(mesh, P("data")))

    @jax.jit
    def run(x, y, exclude, group, bars):
        options = {"axis": "both", "block_size": 5, "implementation": implementation}
        f = functools.partial(pull_back, exclude=exclude, group=group, **options)
        return f(x, y, 0.7, bars)

    with jax.set_mesh(mesh):
        actual = run(*map(place, (x, y, exclude, group)), jax.tree.map(place, bars))
    logits = 0.7 * (np.float64(x) @ np.float64(y).T)
    e = np.exp(np.where(group[None] == exclude[:, None], -np.inf, logits))
    assert_close(actual[0], (np.log(e.sum(1)), np.log(e.sum(0))), tolerance=VALUE)
    w = e * (bars[0] / e.sum(1))[:, None] + e * (bars[1] / e.sum(0))[None]
    target = 0.7 * w @ y, 0.7 * w.T @ x, np.sum(w * (x @ y.T))
    assert_close(actual[1], target, tolerance=GRADIENT)


def test_common_shift_of_y_moves_each_row_by_its_product():
    x, y, shift = normals(0, 6, 4), normals(1, 9, 4), normals(2, 1, 4)
    moved = pairwise.logsumexp(x, y + shift, scale=1.5, block_size=4)
    target = pairwise.logsumexp(x, y, scale=1.5, block_size=4) + 1.5 * x @ shift[0]
    assert_close(moved, target, tolerance=2e-6)


def test_hand_computed():
    x = jnp.eye(3)
    rows = pairwise.logsumexp(x, scale=2.0)
    assert_close(rows, np.full(3, math.log(2.0)), tolerance=VALUE)
    both = pairwise.logsumexp(x[:2], x, scale=2.0, axis="both")
    rows = np.full(2, math.log(math.exp(2.0) + 2.0))
    columns = np.log([math.exp(2.0) + 1.0, math.exp(2.0) + 1.0, 2.0])
    assert_close(both, (rows, columns), tolerance=VALUE)


@pytest.mark.parametrize("implementation", ["dense", "xla"])
def test_large_logits_do_not_overflow(implementation):
    x, bars = normals(0, 33, 8), np.ones(33, np.float32)
    x[1], x[2], x[3] = x[0], -x[0], 0.0
    options = {"block_size": 16, "implementation": implementation}
    actual = value_and_vjp(x, None, 300.0, bars, **options)
    # float32 products carry 1e-7 of a logit of thousands into the exponent.
    check(actual, expected(x, None, 300.0, bars), value=1e-6, gradient=1e-3)
    # Where every exponential underflows, the largest one still decides.
    far = np.abs(x[4:])
    actual = value_and_vjp(-far, far, 100.0, bars[4:], **options)
    target = expected(-far, far, 100.0, bars[4:])
    assert np.max(target[0]) < -100
    check(actual, target, gradient=1e-4)


@pytest.mark.parametrize("implementation", ["dense", "xla"])
def test_bfloat16_rows_accumulate_in_float32(implementation):
    x = jnp.asarray(normals(0, 40, 8), jnp.bfloat16)
    y = jnp.asarray(normals(1, 24, 8), jnp.bfloat16)
    bars = np.ones(40, np.float32)
    value, (dx, dy, dscale) = value_and_vjp(
        x, y, 0.7, bars, block_size=16, implementation=implementation
    )
    assert (value.dtype, dx.dtype, dy.dtype) == (
        jnp.float32,
        jnp.bfloat16,
        jnp.bfloat16,
    )
    exact = expected(np.float32(x), np.float32(y), 0.7, bars)
    assert_close(value, exact[0], tolerance=VALUE)
    assert_close((dx, dy), exact[1][:2], tolerance=2**-7)
    # Like the probabilities, its terms may be rounded to the type of the rows.
    assert_close(dscale, exact[1][2], tolerance=2**-9)


def test_scale_may_be_any_scalar_and_precision_is_passed():
    x = normals(0, 6, 4)
    target = pairwise.logsumexp(x, scale=2.0)
    for scale in (2, np.float32(2), jnp.float32(2), jnp.bfloat16(2)):
        actual = pairwise.logsumexp(x, scale=scale, precision="highest")
        assert_close(actual, target, tolerance=VALUE)


def test_numerical_gradients():
    x, y = normals(0, 5, 3), normals(1, 6, 3)

    def function(x, y, scale):
        out = pairwise.logsumexp(x, y, scale=scale, axis="both", block_size=4)
        alone = pairwise.logsumexp(x, scale=scale, block_size=4)
        return sum(jnp.sum(jnp.sin(o)) for o in jax.tree.leaves((out, alone)))

    args = x, y, jnp.float32(0.7)
    chex.assert_numerical_grads(
        jax.jit(function), args, order=1, modes=("rev",), eps=1e-2
    )


def test_jit_equals_no_jit():
    x, y, bars = normals(0, 9, 4), normals(1, 7, 4), (normals(2, 9), normals(3, 7))
    options = {"axis": "both", "block_size": 4, "implementation": "xla"}
    jitted = value_and_vjp(x, y, 0.7, bars, **options)
    eager = pull_back(x, y, 0.7, bars, **options)
    assert_close(eager, jitted, tolerance=1e-6)


@functools.partial(jax.jit, static_argnames=("block_size",))
def self_and_both(x, y, scale, bars, valid, exclude, *, block_size=None):
    """Self pairs and both axes of a masked rectangle, in one compilation."""
    options = {"axis": "both", "block_size": block_size}
    return (
        value_and_vjp(x, None, scale, bars[0], block_size=block_size),
        value_and_vjp(x, y, scale, bars, valid, exclude, **options),
    )


def check_self_and_both(actual, x, y, scale, bars, valid, exclude):
    check(actual[0], expected(x, None, scale, bars[0]))
    check(actual[1], expected(x, y, scale, bars, valid, exclude, axis="both"))


@pytest.mark.parametrize(
    ("devices", "y_spec"),
    [(1, P("data")), (2, P("data")), (4, P()), (8, P("data"))],
)
def test_sharded_equals_reference(devices, y_spec):
    x, y, bars = (
        normals(0, 48, 8),
        normals(1, 64, 8),
        (positive(2, 48), positive(3, 64)),
    )
    exclude = np.random.default_rng(4).integers(-1, 50, 48, dtype=np.int32)
    # Reversed devices: the offset of a shard is its place in the mesh, not its id.
    mesh = make_mesh(range(devices)[::-1])
    place = functools.partial(jax.device_put, device=NamedSharding(mesh, P("data")))
    with jax.set_mesh(mesh):
        actual = self_and_both(
            place(x),
            jax.device_put(y, NamedSharding(mesh, y_spec)),
            0.7,
            place(bars),
            50,
            place(exclude),
            block_size=5,
        )
    check_self_and_both(actual, x, y, 0.7, bars, 50, exclude)


def test_rows_that_do_not_divide_among_the_devices_are_refused():
    x, y = normals(0, 7, 8), normals(1, 13, 8)
    with jax.set_mesh(make_mesh(range(4))):
        with pytest.raises(UsageError, match="7 rows are not divisible by the 4 dev"):
            pairwise.logsumexp(x, scale=1.0)
        with pytest.raises(UsageError, match="its 13 rows are not divisible"):
            pairwise.logsumexp(x[:4], y, scale=1.0, implementation="ring")
        # A bank that every device holds may have any size.
        rows = pairwise.logsumexp(x[:4], y, scale=1.0)
    assert_close(rows, reference.logsumexp_rows(x[:4], y, scale=1.0), tolerance=VALUE)


@pytest.mark.slow
def test_second_derivative_equals_dense():
    x, y = normals(0, 6, 3), normals(1, 7, 3)

    def curvature(implementation):
        def slope(x, y, scale):
            options = {"implementation": implementation, "block_size": 4}
            both = pairwise.logsumexp(x, y, scale=scale, axis="both", **options)
            alone = pairwise.logsumexp(x, scale=scale, **options)
            return sum(jnp.sum(jnp.sin(v)) for v in jax.tree.leaves((both, alone)))

        def turned(*args):
            grads = jax.grad(slope, argnums=(0, 1, 2))(*args)
            return sum(jnp.sum(jnp.cos(g)) for g in grads)

        return jax.jit(jax.grad(turned, argnums=(0, 1, 2)))(x, y, jnp.float32(0.7))

    assert_close(curvature("xla"), curvature("dense"), tolerance=1e-4)


def test_compiled_gradient_holds_no_matrix():
    size = 4096
    x = jax.ShapeDtypeStruct((size, 16), jnp.float32)
    vector = jax.ShapeDtypeStruct((size,), jnp.float32)
    exclude = jax.ShapeDtypeStruct((size,), jnp.int32)
    scalar = jax.ShapeDtypeStruct((), jnp.float32)
    lowered = value_and_vjp.lower(
        x, x, scalar, (vector, vector), exclude=exclude, axis="both"
    )
    compiled = lowered.compile()
    assert temporary_bytes(compiled) < size * size * 4 / 4
    assert largest_array(compiled) < size * size / 4


@pytest.mark.parametrize(
    ("x", "y", "options"),
    [
        (normals(0, 4, 3), normals(0, 4, 2), {}),
        (normals(0, 4), None, {}),
        (normals(0, 4, 3), normals(0, 4, 3, 1), {}),
        (normals(0, 4, 3), None, {"axis": "columns"}),
        (normals(0, 4, 3), None, {"implementation": "triton"}),
        (normals(0, 4, 3), None, {"block_size": 0}),
        (normals(0, 4, 3), normals(0, 4, 3), {"exclude": np.zeros(3, np.int32)}),
    ],
)
def test_usage_errors(x, y, options):
    with pytest.raises(ValueError, match="logsumexp") as error:
        pairwise.logsumexp(x, y, scale=1.0, **options)
    assert "\n" not in str(error.value)
