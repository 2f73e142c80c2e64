"""The kernels for Hopper GPUs: interpreted on CPU, lowered for CUDA, chosen or not."""

import re

import jax
import jax.experimental.pallas.mosaic_gpu as plgpu
import jax.numpy as jnp
import numpy as np
import pytest

from rl_jax import losses, pairwise
from rl_jax.errors import UsageError
from rl_jax.pairwise import mosaic_gpu, streaming
from rl_jax.pairwise.mosaic_gpu import backward, forward, kernel, parts, terms, weights
from rl_jax.pairwise.streaming import Operands, Plan

SCALE = 8.0
interpreter = getattr(plgpu, "InterpretGPUParams", None)
if interpreter is None:  # jax 0.10 keeps it to itself
    from jax._src.pallas.mosaic_gpu.interpret.params import (
        InterpretGPUParams as interpreter,
    )


def slow(*values):
    return pytest.param(*values, marks=pytest.mark.slow)


@pytest.fixture
def interpreted(monkeypatch):
    """Kernels run in Pallas' interpreter, barriers and all."""
    monkeypatch.setattr(kernel, "interpret", interpreter())
    monkeypatch.setattr(mosaic_gpu, "available", lambda kind: None)
    jax.clear_caches()
    yield
    jax.clear_caches()


@pytest.fixture
def on_hopper(monkeypatch):
    """As on a machine that has one: programs are only lowered."""
    monkeypatch.setattr(mosaic_gpu, "available", lambda kind: None)
    jax.clear_caches()
    yield
    jax.clear_caches()


def unit(rows, dim, seed=0):
    """Rows of norm 1 rounded to bfloat16, and the same in float64."""
    x = np.random.default_rng(seed).normal(size=(rows, dim))
    x = jnp.asarray(x / np.linalg.norm(x, axis=1, keepdims=True), jnp.bfloat16)
    return x, np.asarray(x, np.float64)


def shares(rows, seed):
    return np.random.default_rng(seed).uniform(0.5, 1.5, rows).astype(np.float32)


def exponentials(x, y=None):
    """exp(scale·⟨x_i, y_j⟩ − scale) in float64, self pairs without the diagonal."""
    e = np.exp(SCALE * (x @ (x if y is None else y).T) - SCALE)
    if y is None:
        np.fill_diagonal(e, 0.0)
    return e


def relative(found, expected):
    found = np.asarray(found, np.float64)
    return np.linalg.norm(found - expected) / np.linalg.norm(expected)


@pytest.mark.parametrize(("rows", "dim"), [(70, 64), slow(300, 128), (130, 320)])
def test_sums_of_self_pairs(interpreted, rows, dim):
    x, exact = unit(rows, dim)
    found = forward.sums(x, None, SCALE, SCALE)
    np.testing.assert_allclose(found, exponentials(exact).sum(1), rtol=1e-6)


@pytest.mark.parametrize(
    ("rows", "columns", "dim"), [(90, 70, 64), slow(90, 300, 64), slow(260, 70, 512)]
)
def test_sums_of_a_rectangle(interpreted, rows, columns, dim):
    (x, x_exact), (y, y_exact) = unit(rows, dim), unit(columns, dim, 1)
    of_rows, of_columns = forward.sums(x, y, SCALE, SCALE)
    e = exponentials(x_exact, y_exact)
    np.testing.assert_allclose(of_rows, e.sum(1), rtol=1e-6)
    np.testing.assert_allclose(of_columns, e.sum(0), rtol=1e-6)


def logits(x, y, bias=-2.0):
    """scale·⟨x_i, y_j⟩ + bias in float64."""
    return SCALE * x @ y.T + bias


def logistic(s):
    return 1 / (1 + np.exp(-s))


def left_out(rows, columns, seed=5):
    """For each row a column, some of them none."""
    return np.random.default_rng(seed).integers(-1, columns, rows).astype(np.int32)


def without(table, exclude):
    """A table with 0 where a row meets the column it leaves out."""
    return np.where(np.arange(table.shape[1]) == exclude[:, None], 0.0, table)


