"""NT-Xent and InfoNCE against NumPy float64, optax, and closed forms."""

import functools
import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
from reference import assert_close, central_differences
from reference import losses as reference
from reference.machine import largest_array, make_mesh, temporary_bytes

from rl_jax import losses
from rl_jax.errors import UsageError

pytestmark = pytest.mark.core

VALUE, GRADIENT = 1e-6, 1e-5
TEMPERATURES = (1.0, 0.5, 0.1, 0.05, 0.02, 0.01, 0.005)


def nt_xent(a, b, temperature):
    return losses.nt_xent(a, b, temperature=temperature)


def in_batch(query, key, temperature):
    return losses.info_nce(query, key, temperature=temperature)


def queued(query, key, negatives, temperature, valid):
    return losses.info_nce(query, key, negatives, temperature=temperature, valid=valid)


def evaluate(a, b, negatives, temperature, valid):
    """Every loss with all its gradients, in one compilation."""
    return {
        "nt_xent": jax.value_and_grad(nt_xent, (0, 1, 2))(a, b, temperature),
        "in_batch": jax.value_and_grad(in_batch, (0, 1, 2))(a, b, temperature),
        "queued": jax.value_and_grad(queued, (0, 1, 2, 3))(
            a, b, negatives, temperature, valid
        ),
    }


compiled = jax.jit(evaluate)
VALUES = {loss: jax.jit(loss) for loss in (nt_xent, in_batch, queued)}


def expected(a, b, negatives, temperature, valid):
    a, b, negatives = (np.asarray(x, np.float64) for x in (a, b, negatives))
    t = float(temperature)
    return {
        "nt_xent": reference.nt_xent(a, b, temperature=t),
        "in_batch": reference.info_nce(a, b, temperature=t),
        "queued": reference.info_nce(a, b, negatives, temperature=t, valid=valid),
    }


