"""Second moments of two kernels against NumPy float64, and what they are for: HSIC."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import assert_close
from reference import losses as reference
from reference.machine import largest_array, make_mesh, share, temporary_bytes

from rl_jax import pairwise
from rl_jax.errors import UsageError

pytestmark = pytest.mark.core

VALUE = 1e-6
STATIC = ("gamma_x", "gamma_y", "block_size", "implementation")
KERNELS = {
    "linear": {},
    "rbf": {"gamma_x": 0.1, "gamma_y": 0.03},
    "mixed": {"gamma_y": 0.03},
}


@functools.partial(jax.jit, static_argnames=STATIC)
def compiled(x, y, **options):
    return pairwise.moments(x, y, **options)


def normals(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def features(size):
    """Two feature sets of the same rows, of different widths and related."""
    x = normals(size, size, 6)
    return x, x @ normals(size + 1, 6, 9) / 3 + normals(size + 2, size, 9)


def check(actual, target, *, tolerance=VALUE):
    assert actual._fields == ("xx", "xy", "yy", "x_rows", "y_rows")
    assert all(value.dtype == jnp.float32 for value in actual)
    # The sums of products may cancel; the sums of squares bound them.
    xx, xy, yy, *rows = target
    assert_close(actual[:3:2], (xx, yy), tolerance=tolerance)
    assert_close(actual.xy, xy, tolerance=tolerance, floor=np.sqrt(xx * yy))
    # So may the sums of a row.
    for row, want, squares in zip(actual[3:], rows, (xx, yy), strict=True):
        typical = np.sqrt(squares / max(len(want) - 1, 1))
        assert_close(row, want, tolerance=tolerance, floor=typical)


def kernel(x, gamma):
    """The full kernel matrix, diagonal and all, pair by pair."""
    x = np.asarray(x, np.float64)
    out = np.zeros((len(x), len(x)))
    for i, j in itertools.product(range(len(x)), repeat=2):
        if gamma is None:
            out[i, j] = x[i] @ x[j]
        else:
            out[i, j] = np.exp(-gamma * np.linalg.norm(x[i] - x[j]) ** 2)
    return out


def biased_hsic(moments, dx, dy):
    """Tr(K H L H) / n^2 from the moments and the two diagonals."""
    _, xy, _, x_rows, y_rows = moments
    x_rows, y_rows, n = x_rows + dx, y_rows + dy, len(dx)
    total = xy + dx @ dy - 2 / n * (x_rows @ y_rows)
    return (total + x_rows.sum() * y_rows.sum() / n**2) / n**2


def debiased_hsic(moments, *_):
    """Song et al. 2012 (JMLR 13), equation 5, which has no use for the diagonals."""
    _, xy, _, x_rows, y_rows = moments
    n = len(x_rows)
    total = xy + x_rows.sum() * y_rows.sum() / ((n - 1) * (n - 2))
    return (total - 2 / (n - 2) * (x_rows @ y_rows)) / (n * (n - 3))


def cka(hsic, moments, dx, dy):
    """HSIC of both over the geometric mean of each with itself."""
    xx, _, yy, x_rows, y_rows = moments
    alone = hsic((xx, xx, xx, x_rows, x_rows), dx, dx)
    alone *= hsic((yy, yy, yy, y_rows, y_rows), dy, dy)
    return hsic(moments, dx, dy) / np.sqrt(alone)


def direct_biased(kx, ky):
    centre = np.eye(len(kx)) - 1 / len(kx)
    return np.trace(kx @ centre @ ky @ centre) / len(kx) ** 2


def direct_debiased(kx, ky):
    """The mean product of U-centred matrices (Szekely & Rizzo 2014)."""
    n = len(kx)

    def centred(a):
        a = a - np.diag(np.diag(a))
        rows = a.sum(1)
        a = a - (rows[:, None] + rows[None, :]) / (n - 2) + a.sum() / (n - 1) / (n - 2)
        return a - np.diag(np.diag(a))

    return np.sum(centred(kx) * centred(ky)) / (n * (n - 3))


def direct_quadruples(kx, ky):
    """The definition: the mean over all quadruples of different rows."""
    terms = [
        kx[i, j] * (ky[i, j] + ky[q, r] - 2 * ky[i, q])
        for i, j, q, r in itertools.permutations(range(len(kx)), 4)
    ]
    return np.mean(terms)


def matrices(x, y, gamma_x=None, gamma_y=None):
    """Both full kernel matrices and their diagonals."""
    kernels = kernel(x, gamma_x), kernel(y, gamma_y)
    return kernels, [np.diag(k) for k in kernels]


@pytest.mark.parametrize("name", KERNELS)
def test_reference_moments_give_hsic(name):
    x, y = features(7)
    kernels, diagonals = matrices(x, y, **KERNELS[name])
    moments = reference.moments(x, y, **KERNELS[name])
    biased, debiased = (f(moments, *diagonals) for f in (biased_hsic, debiased_hsic))
    assert_close(biased, direct_biased(*kernels), tolerance=1e-10)
    assert_close(debiased, direct_debiased(*kernels), tolerance=1e-10)
    assert_close(debiased, direct_quadruples(*kernels), tolerance=1e-10)


def test_reference_hand_computed():
    # Inner products of x: 2, 0, 1; of y: 3, -1, -3.
    x = np.array([[1.0, 0.0], [2.0, 1.0], [0.0, 1.0]])
    y = np.array([[1.0], [3.0], [-1.0]])
    moments = reference.moments(x, y)
    target = 10.0, 2 * (6 + 0 - 3), 38.0, [2.0, 3.0, 1.0], [2.0, 0.0, -4.0]
    assert_close(moments, tuple(map(np.array, target)), tolerance=1e-15)
    # Squared distances of x: 2, 2, 4.
    e2, e4 = np.exp(-1.0), np.exp(-2.0)
    moments = reference.moments(x, y, gamma_x=0.5)
    assert_close(moments[0], 2 * (2 * e2**2 + e4**2), tolerance=1e-15)
    assert_close(moments[1], 2 * (3 * e2 - e2 - 3 * e4), tolerance=1e-15)
    assert_close(moments[3], np.array([2 * e2, e2 + e4, e2 + e4]), tolerance=1e-15)


def check_equal_reference(size, name, **options):
    x, y = features(size)
    actual = compiled(x, y, **KERNELS[name], **options)
    check(actual, reference.moments(x, y, **KERNELS[name]))


@pytest.mark.parametrize("name", KERNELS)
def test_kernels_equal_reference(name):
    check_equal_reference(97, name, block_size=16)


@pytest.mark.parametrize("name", ["linear", "rbf"])
@pytest.mark.parametrize(
    ("size", "block_size", "implementation"),
    [(2, 16, "xla"), (7, None, None), (130, 64, "xla"), (97, None, "dense")],
)
def test_tiles_equal_reference(size, block_size, implementation, name):
    check_equal_reference(
        size, name, block_size=block_size, implementation=implementation
    )


def test_a_shift_is_taken_off_every_entry_but_the_diagonal():
    x, y = features(97)
    xx, xy, yy, x_rows, y_rows = reference.moments(x, y, **KERNELS["rbf"])
    s, t, pairs = 0.3, 0.9, 97 * 96
    target = (
        xx - 2 * s * x_rows.sum() + pairs * s**2,
        xy - t * x_rows.sum() - s * y_rows.sum() + pairs * s * t,
        yy - 2 * t * y_rows.sum() + pairs * t**2,
        x_rows - 96 * s,
        y_rows - 96 * t,
    )
    for block_size in (None, 16):
        actual = pairwise.moments(
            x, y, **KERNELS["rbf"], shift_x=s, shift_y=t, block_size=block_size
        )
        check(actual, target, tolerance=5e-6)


def test_more_rows_than_a_default_tile():
    check_equal_reference(1031, "mixed")


@pytest.mark.parametrize("implementation", ["dense", "xla"])
def test_hand_computed(implementation):
    # Orthonormal rows: no inner product but with itself, all distances root two.
    x = np.eye(5, 8, dtype=np.float32)
    y = np.ones((5, 3), np.float32)
    run = functools.partial(
        pairwise.moments, block_size=2, implementation=implementation
    )
    actual = run(x, y, gamma_x=0.5)
    e = np.exp(-1.0)
    rows = np.full(5, 4 * e), np.full(5, 12.0)
    check(actual, (20 * e**2, 60 * e, 180.0, *rows))
    zeros = np.zeros(5)
    check(run(x, x), (0.0, 0.0, 0.0, zeros, zeros))


def test_duplicates_and_zero_rows():
    # A distance of zero between equal rows must not come out below zero.
    x, y = features(97)
    x[1], x[2], x[3:5], y[:4] = x[0], -x[0], 0.0, 10 * y[0]
    actual = compiled(x, y, **KERNELS["rbf"], block_size=16)
    check(actual, reference.moments(x, y, **KERNELS["rbf"]), tolerance=1e-5)
    far = np.tile(30 * normals(0, 1, 6), (97, 1))
    actual = compiled(far, y, **KERNELS["rbf"], block_size=16)
    assert_close(actual.x_rows, np.full(97, 96.0), tolerance=1e-4)
    assert np.all(actual.x_rows <= 96.0)


def test_invariances():
    x, y = features(97)
    run = functools.partial(compiled, **KERNELS["rbf"], block_size=16)
    order = np.random.default_rng(3).permutation(97)
    actual, permuted = run(x, y), run(x[order], y[order])
    assert_close(permuted[:3], actual[:3], tolerance=2e-6)
    rows = actual.x_rows[order], actual.y_rows[order]
    assert_close(permuted[3:], rows, tolerance=2e-6)
    # A Gaussian kernel knows distances only.
    rotation = np.linalg.qr(normals(4, 6, 6))[0]
    assert_close(run(x @ rotation + 1, y - 1), actual, tolerance=5e-6)


def test_sides_may_be_exchanged():
    x, y = features(97)
    a = compiled(x, y, gamma_x=0.1, gamma_y=0.03, block_size=16)
    b = compiled(y, x, gamma_x=0.03, gamma_y=0.1, block_size=16)
    swapped = b.yy, b.xy, b.xx, b.y_rows, b.x_rows
    assert_close(tuple(a), swapped, tolerance=2e-6)


def test_gamma_may_be_any_scalar():
    x, y = features(7)
    x = x / 3
    target = reference.moments(x, y, gamma_x=1.0, gamma_y=1 / 32)
    check(pairwise.moments(x, y, gamma_x=1, gamma_y=np.float32(1 / 32)), target)

    @jax.jit
    def traced(x, y, gamma):
        return pairwise.moments(x, y, gamma_x=gamma, gamma_y=gamma / 32)

    check(traced(x, y, 1.0), target)


@pytest.mark.parametrize("name", KERNELS)
def test_cka_in_float32(name):
    x, y = features(97)
    kernels, diagonals = matrices(x, y, **KERNELS[name])
    moments = compiled(x, y, **KERNELS[name], block_size=16)
    moments = [np.asarray(value, np.float64) for value in moments]
    for hsic, direct in (
        (biased_hsic, direct_biased),
        (debiased_hsic, direct_debiased),
    ):
        target = direct(*kernels) / np.sqrt(
            direct(kernels[0], kernels[0]) * direct(kernels[1], kernels[1])
        )
        assert 0.1 < target < 0.9
        assert_close(cka(hsic, moments, *diagonals), target, tolerance=1e-4)


def test_bfloat16_rows_accumulate_in_float32():
    x, y = (jnp.asarray(v, jnp.bfloat16) for v in features(97))
    actual = compiled(x, y, **KERNELS["mixed"], block_size=16)
    exact = np.asarray(x, np.float64), np.asarray(y, np.float64)
    check(actual, reference.moments(*exact, **KERNELS["mixed"]), tolerance=1e-5)


def test_jit_equals_no_jit():
    x, y = features(7)
    options = {"gamma_x": 0.1, "block_size": 4}
    eager = pairwise.moments(x, y, **options)
    assert_close(eager, compiled(x, y, **options), tolerance=2e-6)


@pytest.mark.parametrize("order", [[0], [1, 0], [5, 2, 7, 0, 3, 6, 1, 4]], ids=len)
def test_sharded_equals_one_device(order):
    arrays = features(48)
    one = compiled(*arrays, gamma_y=0.03, block_size=5)
    mesh = make_mesh(order)
    with jax.set_mesh(mesh):
        actual = compiled(*share(mesh, arrays), gamma_y=0.03, block_size=5)
    assert_close(actual, one, tolerance=1e-6)


def test_compiled_text_holds_no_matrix():
    x, y = (jax.ShapeDtypeStruct((4096, d), jnp.float32) for d in (16, 24))
    executable = compiled.lower(x, y, gamma_x=0.1).compile()
    assert temporary_bytes(executable) < 4096**2 * 4 / 4
    assert largest_array(executable) < 4096**2 / 4


@pytest.mark.parametrize(
    ("x", "y", "options", "named"),
    [
        ((4, 3), (5, 3), {}, ("(4, 3)", "(5, 3)")),
        ((4,), (4, 3), {}, ("(4,)", "(4, 3)")),
        ((4, 3), (4, 3, 1), {}, ("(4, 3)", "(4, 3, 1)")),
        ((0, 3), (0, 3), {}, ("(0, 3)",)),
        ((4, 3), (4, 2), {"gamma_x": 0.0}, ("gamma_x must be > 0", "0.0")),
        ((4, 3), (4, 2), {"gamma_y": -1.0}, ("gamma_y must be > 0", "-1.0")),
        ((4, 3), (4, 2), {"gamma_y": np.nan}, ("gamma_y must be > 0", "nan")),
        ((4, 3), (4, 2), {"implementation": "triton"}, ("triton",)),
        ((4, 3), (4, 2), {"implementation": "mosaic_gpu"}, ("'mosaic_gpu'",)),
        ((4, 3), (4, 2), {"gamma_x": np.ones(2)}, ("gamma_x must be", "[1. 1.]")),
        ((4, 3), (4, 2), {"block_size": 0}, ("0",)),
    ],
)
def test_usage_errors(x, y, options, named):
    x, y = np.ones(x, np.float32), np.ones(y, np.float32)
    with pytest.raises(UsageError, match=r"pairwise\.moments: ") as error:
        pairwise.moments(x, y, **options)
    assert all(name in str(error.value) for name in named)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("which", [0, 1])
def test_features_must_be_floating(which):
    arrays = [np.ones((4, 3), np.float32), np.ones((4, 3), np.float32)]
    arrays[which] = np.ones((4, 3), np.int32)
    with pytest.raises(UsageError, match=r"pairwise\.moments: .*int32"):
        pairwise.moments(*arrays)


def test_numpy_rows_that_fill_their_tiles():
    x = np.random.default_rng(0).normal(size=(8, 4)).astype(np.float32)
    found = pairwise.moments(x, x, block_size=4)
    assert_close(
        found, pairwise.moments(jnp.asarray(x), x, block_size=3), tolerance=1e-5
    )