@pytest.mark.parametrize(("rows", "dim", "buffers"), [(512, 192, 2), slow(640, 512, 3)])
def test_rows_that_stream_past_a_block(interpreted, rows, dim, buffers):
    """More of them than there are buffers."""
    (x, x_exact), (y, y_exact) = unit(rows, dim), unit(128, dim, 1)
    cut = weights.Cut(tall=rows, results=1, buffers=buffers)
    found, total = weights.weights(
        x, y, None, None, SCALE, SCALE, sums=("value",), cut=cut
    )
    e = exponentials(x_exact, y_exact)
    assert relative(found, rounded(e)) < 2e-4
    np.testing.assert_allclose(total, e.sum(), rtol=1e-6)


@pytest.mark.parametrize("kind", ["softplus", slow("exp")])
@pytest.mark.parametrize(("rows", "columns", "dim"), [(90, 70, 64), slow(70, 300, 320)])
def test_sums_of_other_terms_and_without_some_columns(
    interpreted, kind, rows, columns, dim
):
    (x, x_exact), (y, y_exact) = unit(rows, dim), unit(columns, dim, 1)
    exclude = left_out(rows, columns)
    s = logits(x_exact, y_exact)
    table = without(np.logaddexp(0, s) if kind == "softplus" else np.exp(s), exclude)
    options = {"kind": kind, "exclude": jnp.asarray(exclude)}
    of_rows, of_columns = forward.sums(x, y, SCALE, 2.0, **options)
    np.testing.assert_allclose(of_rows, table.sum(1), rtol=1e-6)
    np.testing.assert_allclose(of_columns, table.sum(0), rtol=1e-6)


@pytest.mark.parametrize("t", [0.0, 1e-6, 0.3, 5.0, 40.0, 3000.0])
def test_terms(t):
    s = np.array([-t, t]) * terms.LN_2
    exact = np.logaddexp(0, s), 0.5 * (1 + np.tanh(s / 2))
    found = terms.of("softplus")
    given = jnp.asarray([-t, t], jnp.float32)
    np.testing.assert_allclose(found.value(given), exact[0], rtol=4e-7, atol=1e-30)
    np.testing.assert_allclose(found.weight(given), exact[1], rtol=2e-6, atol=1e-16)


@pytest.mark.parametrize(
    ("itself", "dim"), [slow(True, 64), slow(False, 64), slow(True, 320), (False, 320)]
)
def test_several_jobs_and_blocks_of_columns(interpreted, itself, dim):
    width = 128 if dim == 64 else 64
    cut = forward.Cut(rows=256, columns=512, width=width, buffers=3)
    cut = cut._replace(columns=256) if itself else cut
    rows = 520 if dim == 64 else 300
    (x, x_exact), (y, y_exact) = unit(rows, dim), unit(600, dim, 1)
    found = forward.sums(x, None if itself else y, SCALE, SCALE, cut=cut)
    e = exponentials(x_exact, None if itself else y_exact)
    expected = e.sum(1) if itself else (e.sum(1), e.sum(0))
    for f, r in zip(*map(jax.tree.leaves, (found, expected)), strict=True):
        np.testing.assert_allclose(f, r, rtol=1e-6)


@pytest.mark.parametrize(
    ("rows", "columns", "dim", "parts"),
    [
        (130, None, 64, 1),
        slow(300, None, 128, 2),
        (100, 90, 64, 1),
        slow(130, 90, 256, 1),
    ],
)
def test_weighted_rows(interpreted, rows, columns, dim, parts):
    x, x_exact = unit(rows, dim)
    a = shares(rows, 2)
    cut = backward.cut_for(rows, columns or rows, dim)._replace(parts=parts)
    if columns is None:
        w = exponentials(x_exact) * (a[:, None] + a)
        found = backward.weighted(x, None, jnp.asarray(a), None, SCALE, SCALE, cut=cut)
        expected = rounded(w) @ x_exact
    else:
        y, y_exact = unit(columns, dim, 1)
        b = shares(columns, 3)
        w = exponentials(x_exact, y_exact) * (a[:, None] + b)
        found = backward.weighted(
            x, y, jnp.asarray(a), jnp.asarray(b), SCALE, SCALE, cut=cut
        )
        expected = rounded(w) @ y_exact
    # Where float32 falls on the other side of a rounding to bfloat16, they differ.
    assert relative(found, expected) < 1e-4


