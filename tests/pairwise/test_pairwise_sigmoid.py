"""Sums of softplus over pairs: dense = streaming = sharded = NumPy float64."""

import functools
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import assert_close, central_differences
from reference import losses as reference
from reference.machine import largest_array, make_mesh, share, temporary_bytes

from rl_jax import pairwise
from rl_jax.errors import UsageError

pytestmark = pytest.mark.core

VALUE, GRADIENT = 1e-6, 1e-5
STATIC = ("block_size", "implementation", "precision")


def pull_back(x, y, scale, bias, bars, valid=None, exclude=None, **options):
    """Value, and the gradients to x, y, scale and bias of <bars, value>."""

    def function(x, y, scale, bias):
        return pairwise.sigmoid(
            x, y, scale=scale, bias=bias, valid=valid, exclude=exclude, **options
        )

    value, vjp = jax.vjp(function, x, y, scale, bias)
    return value, vjp(bars)


value_and_vjp = jax.jit(pull_back, static_argnames=STATIC)


def normals(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def positive(seed, *shape):
    """Weights without cancellation, so that a sum is as exact as its terms."""
    return np.random.default_rng(seed).uniform(0.5, 1.5, shape).astype(np.float32)


def expected(x, y, scale, bias, bars, valid=None, exclude=None) -> Any:
    options = {"scale": scale, "bias": bias, "valid": valid, "exclude": exclude}
    rows = reference.sigmoid_rows(x, y, **options)
    return rows, reference.sigmoid_vjp(x, y, rows=bars, **options)


def check(actual, target, *, value=VALUE, gradient=GRADIENT, floor=1e-3):
    chex.assert_tree_all_finite(actual)
    assert_close(actual[0], target[0], tolerance=value)
    assert_close(actual[1], target[1], tolerance=gradient, floor=floor)


def test_reference_gradient_equals_central_differences():
    x, y, bars = normals(0, 4, 3), normals(1, 5, 3), normals(2, 4)
    options = {"exclude": np.array([-1, 0, 3, 3]), "valid": 4}

    def rectangle(x, y, scale, bias):
        return bars @ reference.sigmoid_rows(x, y, scale=scale, bias=bias, **options)

    def alone(x, scale, bias):
        return bars @ reference.sigmoid_rows(x, scale=scale, bias=bias)

    ends = np.float64(1.3), np.float64(-0.4)
    gradients = expected(x, y, *ends, bars, 4, options["exclude"])[1]
    numeric = central_differences(rectangle, x, y, *ends)
    assert_close(gradients, numeric, tolerance=1e-7)
    numeric = central_differences(alone, x, *ends)
    assert_close(expected(x, None, *ends, bars)[1], numeric, tolerance=1e-7)


def test_reference_equals_the_sum_pair_by_pair():
    x, y = normals(0, 3, 4).astype(np.float64), normals(1, 4, 4).astype(np.float64)
    exclude = [2, -1, 0]
    rows = [
        sum(
            np.log(1 + np.exp(1.3 * sum(x[i] * y[j]) - 0.4))
            for j in range(3)
            if j != exclude[i]
        )
        for i in range(3)
    ]
    options = {"scale": 1.3, "bias": -0.4}
    actual = reference.sigmoid_rows(x, y, valid=3, exclude=exclude, **options)
    assert_close(actual, np.array(rows), tolerance=1e-12)
    alone = reference.sigmoid_rows(x, x, exclude=np.arange(3), **options)
    assert_close(reference.sigmoid_rows(x, **options), alone, tolerance=1e-12)


@pytest.mark.parametrize(
    ("size", "block_size", "implementation"),
    [
        (2, None, None),
        (7, 16, "xla"),
        (7, None, "dense"),
        (97, 16, "xla"),
        (130, 64, "xla"),
        (1031, None, None),
    ],
)
def test_self_pairs_equal_reference(size, block_size, implementation):
    x, bars = normals(size, size, 8), positive(size + 1, size)
    options = {"block_size": block_size, "implementation": implementation}
    for scale, bias in ((0.7, -2.0), (-0.4, 3.0)):
        actual = value_and_vjp(x, None, scale, bias, bars, **options)
        assert actual[0].dtype == jnp.float32
        assert actual[0].shape == (size,)
        check(actual, expected(x, None, scale, bias, bars))


@pytest.mark.parametrize(
    ("rows", "columns", "block_size", "implementation"),
    [
        (7, 7, None, None),
        (2, 97, 16, "xla"),
        (97, 130, 64, "xla"),
        (130, 2, 16, "xla"),
        (97, 130, None, "dense"),
    ],
)
def test_rectangles_equal_reference(rows, columns, block_size, implementation):
    x, y = normals(rows, rows, 8), normals(columns + 1, columns, 8)
    bars = positive(2, rows)
    options = {"block_size": block_size, "implementation": implementation}
    run = functools.partial(value_and_vjp, **options)
    every = np.int32(columns), np.full(rows, -1, np.int32)
    check(run(x, y, 0.7, -2.0, bars, *every), expected(x, y, 0.7, -2.0, bars))
    # Garbage in the slots that do not count must not reach anything.
    valid = columns - 1
    y = np.concatenate([y[:valid], np.full_like(y[valid:], np.nan)])
    exclude = np.random.default_rng(4).integers(-1, valid, rows, dtype=np.int32)
    check(
        run(x, y, 0.7, -2.0, bars, np.int32(valid), exclude),
        expected(x, y, 0.7, -2.0, bars, valid, exclude),
    )


@pytest.mark.parametrize("implementation", ["dense", "xla"])
def test_rectangle_without_masks(implementation):
    x, y, bars = normals(0, 9, 4), normals(1, 7, 4), positive(2, 9)
    actual = value_and_vjp(
        x, y, 0.7, -2.0, bars, block_size=4, implementation=implementation
    )
    check(actual, expected(x, y, 0.7, -2.0, bars))


def test_cotangents_of_both_signs():
    x, y, bars = normals(0, 9, 4), normals(1, 7, 4), normals(2, 9)
    actual = value_and_vjp(x, y, 0.7, -2.0, bars, block_size=4, implementation="xla")
    check(actual, expected(x, y, 0.7, -2.0, bars), floor=1.0)
    actual = value_and_vjp(x, None, 0.7, -2.0, bars, block_size=4)
    check(actual, expected(x, None, 0.7, -2.0, bars), floor=1.0)


@pytest.mark.parametrize("implementation", ["dense", "xla"])
def test_row_without_pairs_is_zero_with_zero_gradient(implementation):
    x, y, bars = normals(0, 5, 4), normals(1, 6, 4), np.ones(5, np.float32)
    run = functools.partial(value_and_vjp, block_size=4, implementation=implementation)
    nothing = np.full(5, -1, np.int32)
    actual = run(x, y, 1.0, 2.0, bars, np.int32(0), nothing)
    chex.assert_trees_all_equal(actual, jax.tree.map(jnp.zeros_like, actual))

    exclude = np.array([0, -1, 0, 5, 0], np.int32)
    actual = run(x, y, 1.0, 2.0, bars, np.int32(1), exclude)
    assert np.array_equal(np.equal(actual[0], 0.0), exclude == 0)
    check(actual, expected(x, y, 1.0, 2.0, bars, 1, exclude))

    actual = run(x[:1], None, 1.0, 2.0, bars[:1])
    chex.assert_trees_all_equal(actual, jax.tree.map(jnp.zeros_like, actual))


def test_valid_is_traced_once_and_ignores_garbage():
    x, y, bars = normals(0, 5, 4), normals(1, 70, 4), positive(2, 5)
    chex.clear_trace_counter()

    @jax.jit
    @chex.assert_max_traces(n=1)
    def run(y, valid):
        return value_and_vjp(x, y, 1.0, -1.0, bars, valid=valid, block_size=32)

    for valid in (1, 31, 32, 33, 64, 70):
        for garbage in (np.nan, np.inf, 3e38):
            y_bad = np.where(np.arange(70)[:, None] < valid, y, np.float32(garbage))
            actual = run(y_bad, np.int32(valid))
            check(actual, expected(x, y, 1.0, -1.0, bars, valid=valid))


def test_hand_computed():
    x = np.eye(3, dtype=np.float32)
    rows = pairwise.sigmoid(x, scale=2.0, bias=-1.0)
    low, high = np.log1p(np.exp(-1.0)), np.log1p(np.exp(1.0))
    assert_close(rows, np.full(3, 2 * low), tolerance=VALUE)
    rows = pairwise.sigmoid(x[:2], x, scale=2.0, bias=-1.0)
    assert_close(rows, np.full(2, high + 2 * low), tolerance=VALUE)
    rows = pairwise.sigmoid(x, x, scale=0.0, bias=0.0)
    assert_close(rows, np.full(3, 3 * np.log(2.0)), tolerance=VALUE)


@pytest.mark.parametrize("implementation", ["dense", "xla"])
def test_large_and_small_logits(implementation):
    x, bars = normals(0, 33, 8), np.ones(33, np.float32)
    x[1], x[2], x[3] = x[0], -x[0], 0.0
    run = functools.partial(value_and_vjp, block_size=16, implementation=implementation)
    # float32 products carry 1e-7 of a logit of thousands into the sigmoid.
    actual, target = (f(x, None, 300.0, 50.0, bars) for f in (run, expected))
    assert np.max(target[0]) > 1e4
    check(actual, target, gradient=1e-4)
    # A term of exp(-20) is less than the rounding of 1: it must not be added to it.
    actual, target = (f(x, None, 0.05, -20.0, bars) for f in (run, expected))
    assert np.max(target[0]) < 1e-6
    check(actual, target, value=1e-5, gradient=1e-5, floor=0.0)
    actual, target = (f(x, None, 1.0, -1e4, bars) for f in (run, expected))
    check(actual, target)


@pytest.mark.parametrize("implementation", ["dense", "xla"])
def test_bfloat16_rows_accumulate_in_float32(implementation):
    x = jnp.asarray(normals(0, 40, 8), jnp.bfloat16)
    y = jnp.asarray(normals(1, 24, 8), jnp.bfloat16)
    bars = np.ones(40, np.float32)
    value, (dx, dy, *ends) = value_and_vjp(
        x, y, 0.7, -2.0, bars, block_size=16, implementation=implementation
    )
    assert (value.dtype, dx.dtype, dy.dtype) == (
        jnp.float32,
        jnp.bfloat16,
        jnp.bfloat16,
    )
    exact = expected(np.float32(x), np.float32(y), 0.7, -2.0, bars)
    assert_close(value, exact[0], tolerance=VALUE)
    assert_close((dx, dy), exact[1][:2], tolerance=2**-7)
    # Their terms may be rounded to the type of the rows.
    assert_close(ends, list(exact[1][2:]), tolerance=2**-9)


def test_scale_and_bias_may_be_any_scalars():
    x = normals(0, 6, 4)
    target = pairwise.sigmoid(x, scale=2.0, bias=-1.0)
    for kind in (int, np.float32, jnp.float32, jnp.bfloat16):
        options = {"scale": kind(2), "bias": kind(-1), "precision": "highest"}
        actual = pairwise.sigmoid(x, **options)
        assert actual.dtype == jnp.float32
        assert_close(actual, target, tolerance=VALUE)


def test_jit_equals_no_jit():
    x, y, bars = normals(0, 9, 4), normals(1, 7, 4), positive(2, 9)
    options = {"block_size": 4, "implementation": "xla"}
    jitted = value_and_vjp(x, y, 0.7, -2.0, bars, **options)
    assert_close(pull_back(x, y, 0.7, -2.0, bars, **options), jitted, tolerance=1e-6)


def over_all(x, y, scale, bias, g, valid=None, exclude=None, **options):
    """The sum over all pairs and its gradients, times g; made in one sweep."""

    def function(x, y, scale, bias):
        options["axis"] = "all"
        return pairwise.sigmoid(
            x, y, scale=scale, bias=bias, valid=valid, exclude=exclude, **options
        )

    value, vjp = jax.vjp(function, x, y, scale, bias)
    return value, vjp(jnp.float32(g))


run_over_all = jax.jit(over_all, static_argnames=STATIC)


def expected_over_all(x, y, scale, bias, g, valid=None, exclude=None) -> Any:
    bars = np.full(len(x), g)
    rows, gradients = expected(x, y, scale, bias, bars, valid, exclude)
    return rows.sum(), gradients


@pytest.mark.parametrize(
    ("rows", "columns", "block_size", "implementation"),
    [
        (7, 9, None, None),
        (97, 130, 32, "xla"),
        (130, 97, None, "dense"),
        (97, None, 32, None),
        (7, None, None, None),
        (97, None, None, "dense"),
    ],
)
def test_the_sum_over_all_pairs(rows, columns, block_size, implementation):
    options = {"block_size": block_size, "implementation": implementation}
    x, y = normals(0, rows, 8), None if columns is None else normals(1, columns, 8)
    masks = ()
    if y is not None:
        exclude = np.random.default_rng(4).integers(-1, columns - 1, rows)
        masks = np.int32(columns - 1), np.int32(exclude)
    for g in (1.0, -2.5):
        given = x, y, 0.7, -2.0, g, *masks
        check(run_over_all(*given, **options), expected_over_all(*given))
    # The value alone, which goes another way, and of all columns.
    value = pairwise.sigmoid(x, y, scale=0.7, bias=-2.0, axis="all", **options)
    assert (value.shape, value.dtype) == ((), jnp.float32)
    assert_close(value, expected_over_all(x, y, 0.7, -2.0, 1.0)[0], tolerance=VALUE)


def test_the_sum_over_all_pairs_of_bfloat16():
    x, y = (jnp.asarray(normals(i, 40, 8), jnp.bfloat16) for i in (0, 1))
    value, gradients = run_over_all(x, y, 0.7, -2.0, 3.0, block_size=16)
    exact = expected_over_all(np.float32(x), np.float32(y), 0.7, -2.0, 3.0)
    assert_close(value, exact[0], tolerance=VALUE)
    assert gradients[0].dtype == gradients[1].dtype == jnp.bfloat16
    assert_close(gradients[:2], exact[1][:2], tolerance=2**-7)
    assert_close(gradients[2:], exact[1][2:], tolerance=2**-9)


def test_the_sum_over_all_pairs_forms_each_logit_once():
    """Three products of a pair: its logit, and one for either side."""
    x, y = normals(0, 64, 8), normals(1, 64, 8)

    def products(function, bars):
        options = {"implementation": "xla", "block_size": 16}
        program = jax.make_jaxpr(functools.partial(function, **options))
        return str(program(x, y, 0.7, -2.0, bars)).count("dot_general[")

    assert products(over_all, 1.0) == 3
    assert products(pull_back, x[:, 0]) == 4


@pytest.mark.parametrize(("wanted", "products"), [(0, 2), (1, 3), (2, 2), (3, 2)])
def test_the_sum_over_all_pairs_by_one_operand(wanted, products):
    """Where y has no gradient, it is not made."""
    x, y = normals(0, 40, 8), normals(1, 24, 8)

    def value(x, y, scale, bias):
        options = {"axis": "all", "implementation": "xla", "block_size": 16}
        return pairwise.sigmoid(x, y, scale=scale, bias=bias, **options)

    slope = jax.grad(value, argnums=wanted)
    expected = expected_over_all(x, y, 0.7, -2.0, 1.0)[1][wanted]
    assert_close(slope(x, y, 0.7, -2.0), expected, tolerance=GRADIENT, floor=1e-3)
    program = str(jax.make_jaxpr(slope)(x, y, 0.7, -2.0))
    assert program.count("dot_general[") == products


@pytest.mark.parametrize("masked", [False, True])
def test_the_sum_over_all_pairs_has_a_second_derivative(masked):
    x, y = normals(0, 9, 4), normals(1, 7, 4)
    masks = {"valid": 5, "exclude": np.arange(9, dtype=np.int32) - 1} if masked else {}

    def third(implementation):
        def value(x, y, scale, bias):
            options = {"block_size": 4, "implementation": implementation} | masks
            return pairwise.sigmoid(x, y, scale=scale, bias=bias, axis="all", **options)

        def slope(*given):
            gradients = jax.grad(value, argnums=(0, 1, 2, 3))(*given)
            return sum(jnp.sum(jnp.sin(g)) for g in gradients)

        return jax.grad(slope, argnums=(0, 1, 2, 3))(x, y, 0.7, -2.0)

    assert_close(third("xla"), third("dense"), tolerance=1e-5, floor=1e-2)


@functools.partial(jax.jit, static_argnames="implementation")
def sums_of_every_shape(x, square, y, exclude, *, implementation=None):
    """As `every_shape`, over all pairs."""
    options = {"block_size": 5, "implementation": implementation}
    return (
        over_all(x, None, 0.7, -2.0, 1.5, **options),
        over_all(x, square, 0.7, -2.0, 1.5, 40, exclude, **options),
        over_all(x, y, 0.7, -2.0, 1.5, 50, exclude, **options),
    )


@pytest.mark.parametrize(
    ("order", "implementation"),
    [
        ([1, 0], "ring"),
        ([2, 0, 1], "ring"),
        ([2, 0, 3, 1], "xla"),
        ([5, 2, 7, 0, 3, 6, 1, 4], "ring"),
    ],
)
def test_sharded_sum_over_all_pairs(order, implementation):
    x, square, y, _, exclude = problem()
    if len(order) == 3:
        y = y[:63]
    given = x, square, y, exclude
    mesh = make_mesh(order)
    with jax.set_mesh(mesh):
        actual = sums_of_every_shape(*share(mesh, given), implementation=implementation)
    masks = (40, exclude), (50, exclude)
    for found, other, mask in zip(
        actual, (None, square, y), ((None, None), *masks), strict=True
    ):
        check(found, expected_over_all(x, other, 0.7, -2.0, 1.5, *mask))


def problem():
    """48 and 64 rows, which divide among 1, 2, 4 and 8 devices."""
    x, square, y = normals(0, 48, 8) / 2, normals(1, 48, 8) / 2, normals(2, 64, 8) / 2
    exclude = np.random.default_rng(4).integers(-1, 40, 48, dtype=np.int32)
    return x, square, y, positive(3, 48), exclude


@functools.partial(jax.jit, static_argnames="implementation")
def every_shape(x, square, y, bars, exclude, *, implementation=None):
    """Self pairs and two masked rectangles, in one compilation."""
    options = {"block_size": 5, "implementation": implementation}
    return (
        pull_back(x, None, 0.7, -2.0, bars, **options),
        pull_back(x, square, 0.7, -2.0, bars, 40, exclude, **options),
        pull_back(x, y, 0.7, -2.0, bars, 50, exclude, **options),
    )


@functools.cache
def one_device():
    return every_shape(*problem())


@pytest.mark.parametrize(
    ("order", "implementation"),
    [
        ([0], "ring"),
        ([1, 0], "ring"),
        ([2, 0, 3, 1], "xla"),
        ([5, 2, 7, 0, 3, 6, 1, 4], "ring"),
        ([5, 2, 7, 0, 3, 6, 1, 4], None),
    ],
)
def test_sharded_equals_one_device(order, implementation):
    # The offset of a shard is its place in the mesh, not the number of its device.
    mesh = make_mesh(order)
    with jax.set_mesh(mesh):
        actual = every_shape(*share(mesh, problem()), implementation=implementation)
    assert_close(actual, one_device(), tolerance=1e-6)


def test_one_device_equals_reference():
    x, square, y, bars, exclude = problem()
    alone, masked, longer = one_device()
    check(alone, expected(x, None, 0.7, -2.0, bars))
    check(masked, expected(x, square, 0.7, -2.0, bars, 40, exclude))
    check(longer, expected(x, y, 0.7, -2.0, bars, 50, exclude))


def test_rows_that_do_not_divide_among_the_devices_are_refused():
    refused = pytest.raises(UsageError, match="7 rows are not divisible by the 8 devic")
    with jax.set_mesh(make_mesh(range(8))), refused:
        pairwise.sigmoid(normals(0, 7, 8), scale=0.7, bias=-2.0)


def test_compiled_gradient_holds_no_matrix():
    size = 4096
    x = jax.ShapeDtypeStruct((size, 16), jnp.float32)
    bars = jax.ShapeDtypeStruct((size,), jnp.float32)
    for y in (None, x):
        executable = value_and_vjp.lower(x, y, 0.7, -2.0, bars).compile()
        assert temporary_bytes(executable) < size * size * 4 / 4
        assert largest_array(executable) < size * size / 4
        executable = run_over_all.lower(x, y, 0.7, -2.0, 1.0).compile()
        assert temporary_bytes(executable) < size * size * 4 / 4


@pytest.mark.parametrize(
    ("x", "y", "options", "named"),
    [
        (normals(0, 4, 3), normals(0, 4, 2), {}, ("(4, 3)", "(4, 2)")),
        (normals(0, 4), None, {}, ("(4,)",)),
        (normals(0, 4, 3), normals(0, 4, 3, 1), {}, ("(4, 3)", "(4, 3, 1)")),
        (normals(0, 0, 3), None, {}, ("(0, 3)",)),
        (np.ones((4, 3), np.int32), None, {}, ("int32",)),
        (
            normals(0, 4, 3),
            np.ones((4, 3), jnp.bfloat16),
            {},
            ("float32", "bfloat16"),
        ),
        (normals(0, 4, 3), None, {"implementation": "triton"}, ("triton",)),
        (normals(0, 4, 3), None, {"precision": "tf32"}, ("tf32",)),
        (normals(0, 4, 3), None, {"block_size": 0}, ("0",)),
        (normals(0, 4, 3), None, {"axis": "both"}, ("'rows' or 'all'", "both")),
        (
            normals(0, 4, 3),
            normals(0, 4, 3),
            {"exclude": np.zeros(3, np.int32)},
            ("4", "(3,)"),
        ),
    ],
)
def test_usage_errors(x, y, options, named):
    with pytest.raises(UsageError, match=r"pairwise\.sigmoid: ") as error:
        pairwise.sigmoid(x, y, scale=1.0, bias=0.0, **options)
    assert all(name in str(error.value) for name in named)
    assert "\n" not in str(error.value)