def normals(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def views(seed, size, dim, *, noise=0.7):
    a = normals(seed, size, dim)
    return a, a + np.float32(noise) * normals(seed + 1, size, dim)


def check(actual, target, *, temperature=1.0, value=VALUE, gradient=GRADIENT):
    """Loss and gradients, up to what a cosine rounded to float32 can give.

    A logit is a cosine over the temperature: its rounding error is, too.
    """
    chex.assert_tree_all_finite(actual)
    sharp = max(1.0, 0.05 / temperature)
    for name, (loss, gradients) in target.items():
        got, (*rows, dt) = actual[name]
        assert_close({name: got}, {name: loss}, tolerance=value, floor=sharp)
        named = {f"d {name}": list(gradients[:-1])}
        assert_close({f"d {name}": rows}, named, tolerance=gradient * sharp, floor=1e-3)
        # In the logarithm of the temperature the loss has slopes of order one.
        slope = {f"d {name} / dt": gradients[-1]}
        assert_close(dt, slope, tolerance=GRADIENT, floor=0.2 / temperature)


def test_reference_gradients_equal_central_differences():
    a, b = views(0, 4, 3)
    queue, t = normals(2, 6, 3), np.float64(0.3)

    def numeric(loss, *args):
        return central_differences(lambda *args: loss(*args)[0], *args)

    def ntx(a, b, t):
        return reference.nt_xent(a, b, temperature=t)

    def nce(a, b, t):
        return reference.info_nce(a, b, temperature=t)

    def moco(a, b, queue, t):
        return reference.info_nce(a, b, queue, temperature=t, valid=4)

    assert_close(ntx(a, b, t)[1], numeric(ntx, a, b, t), tolerance=1e-7)
    assert_close(nce(a, b, t)[1], numeric(nce, a, b, t), tolerance=1e-7)
    moco_numeric = numeric(moco, a, b, queue, t)
    assert_close(moco(a, b, queue, t)[1], moco_numeric, tolerance=1e-7)


@pytest.mark.parametrize("size", [2, 97, 513])
def test_equal_reference(size):
    a, b = views(size, size, 8)
    negatives, valid = normals(size + 2, 2 * size + 1, 8), 2 * size
    actual = compiled(a, b, negatives, 0.3, valid)
    check(actual, expected(a, b, negatives, 0.3, valid), temperature=0.3)
    for value, _ in actual.values():
        assert value.shape == ()
        assert value.dtype == jnp.float32


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_temperatures(temperature):
    a, b = views(97, 97, 8)
    negatives = normals(99, 195, 8)
    actual = compiled(a, b, negatives, temperature, 194)
    target = expected(a, b, negatives, temperature, 194)
    check(actual, target, temperature=temperature)


def test_hand_computed():
    e = np.eye(4, dtype=np.float32)
    ntx, nce, moco = VALUES.values()
    queue = np.stack([-e[0], e[2], e[0]])
    for t in (1.0, 0.5, 0.07):
        # Two identical views of two orthogonal rows: one cosine is 1, two are 0.
        same = ntx(e[:2], e[:2], t)
        assert_close(same, math.log1p(2 * math.exp(-1 / t)), tolerance=VALUE, floor=1)
        apart = ntx(e[:2], e[2:], t)
        assert_close(apart, math.log(3.0), tolerance=VALUE)
        # Each positive is antipodal, the other pair is orthogonal.
        worst = ntx(e[:2], -e[:2], t)
        target = math.log(math.exp(-1 / t) + 2) + 1 / t
        assert_close(worst, target, tolerance=VALUE)

        both = nce(e[:2], e[:2], t)
        assert_close(both, math.log1p(math.exp(-1 / t)), tolerance=VALUE, floor=1)
        # Row 0 meets -1 and 0, row 1 meets 0 and 0; the last slot is not filled.
        filled = moco(e[:2], e[:2], queue, t, 2)
        first = math.log1p(math.exp(-2 / t) + math.exp(-1 / t))
        second = math.log1p(2 * math.exp(-1 / t))
        assert_close(filled, (first + second) / 2, tolerance=VALUE, floor=1)


def test_one_pair_and_no_negatives_are_zero():
    a, b = views(0, 1, 5)
    negatives = normals(2, 3, 5)
    actual = compiled(a, b, negatives, 0.1, 0)
    zeros = jax.tree.map(np.zeros_like, actual)
    # Slopes of order one in log τ are of order 1/τ in τ.
    assert_close(actual, zeros, tolerance=1e-6, floor=1 / 0.1)


def test_extra_negatives_join_the_keys_of_the_batch():
    a, b = views(0, 37, 8)
    extra = normals(2, 20, 8)
    both = losses.info_nce(a, b, extra, temperature=0.3, valid=15, in_batch=True)
    # The same as keys of a larger batch, of which only the first 37 have queries.
    candidates = reference.normalize(np.concatenate([b, extra[:15]]))
    logits = reference.normalize(a) @ candidates.T / 0.3
    rows = np.log(np.exp(logits).sum(1)) - np.diagonal(logits)
    assert_close(both, rows.mean(), tolerance=VALUE)
    with pytest.raises(UsageError, match="leaves nothing"):
        losses.info_nce(a, b, temperature=0.3, in_batch=False)


@pytest.mark.parametrize("valid", [None, 4, 0])
def test_negatives_of_each_query_alone(valid):
    """The mean over queries, each with its own: what InfoNCE of one is."""
    a, b = views(0, 9, 8)
    own = normals(2, 9, 6, 8)
    own[:, 4:] *= np.nan if valid == 4 else 1  # slots that are not filled
    found = jax.jit(jax.value_and_grad(queued, (0, 1, 2, 3)))(a, b, own, 0.3, valid)
    count = 6 if valid is None else valid
    each = [
        reference.info_nce(*(x[i : i + 1].astype(np.float64) for x in (a, b)),
                           own[i, :count].astype(np.float64), temperature=0.3)
        for i in range(9)
    ]  # fmt: skip
    assert_close(found[0], np.mean([value for value, _ in each]), tolerance=VALUE)
    rows = [np.stack([g[k] for _, g in each]) / 9 for k in range(3)]
    negatives = np.zeros(own.shape)
    negatives[:, :count] = rows[2]
    expected = (rows[0][:, 0], rows[1][:, 0], negatives)
    for of, right in zip(found[1], expected, strict=False):
        assert_close(of, right, tolerance=GRADIENT, floor=1e-3)
    temperature = np.mean([g[3] for _, g in each])
    assert_close(found[1][3], temperature, tolerance=GRADIENT, floor=1e-3)
    # Where all have the same it is the other form.
    shared = np.broadcast_to(own[0, :4], (9, 4, 8))
    one = losses.info_nce(a, b, shared, temperature=0.3, in_batch=True)
    two = losses.info_nce(a, b, own[0, :4], temperature=0.3, in_batch=True)
    assert_close(one, two, tolerance=VALUE)


def test_equal_optax():
    a, b = views(0, 33, 8)
    labels = jnp.tile(jnp.arange(33), 2)

    def theirs(a, b, t):
        return optax.losses.ntxent(jnp.concatenate([a, b]), labels, t)

    with jax.numpy_rank_promotion("allow"):
        target = jax.jit(jax.value_and_grad(theirs, (0, 1, 2)))(a, b, 0.2)
    actual = jax.jit(jax.value_and_grad(nt_xent, (0, 1, 2)))(a, b, 0.2)
    assert_close(actual[0], target[0], tolerance=2e-6)
    assert_close(actual[1], target[1], tolerance=2e-5)


def test_invariances():
    a, b = views(0, 12, 6)
    rng = np.random.default_rng(3)
    lengths = np.exp(rng.normal(size=(2, 12, 1))).astype(np.float32)
    rotation = np.linalg.qr(normals(4, 6, 6))[0]
    order = rng.permutation(12)
    ntx, nce, moco = VALUES.values()
    for loss in (ntx, nce):
        value = loss(a, b, 0.2)
        for other in (
            (lengths[0] * a, lengths[1] * b),
            (a @ rotation, b @ rotation),
            (a[order], b[order]),
        ):
            assert_close(loss(*other, 0.2), value, tolerance=2e-6)
        assert abs(loss(a, b[order], 0.2) - value) > 0.1
    assert_close(ntx(b, a, 0.2), ntx(a, b, 0.2), tolerance=VALUE)
    negatives = normals(5, 9, 6)
    value = moco(a, b, negatives, 0.2, None)
    assert_close(moco(a, b, negatives[::-1], 0.2, 9), value, tolerance=VALUE)


def test_candidates_get_gradient():
    # With the candidates held still, as in a gather without gradient, the result
    # is another one; the loss stays the same, so only this comparison shows it.
    a, b = views(0, 8, 6)

    def gathered(a, b):
        z = jnp.concatenate([a, b])
        z = z / jnp.linalg.norm(z, axis=1, keepdims=True)
        logits = z @ jax.lax.stop_gradient(z).T / 0.2
        logits = jnp.where(jnp.eye(16, dtype=bool), -jnp.inf, logits)
        positive = jnp.sum(z * jnp.roll(z, 8, 0), 1) / 0.2
        return jnp.mean(jax.nn.logsumexp(logits, 1) - positive)

    half = jax.jit(jax.value_and_grad(gathered))(a, b)
    actual = jax.jit(jax.value_and_grad(nt_xent))(a, b, 0.2)
    target = reference.nt_xent(a, b, temperature=0.2)
    assert_close(half[0], actual[0], tolerance=2e-6)
    assert_close(actual[1], target[1][0], tolerance=GRADIENT)
    apart = np.linalg.norm(half[1] - actual[1]) / np.linalg.norm(actual[1])
    assert apart > 0.1

    negatives = normals(2, 5, 6)
    gradient = jax.jit(jax.grad(queued, 2))(a, b, negatives, 0.2, None)
    target = reference.info_nce(a, b, negatives, temperature=0.2)[1][2]
    assert np.min(np.linalg.norm(target, axis=1)) > 0
    assert_close(gradient, target, tolerance=GRADIENT)


def test_numerical_gradients():
    a, b = views(0, 3, 4)
    negatives, t = normals(2, 5, 4), jnp.float32(0.5)
    options = {"order": 1, "modes": ("rev",), "eps": 1e-2}
    ntx, nce, moco = VALUES.values()
    chex.assert_numerical_grads(ntx, (a, b, t), **options)
    chex.assert_numerical_grads(nce, (a, b, t), **options)
    moco = functools.partial(moco, valid=4)
    chex.assert_numerical_grads(moco, (a, b, negatives, t), **options)


def test_jit_equals_no_jit():
    a, b = views(0, 2, 8)
    args = (a, b, normals(2, 5, 8), 0.3, 4)
    assert_close(evaluate(*args), compiled(*args), tolerance=2e-6, floor=1.0)


def degenerate(dtype):
    """Identical, antipodal and zero rows among ordinary ones."""
    a, b = views(0, 12, 8)
    negatives = normals(2, 10, 8)
    a[1], a[2], a[3] = a[0], -a[0], 0.0
    b[0], b[1], b[2] = a[0], -a[0], a[0]
    a[4], b[4] = 0.0, 0.0
    a[5], b[5] = a[6], a[6]
    negatives[0], negatives[1], negatives[2] = a[0], -a[0], 0.0
    return jnp.asarray(a, dtype), jnp.asarray(b, dtype), jnp.asarray(negatives, dtype)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_degenerate_rows(dtype):
    arrays = degenerate(dtype)
    args = (*arrays, 0.01, 10)
    actual, target = compiled(*args), expected(*args)
    chex.assert_tree_all_finite(actual)
    # The loss is float32; the gradient is rounded to the inputs at the end.
    tolerance = 5e-5 if dtype == jnp.float32 else 2**-7
    for name, (value, gradients) in actual.items():
        loss, (*rows, slope) = target[name]
        assert_close({name: value}, {name: loss}, tolerance=VALUE, floor=5.0)
        assert_close({name: gradients[-1]}, {name: slope}, tolerance=GRADIENT)
        for got, want, inputs in zip(gradients[:-1], rows, arrays, strict=False):
            assert got.dtype == dtype
            # At a zero row the gradient is as large as the epsilon is small.
            alive = np.any(np.asarray(inputs, np.float32) != 0, axis=1)
            got = np.asarray(got, np.float32)[alive]
            # Largest entries are of order 1/τ = 100; what is zero is so up to rounding.
            assert_close(got, want[alive], tolerance=tolerance, floor=0.1)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_a_batch_of_identical_rows(dtype):
    a, queue = jnp.ones((12, 8), dtype), jnp.ones((10, 8), dtype)
    target = {"nt_xent": math.log(23), "in_batch": math.log(12), "queued": math.log(11)}
    actual = compiled(a, a, queue, 0.01, 10)
    chex.assert_tree_all_finite(actual)
    values = {name: value for name, (value, _) in actual.items()}
    assert_close(values, target, tolerance=1e-5)


def test_bfloat16_inputs_equal_reference_of_the_rounded_rows():
    a, b = (jnp.asarray(x, jnp.bfloat16) for x in views(7, 12, 8))
    args = (a, b, jnp.asarray(normals(9, 10, 8), jnp.bfloat16), 0.1, 10)
    actual, target = compiled(*args), expected(*args)
    check(actual, target, temperature=0.1, gradient=2**-7)


def test_unfilled_slots_never_matter():
    a, b = views(0, 6, 8)
    negatives = normals(2, 20, 8)
    chex.clear_trace_counter()

    @jax.jit
    @chex.assert_max_traces(n=1)
    def run(*args):
        return jax.value_and_grad(queued, (0, 1, 2, 3))(*args)

    for valid in (1, 7, 20):
        target = reference.info_nce(a, b, negatives, temperature=0.1, valid=valid)
        for garbage in (0.0, 1e30, np.inf, np.nan):
            unfilled = np.arange(20)[:, None] >= valid
            queue = np.where(unfilled, np.float32(garbage), negatives)
            actual = run(a, b, queue, 0.1, np.int32(valid))
            check({"queued": actual}, {"queued": target}, temperature=0.1)


@pytest.mark.parametrize(
    ("devices", "queue_spec"),
    [(1, P()), (2, P("data")), (4, P()), (8, P("data"))],
)
def test_sharded_equals_reference(devices, queue_spec):
    a, b = views(0, 24, 8)
    negatives = normals(2, 40, 8)
    # Reversed devices: the offset of a shard is its place in the mesh, not its id.
    mesh = make_mesh(range(devices)[::-1])
    rows = NamedSharding(mesh, P("data"))
    with jax.set_mesh(mesh):
        actual = compiled(
            jax.device_put(a, rows),
            jax.device_put(b, rows),
            jax.device_put(negatives, NamedSharding(mesh, queue_spec)),
            0.1,
            33,
        )
    check(actual, expected(a, b, negatives, 0.1, 33), temperature=0.1)


def compile_gradient(loss, *shapes):
    arrays = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    gradient = jax.value_and_grad(loss, tuple(range(len(arrays))))
    return jax.jit(gradient).lower(*arrays).compile()


@pytest.mark.parametrize(
    ("loss", "pairs", "shapes", "double"),
    [
        (nt_xent, 4096**2, [(2048, 64)] * 2, [(4096, 64)] * 2),
        (
            functools.partial(queued, valid=10_000),
            1024 * 65536,
            [(1024, 32), (1024, 32), (65536, 32)],
            [(1024, 32), (1024, 32), (131072, 32)],
        ),
    ],
    ids=["nt_xent", "queued"],
)
def test_gradient_memory_is_linear(loss, pairs, shapes, double):
    once = compile_gradient(loss, *shapes, ())
    twice = compile_gradient(loss, *double, ())
    memory = temporary_bytes(once)
    assert 0 < memory < pairs * 4 / 4
    assert temporary_bytes(twice) < 2.6 * memory
    # The tile is of a fixed size, so the larger problem is where a matrix shows.
    assert largest_array(once) < pairs / 4
    assert largest_array(twice) < pairs / 4


def test_sharded_gradient_holds_no_row_of_the_matrix():
    size, mesh = 4096, make_mesh(range(8))
    sharding = NamedSharding(mesh, P("data"))
    view = jax.ShapeDtypeStruct((size // 2, 64), jnp.float32, sharding=sharding)
    gradient = jax.jit(jax.value_and_grad(nt_xent, (0, 1, 2)))
    with jax.set_mesh(mesh):
        executable = gradient.lower(view, view, 0.1).compile()
    # A device owns size / 8 rows; all of their pairs at once would be size^2 / 8.
    assert temporary_bytes(executable) < size * size * 4 / 8
    assert largest_array(executable) < size * size / 8


@pytest.mark.parametrize("negatives", [(5, 2), (5,), (5, 3, 1), (5, 2, 3)])
def test_negatives_must_match(negatives):
    a, b = views(0, 4, 3)
    with pytest.raises(ValueError, match="info_nce: "):
        losses.info_nce(a, b, np.ones(negatives, np.float32), temperature=0.1)