def rounded(w):
    """Weights of 16 bits, as they are multiplied."""
    return np.asarray(jnp.asarray(w, jnp.bfloat16), np.float64)


@pytest.mark.parametrize("diagonal", [True, False])
def test_weights_written_out(interpreted, diagonal):
    (x, x_exact), (y, y_exact) = unit(128, 320), unit(256, 320, 1)
    y, y_exact = (x, x_exact) if diagonal else (y, y_exact)
    a, b = shares(len(x), 2), shares(len(y), 3)
    (found,) = weights.weights(
        x, y, jnp.asarray(a), jnp.asarray(b), SCALE, SCALE, diagonal=diagonal
    )
    e = exponentials(x_exact, None if diagonal else y_exact)
    assert found.dtype == jnp.bfloat16
    assert relative(found, rounded(e * (a[:, None] + b))) < 2e-4
    if diagonal:
        assert not np.diag(found).any()


@pytest.mark.parametrize(
    ("kind", "alike", "counts"),
    [
        ("softplus", False, (100, 156)),
        ("softplus", True, None),
        slow("softplus", True, (100, 156)),
        slow("exp", False, None),
    ],
)
def test_weights_of_other_terms_and_without_some_columns(
    interpreted, kind, alike, counts
):
    (x, x_exact), (y, y_exact) = unit(128, 64), unit(256, 64, 1)
    a, b = shares(len(x), 2), shares(len(y), 3)
    exclude = left_out(len(x), len(y))
    found, of_weights, of_values = weights.weights(
        *(x, y, *((None, None) if alike else map(jnp.asarray, (a, b))), SCALE, 2.0),
        kind=kind,
        exclude=jnp.asarray(exclude),
        counts=counts,
        sums=("weight", "value"),
    )
    s = logits(x_exact, y_exact)
    table = without(np.logaddexp(0, s) if kind == "softplus" else np.exp(s), exclude)
    exact = without(logistic(s) if kind == "softplus" else np.exp(s), exclude)
    exact = exact * (1 if alike else a[:, None] + b)
    if counts:
        for v in (table, exact):
            v[counts[0] :] = v[:, counts[1] :] = 0
    expected = rounded(exact)
    assert relative(found, expected) < 2e-4
    np.testing.assert_allclose(of_weights, exact.sum(), rtol=1e-6)
    np.testing.assert_allclose(of_values, table.sum(), rtol=1e-6)
    np.testing.assert_array_equal(np.asarray(found) == 0, expected == 0)


@pytest.mark.parametrize(
    ("loss", "dim"),
    [
        ("nt_xent", 40),
        ("sigmoid", 40),
        slow("nt_xent", 300),
        slow("clip", 40),
        slow("clip", 300),
        slow("sigmoid", 300),
    ],
)
def test_a_loss_and_its_gradients_are_those_of_the_other_path(interpreted, loss, dim):
    a, b = (jnp.asarray(unit(70, dim, seed)[1], jnp.float32) for seed in (0, 1))

    def value(a, b, scale, bias, implementation):
        options = {"precision": "bf16", "implementation": implementation}
        if loss == "clip":
            return losses.clip(a, b, logit_scale=scale, **options)
        if loss == "sigmoid":
            return losses.sigmoid(a, b, logit_scale=scale, bias=bias, **options)
        return losses.nt_xent(a, b, temperature=1 / scale, **options)

    wanted = (0, 1, 2, 3) if loss == "sigmoid" else (0, 1, 2)
    found, expected = (
        jax.value_and_grad(value, argnums=wanted)(a, b, SCALE, -2.0, i)
        for i in ("mosaic_gpu", "xla")
    )
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-6)
    for f, r in zip(found[1], expected[1], strict=True):
        assert relative(f, np.asarray(r, np.float64)) < 1e-4


def test_numbers_of_columns_that_there_are_not(interpreted):
    """More rows than columns: those beyond leave none out, and the bias counts all."""
    (x, x_exact), (y, y_exact) = unit(130, 64), unit(70, 64, 1)

    def value(bias):
        options = {"scale": SCALE, "bias": bias, "exclude": jnp.arange(130)}
        return pairwise.sigmoid(x, y, implementation="mosaic_gpu", **options).sum()

    s = logits(x_exact, y_exact)
    exclude = np.where(np.arange(130) < 70, np.arange(130), -1)
    found = jax.value_and_grad(value)(-2.0)
    np.testing.assert_allclose(
        found, [without(f, exclude).sum() for f in (np.logaddexp(0, s), logistic(s))],
        rtol=2e-6,
    )  # fmt: skip


@pytest.mark.slow
def test_strips_and_tiles_number_columns_anew(interpreted, monkeypatch):
    monkeypatch.setattr(parts, "STRIP", 128)
    monkeypatch.setattr(parts, "rows_of_tile", lambda rows, most: 128)
    (x, x_exact), (y, y_exact) = unit(200, 64), unit(290, 64, 1)
    exclude = left_out(200, 290)

    def value(x, y, bias):
        options = {"scale": SCALE, "bias": bias, "exclude": jnp.asarray(exclude)}
        return pairwise.sigmoid(x, y, implementation="mosaic_gpu", **options).sum()

    found, gradients = jax.value_and_grad(value, argnums=(0, 1, 2))(x, y, -2.0)
    s = logits(x_exact, y_exact)
    w = without(logistic(s), exclude)
    np.testing.assert_allclose(
        found, without(np.logaddexp(0, s), exclude).sum(), rtol=1e-6
    )
    np.testing.assert_allclose(gradients[2], w.sum(), rtol=2e-6)
    expected = SCALE * rounded(w) @ y_exact, SCALE * rounded(w).T @ x_exact
    for f, r in zip(gradients, expected, strict=False):
        assert relative(f, r) < 5e-3  # the gradient is rounded to bfloat16


@pytest.mark.slow
def test_several_jobs_leave_columns_out(interpreted):
    (x, x_exact), (y, y_exact) = unit(300, 64), unit(600, 64, 1)
    exclude = left_out(300, 600)
    cut = forward.Cut(rows=128, columns=512, width=128, buffers=2)
    options = {"kind": "softplus", "exclude": jnp.asarray(exclude), "cut": cut}
    of_rows, of_columns = forward.sums(x, y, SCALE, 2.0, **options)
    table = without(np.logaddexp(0, logits(x_exact, y_exact)), exclude)
    np.testing.assert_allclose(of_rows, table.sum(1), rtol=1e-6)
    np.testing.assert_allclose(of_columns, table.sum(0), rtol=1e-6)


def lowered(f, *shapes):
    """The number of kernels in a program for CUDA."""
    text = jax.jit(f).trace(*shapes).lower(lowering_platforms=("cuda",)).as_text()
    return text.count("custom_call @mosaic_gpu")


def rows_of(rows, dim, dtype=jnp.bfloat16):
    return jax.ShapeDtypeStruct((rows, dim), dtype)


@pytest.mark.core
@pytest.mark.parametrize("dim", range(64, 513, 64))
def test_lowers_at_every_width(dim):
    x, y = rows_of(5000, dim), rows_of(700, dim)
    a, b = (jax.ShapeDtypeStruct((n,), jnp.float32) for n in (5000, 700))
    assert lowered(lambda x: forward.sums(x, None, 1.0, 1.0), x) == 1
    assert lowered(lambda x, y: forward.sums(x, y, 1.0, 1.0), x, y) == 1
    # Jobs of 2,048 rows, which the shorter ones do not need.
    assert lowered(lambda x: forward.sums(x, None, 1.0, 1.0), rows_of(70000, dim)) == 1
    if dim <= mosaic_gpu.NARROW:
        f = backward.weighted
        assert lowered(lambda x, a: f(x, None, a, None, 1.0, 1.0), x, a) == 1
        assert lowered(lambda *v: f(*v, 1.0, 1.0), x, y, a, b) == 1
    exclude = jax.ShapeDtypeStruct((5000,), jnp.int32)

    def softplus(x, y, exclude):
        return forward.sums(x, y, 1.0, 1.0, kind="softplus", exclude=exclude)

    assert lowered(softplus, x, y, exclude) == 1
    x, a = rows_of(8192, dim), jax.ShapeDtypeStruct((8192,), jnp.float32)
    exclude = jax.ShapeDtypeStruct((8192,), jnp.int32)

    def of_softplus(x, a, exclude):
        options = {"kind": "softplus", "exclude": exclude, "counts": (8000, 8000)}
        options["sums"] = ("weight",) if a is not None else ("weight", "value")
        return weights.weights(x, x, a, a, 1.0, 1.0, **options)

    assert lowered(of_softplus, x, a, exclude) == 1
    assert lowered(of_softplus, x, None, exclude) == 1
    options = {"kind": "softplus", "sums": ("weight", "value")}

    def of_whole_tiles(x, exclude):
        return weights.weights(x, x, None, None, 1.0, 1.0, exclude=exclude, **options)

    assert lowered(of_whole_tiles, x, exclude) == 1
    if dim > mosaic_gpu.NARROW:
        for diagonal in (True, False):

            def tile(x, a, diagonal=diagonal):
                return weights.weights(x, x, a, a, 1.0, 1.0, diagonal=diagonal)

            assert lowered(tile, x, a) == 1


@pytest.mark.parametrize("dim", range(64, 513, 64))
@pytest.mark.parametrize("rows", [4096, 16384, 2**20])
def test_a_cut_fits_and_its_jobs_fill_the_device(rows, dim):
    cut = forward.cut_for(rows, rows, dim, itself=True)
    assert cut.buffers >= 2
    assert cut.rows == cut.columns
    assert cut.columns % (cut.width * kernel.WARPGROUPS) == 0
    if rows > 4096:
        count = -(-rows // cut.rows)
        assert count * (count + 1) // 2 > 2 * kernel.PROCESSORS
    if dim <= mosaic_gpu.NARROW:
        assert backward.cut_for(rows, rows, dim).buffers >= 2
    tile = parts.rows_of_tile(rows, parts.LARGE_TILE)
    cut = weights.cut_for(tile, tile, dim)
    # A whole tile in flight, and every multiprocessor busy.
    assert cut.buffers * kernel.chunk_of(dim) >= dim
    assert weights.cut_for(tile, tile, dim, lists=2).buffers >= 3
    blocks = (tile // cut.tall) * (tile // weights.BLOCK)
    assert blocks / kernel.PROCESSORS / -(-blocks // kernel.PROCESSORS) > 0.96


@pytest.mark.parametrize(
    ("rows", "itself", "of_rectangles"),
    [
        (100, 128, 128),
        (5000, 5120, 5120),
        (16384, 8192, 8192),
        (32768, 8192, 8192),
        (65536, 8192, 16384),
        (70000, 8192, 14336),
    ],
)
def test_tiles_of_weights(rows, itself, of_rectangles):
    assert parts.rows_of_tile(rows, parts.TILE) == itself
    assert parts.rows_of_tile(rows, parts.LARGE_TILE) == of_rectangles


@pytest.mark.parametrize("dim", [100, 500])
def test_is_chosen_where_it_runs(on_hopper, dim):
    def value(x, scale, implementation):
        return pairwise.logsumexp(
            x, scale=scale, max_norm=1.0, implementation=implementation
        ).sum()

    def kernels(rows, dtype=jnp.bfloat16, implementation=None):
        f = jax.value_and_grad(value, argnums=(0, 1))
        shapes = rows_of(rows, dim, dtype), jax.ShapeDtypeStruct((), jnp.float32)
        return lowered(lambda x, s: f(x, s, implementation), *shapes)

    assert kernels(9000) > 1
    assert kernels(9000, implementation="xla") == 0
    assert kernels(9000, jnp.float32) == 0
    assert kernels(500) == 0


@pytest.mark.parametrize("dim", [100, 500])
def test_is_chosen_for_siglip(on_hopper, dim):
    def value(a, b, scale, bias):
        options = {"logit_scale": scale, "bias": bias, "precision": "bf16"}
        return losses.sigmoid(a, b, **options)

    x, one = rows_of(17000, dim, jnp.float32), jax.ShapeDtypeStruct((), jnp.float32)
    f = jax.value_and_grad(value, argnums=(0, 1, 2, 3))

    def by_rows(a, b, scale, bias):
        options = {"scale": scale, "bias": bias, "precision": "bf16"}
        return pairwise.sigmoid(a, b, **options).sum()

    small = rows_of(5000, dim, jnp.float32)
    assert lowered(f, small, small, one, one) == 1
    assert lowered(jax.value_and_grad(by_rows), small, small, one, one) == 0
    assert lowered(jax.value_and_grad(by_rows), x, x, one, one) == 2
    # Value and gradient in one sweep; the value alone has its own.
    assert lowered(f, x, x, one, one) == 1
    assert lowered(value, x, x, one, one) == 1
    batch = [jax.ShapeDtypeStruct((2, *v.shape), v.dtype) for v in (x, x, one, one)]
    assert lowered(jax.vmap(f), *batch) == 1


def test_columns_and_vmap(on_hopper):
    def both(x, y):
        one, two = pairwise.logsumexp(x, y, scale=8.0, max_norm=1.0, axis="both")
        return one.sum() + two.sum()

    gradient = jax.grad(both, argnums=(0, 1))
    x, y = rows_of(8192, 64), rows_of(4096, 64)
    assert lowered(gradient, x, y) == 3
    batch = [jax.ShapeDtypeStruct((2, *v.shape), v.dtype) for v in (x, y)]
    assert lowered(jax.vmap(gradient), *batch) == 3


DEVICES = 8


@pytest.fixture
def mesh():
    axis = (jax.sharding.AxisType.Auto,)
    return jax.make_mesh((DEVICES,), ("data",), axis_types=axis)


def sigmoid_of(a, b, scale, bias, **options):
    return losses.sigmoid(a, b, logit_scale=scale, bias=bias, **options)


def clip_of(a, b, scale, bias, **options):
    return losses.clip(a, b, logit_scale=scale, **options) + bias


def nt_xent_of(a, b, scale, bias, **options):
    return losses.nt_xent(a, b, temperature=1 / scale, **options) + bias


def unshared_of(a, b, scale, bias, **options):
    """Keys whose number the devices do not divide: each has all of them."""
    options |= {"scale": scale, "max_norm": 2.0, "exclude": jnp.arange(len(a))}
    return pairwise.logsumexp(a, b[:-3], **options).sum() + bias


@pytest.mark.parametrize("loss", [nt_xent_of, clip_of, sigmoid_of, unshared_of])
def test_on_several_devices_it_is_the_same_sum(on_hopper, monkeypatch, mesh, loss):
    """How the devices' shares are put together, with other sums in the kernels' place.

    What the kernels compute is told apart above; here they are XLA's.
    """
    asked = {"sums": set(), "gradients": set()}

    def note(name, given):
        columns = given.x if given.y is None else given.y
        asked[name].add((len(given.x), len(columns)))

    def sums(plan, given):
        note("sums", given)
        return streaming.sums(plan, given)

    def gradients(plan, given, bars):
        note("gradients", given)
        return streaming.gradients(plan, given, bars)

    monkeypatch.setattr(mosaic_gpu, "sums", sums)
    monkeypatch.setattr(mosaic_gpu, "gradients", gradients)
    a, b = (jnp.asarray(unit(64 * DEVICES, 24, s)[1], jnp.float32) for s in (0, 1))
    f = jax.value_and_grad(loss, argnums=(0, 1, 2, 3))
    options = {"precision": "bf16"}
    expected = f(a, b, SCALE, -2.0, implementation="xla", **options)
    with jax.set_mesh(mesh):
        found = f(a, b, SCALE, -2.0, implementation="mosaic_gpu", **options)
    if loss is nt_xent_of:
        calls = {(128, 128), (128, (DEVICES - 1) * 128)}
    else:
        calls = {(64, 64 * DEVICES - (3 if loss is unshared_of else 0))}
    assert asked == {"sums": calls, "gradients": calls}
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-6)
    for one, other in zip(found[1], expected[1], strict=True):
        assert relative(one, np.asarray(other, np.float64)) < 1e-5


def test_is_chosen_on_several_devices(on_hopper, monkeypatch, mesh):
    def f(rows, loss=clip_of, **options):
        x = rows_of(rows, 64, jnp.float32)
        scale = jax.ShapeDtypeStruct((), jnp.float32)

        def value(a, b, scale):
            return loss(a, b, scale, 0.0, precision="bf16", **options)

        return lowered(jax.value_and_grad(value, argnums=(0, 1, 2)), x, x, scale)

    with jax.set_mesh(mesh):
        assert f(16384) == 3
        # Pairs of its own, and with the others: sums and gradients of each.
        assert f(16384, nt_xent_of) == 4
        assert f(8192) == 0
        assert f(16384, implementation="ring") == 0
        # What a trial finds may differ from host to host: all have to be asked.
        monkeypatch.setattr(mosaic_gpu, "_everywhere", set())
        monkeypatch.setattr(jax, "process_count", lambda: 2)
        for any_of, count in ((None, 0), (lambda _: True, 0), (lambda own: own, 3)):
            if any_of is not None:
                pairwise.settle(any_of)
            jax.clear_caches()
            assert f(16384) == count
        assert f(16384, implementation="mosaic_gpu") == 3
        pairwise.settle(lambda _: True)
        jax.clear_caches()
        assert f(16384) == 0


def test_memory_does_not_grow_with_the_pairs(on_hopper):
    """Partial sums and constants: those of a strip, however many rows there are."""
    x = rows_of(2**21, 64)
    options = {"scale": 8.0, "max_norm": 1.0, "implementation": "mosaic_gpu"}
    f = jax.jit(lambda x: pairwise.logsumexp(x, **options))
    text = f.trace(x).lower(lowering_platforms=("cuda",)).as_text()
    assert len(text) < 2e6
    sizes = [
        int(np.prod([int(n) for n in shape.split("x")[:-1]]))
        for shape in re.findall(r"tensor<([0-9x]+xf32)>", text)
    ]
    # Two sums for each row of a strip and each job beside it.
    assert max(sizes) == 2 * parts.STRIP**2 / 2048


def test_the_kernels_count_in_32_bits(on_hopper):
    with jax.enable_x64(True):
        x = jax.ShapeDtypeStruct((8192, 64), jnp.bfloat16)
        f = jax.grad(lambda x: pairwise.logsumexp(x, scale=8.0, max_norm=1.0).sum())
        assert lowered(f, x) == 2
        x = rows_of(17000, 64, jnp.float32)
        f = jax.value_and_grad(lambda x: sigmoid_of(x, x, 8.0, -2.0, precision="bf16"))
        assert lowered(f, x) == 1


def test_a_program_for_another_device_takes_the_other_path(on_hopper):
    x = jnp.asarray(unit(4096, 64)[0])
    value = jax.jit(lambda x: pairwise.logsumexp(x, scale=8.0, max_norm=1.0))(x)
    expected = pairwise.logsumexp(x, scale=8.0, implementation="dense")
    np.testing.assert_allclose(value, expected, rtol=1e-6)


def test_a_second_derivative_says_where_to_go(on_hopper):
    x = jnp.ones((64, 64), jnp.bfloat16)

    def value(x):
        options = {"max_norm": 1.0, "implementation": "mosaic_gpu"}
        return pairwise.logsumexp(x, scale=8.0, **options).sum()

    with pytest.raises(UsageError, match="no second derivative; give"):
        jax.eval_shape(jax.grad(lambda x: jax.grad(value)(x).sum()), x)


def test_not_inside_a_shard_map(on_hopper):
    mesh = jax.make_mesh((2,), ("rows",), axis_types=(jax.sharding.AxisType.Auto,))
    spec = jax.sharding.PartitionSpec("rows")

    def inside(implementation):
        def value(x):
            return pairwise.logsumexp(x, scale=8.0, implementation=implementation)

        return jax.shard_map(
            value, mesh=mesh, in_specs=spec, out_specs=spec, check_vma=False
        )

    x = rows_of(16384, 64)
    assert lowered(inside(None), x) == 0
    with pytest.raises(UsageError, match="not for the inside of a shard_map"):
        jax.eval_shape(inside("mosaic_gpu"), x)


def test_does_not_run_here():
    assert mosaic_gpu.available("exp") == "the device is cpu, not an NVIDIA GPU"
    x = jnp.ones((4096, 64), jnp.bfloat16)
    assert pairwise.logsumexp(x, scale=1.0).shape == (4096,)
    with pytest.raises(UsageError, match="the device is cpu, not an NVIDIA GPU; use"):
        pairwise.logsumexp(x, scale=1.0, implementation="mosaic_gpu")


def test_another_gpu_or_a_trial_that_fails_is_no_error(monkeypatch):
    class Device:
        compute_capability = "8.0"

    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr(jax, "devices", lambda: [Device])
    reason = mosaic_gpu.available.__wrapped__("exp")
    assert reason == "compute capability is 8.0, not 9.0 (H100, H200)"

    def broken(kind):
        raise NotImplementedError("renamed")

    Device.compute_capability = "9.0"
    monkeypatch.setattr(mosaic_gpu, "_try", broken)
    with pytest.warns(UserWarning, match="not used: a trial failed: NotImpl"):
        reason = mosaic_gpu.available.__wrapped__("exp")
    assert reason == "a trial failed: NotImplementedError: renamed"
    monkeypatch.setattr(mosaic_gpu, "_try", lambda kind: "wrong")
    with pytest.warns(UserWarning, match="not used: wrong"):
        assert mosaic_gpu.available.__wrapped__("exp") == "wrong"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "module", "name", "dim"),
    [
        ("exp", forward, "sums", 64),
        ("exp", backward, "weighted", 64),
        ("exp", weights, "weights", 320),
        ("softplus", forward, "sums", 64),
        ("softplus", weights, "weights", 64),
    ],
)
def test_the_trial_tells_right_from_wrong(
    interpreted, monkeypatch, kind, module, name, dim
):
    monkeypatch.setattr(mosaic_gpu, "TRIAL_DIMS", (dim,))
    assert mosaic_gpu._try(kind) is None
    right = getattr(module, name)
    monkeypatch.setattr(
        module, name, lambda *a, **k: jax.tree.map(lambda v: v * 1.03, right(*a, **k))
    )
    jax.clear_caches()
    assert f"at D = {dim} was" in mosaic_gpu._try(kind)


def operands(**changed):
    x = jnp.ones((256, 64), jnp.bfloat16)
    one = jnp.float32(1.0)
    given = Operands(x, x, one, None, one, None, None, None)
    return given._replace(**changed)


@pytest.mark.parametrize(
    ("plan", "changed", "reason"),
    [
        ({"kind": "softplus"}, {"y": None}, "are those of rows of a rectangle"),
        ({"kind": "softplus", "both": True}, {}, "are those of rows of a rectangle"),
        ({"kind": "running_exp"}, {}, "a running maximum is not kept"),
        ({}, {"bias": jnp.zeros(256)}, "valid and group are not"),
        ({}, {"group": jnp.zeros(256, jnp.int32)}, "valid and group are not"),
        ({}, {"offset": jnp.float32(1.0)}, "exponentials have no bias"),
        ({"precision": "bf16x3"}, {}, "not precision='bf16x3'"),
        ({}, {"x": jnp.ones((256, 64))}, "bfloat16 rows or precision='bf16'"),
        ({}, {"x": jnp.ones((256, 576), jnp.bfloat16)}, "at most 512, got 576"),
        ({}, {"x": jnp.ones((32, 64), jnp.bfloat16)}, "at least 64, got 32 and 256"),
    ],
)
def test_what_it_leaves_to_others(plan, changed, reason):
    settings = {"kind": "exp", "rows": 256, "columns": 256, "precision": None} | plan
    assert reason in mosaic_gpu.supports(Plan(**settings), operands(**changed))


def test_what_it_takes():
    plan = Plan("exp", 256, 256, "bf16")
    assert mosaic_gpu.supports(plan, operands()) is None
    assert mosaic_gpu.supports(plan, operands(y=None)) is None
    assert mosaic_gpu.supports(plan, operands(x=jnp.ones((256, 64)))) is None
    given = operands(exclude=jnp.zeros(256, jnp.int32))
    assert mosaic_gpu.supports(plan, given) is None
    given = given._replace(offset=jnp.float32(1.0), shift=None)
    assert mosaic_gpu.supports(plan._replace(kind="softplus"), given) is None


def test_constants_make_a_power_of_two():
    factor, minus = np.asarray(kernel.constants(3.0, 2.0), np.float64)
    s = np.linspace(-1, 1, 5)
    np.testing.assert_allclose(2 ** (s * factor - minus), np.exp(3 * s - 2), rtol=1e-6)
