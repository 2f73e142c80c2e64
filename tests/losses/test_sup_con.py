"""The supervised contrastive loss against NumPy float64 and closed forms."""

import functools
import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import assert_close, central_differences
from reference import losses as reference
from reference.machine import largest_array, make_mesh, share, temporary_bytes

from rl_jax import losses
from rl_jax.errors import UsageError

pytestmark = pytest.mark.core

VALUE, GRADIENT = 1e-6, 1e-5


def evaluate(z, label, temperature, implementation=None):
    """The loss and its gradients to the rows and the temperature."""

    def loss(z, temperature):
        return losses.sup_con(
            z, label, temperature=temperature, implementation=implementation
        )

    return jax.value_and_grad(loss, (0, 1))(z, temperature)


compiled = jax.jit(evaluate, static_argnames="implementation")


def expected(z, label, temperature):
    z = np.asarray(z, np.float64)
    return reference.sup_con(z, np.asarray(label), temperature=temperature)


def normals(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def labelled(seed, size, dim=8):
    """Rows around the centres of their classes: some alone, some unlabelled."""
    rng = np.random.default_rng(seed)
    label = rng.integers(-1, max(1, size // 4), size)
    centre = rng.normal(size=(size, dim))[label] * (label >= 0)[:, None]
    return (centre + rng.normal(size=(size, dim))).astype(np.float32), label.astype(
        np.int32
    )


def check(actual, target, *, temperature, value=VALUE, gradient=GRADIENT):
    """Loss and gradients, up to what a cosine rounded to float32 can give."""
    chex.assert_tree_all_finite(actual)
    sharp = max(1.0, 0.05 / temperature)
    assert_close({"loss": actual[0]}, {"loss": target[0]}, tolerance=value, floor=sharp)
    rows, slope = {"d z": actual[1][0]}, {"d temperature": actual[1][1]}
    want, target_slope = {"d z": target[1][0]}, {"d temperature": target[1][1]}
    assert_close(rows, want, tolerance=gradient * sharp, floor=1e-2)
    # In the logarithm of the temperature the loss has slopes of order one.
    assert_close(slope, target_slope, tolerance=gradient, floor=0.2 / temperature)


def explicit(z, label, temperature, *, positives_inside=False):
    """Equations 2 (out) and 3 (in) of Khosla et al. 2020, sum by sum."""
    z = z.astype(np.float64) / np.linalg.norm(z, axis=1, keepdims=True)
    terms = []
    for i in range(len(z)):
        others = [j for j in range(len(z)) if j != i]
        positives = [p for p in others if label[p] == label[i] != -1]
        if not positives:
            continue
        total = sum(math.exp(z[i] @ z[a] / temperature) for a in others)
        ratios = [math.exp(z[i] @ z[p] / temperature) / total for p in positives]
        if positives_inside:
            terms.append(-math.log(sum(ratios) / len(ratios)))
        else:
            terms.append(-sum(map(math.log, ratios)) / len(ratios))
    return sum(terms) / len(terms)


def test_reference_gradients_equal_central_differences():
    for label in ([0, 0, 0, 0], [0, 1, 0, -1], [1, 1, -1, -1], [0, 1, 2, -1]):
        args = normals(0, 4, 3), np.float64(0.4)

        def loss(z, temperature, label=label):
            return reference.sup_con(z, label, temperature=temperature)

        numeric = central_differences(lambda *args, loss=loss: loss(*args)[0], *args)
        assert_close(loss(*args)[1], numeric, tolerance=1e-7)


@pytest.mark.parametrize("size", [2, 3, 37, 130, 1031])
def test_equal_reference(size):
    z, label = labelled(size, size)
    if size < 4:
        label = np.zeros_like(label)
    actual = compiled(z, label, 0.2)
    check(actual, expected(z, label, 0.2), temperature=0.2)
    assert actual[0].shape == ()
    assert actual[0].dtype == jnp.float32


@pytest.mark.parametrize("temperature", [1.0, 0.1, 0.05, 0.02, 0.01])
def test_temperatures(temperature):
    z, label = labelled(0, 37)
    actual = compiled(z, label, temperature)
    check(actual, expected(z, label, temperature), temperature=temperature)


def test_four_views_equal_the_explicit_formula():
    # 12 rows: the four views of each of three examples, one after another.
    z, label = normals(0, 3, 1, 8) + 0.7 * normals(1, 3, 4, 8), np.arange(3)
    z, label = z.reshape(12, 8), np.repeat(label, 4)
    target = explicit(z, label, 0.2)
    assert_close(expected(z, label, 0.2)[0], target, tolerance=1e-6)
    assert_close(compiled(z, label, 0.2)[0], target, tolerance=VALUE, floor=1.0)
    # The sum over positives inside the logarithm is another loss.
    assert abs(target - explicit(z, label, 0.2, positives_inside=True)) > 1e-2


def test_uneven_classes_equal_the_explicit_formula():
    z = normals(0, 12, 8)
    for label in (
        [0, 0, 0, 0, 0, 1, 1, 2, 3, 4, 4, 4],  # two rows without a positive
        [-1, 0, 0, -1, 0, 1, 1, 2, -1, 4, 4, 4],  # unlabelled rows share no class
        [7] * 12,
        [7] * 11 + [-1],
    ):
        label = np.array(label, np.int32)
        target = explicit(z, label, 0.3)
        assert_close(expected(z, label, 0.3)[0], target, tolerance=1e-6)
        check(compiled(z, label, 0.3), expected(z, label, 0.3), temperature=0.3)


def test_hand_computed():
    e = np.eye(8, dtype=np.float32)
    cases = [
        # Two classes of two equal rows: the positive is 1, two negatives are 0.
        ([0, 0, 1, 1], [5, 5, 9, 9], lambda t: math.log1p(2 * math.exp(-1 / t))),
        # The two rows of a class are antipodal; the other class is orthogonal.
        ([0, 2, 1, 3], [5, 5, 9, 9], lambda t: math.log(2 + math.exp(-1 / t)) + 1 / t),
        # One class of orthogonal rows: all pairs are alike.
        ([0, 1, 4, 5], [0, 0, 0, 0], lambda t: math.log(3.0)),
        # The unlabelled row is a negative of the two anchors, no anchor itself.
        ([0, 0, 0, 1], [3, 3, 8, -1], lambda t: math.log(2 + math.exp(-1 / t))),
        ([0, 0, 0, 1], [3, 3, -1, -1], lambda t: math.log(2 + math.exp(-1 / t))),
    ]
    rows = np.stack([e[0], e[1], -e[0], -e[1], e[2], e[3]])
    for index, label, target in cases:
        z, label = rows[index], np.array(label, np.int32)
        for t in (1.0, 0.5, 0.07):
            actual = compiled(z, label, t)[0]
            assert_close(actual, target(t), tolerance=VALUE, floor=1.0)
            assert_close(expected(z, label, t)[0], target(t), tolerance=1e-9, floor=1.0)


@pytest.mark.parametrize(
    "label", [[*range(12)], [-1] * 12, [3] + [-1] * 11], ids=["alone", "none", "one"]
)
def test_without_any_positive_loss_and_gradient_are_zero(label):
    label = np.array(label, np.int32)
    actual = compiled(normals(0, 12, 8), label, 0.01)
    chex.assert_trees_all_equal(actual, jax.tree.map(jnp.zeros_like, actual))


def test_one_row_is_zero():
    actual = compiled(normals(0, 1, 8), np.zeros(1, np.int32), 0.1)
    chex.assert_trees_all_equal(actual, jax.tree.map(jnp.zeros_like, actual))


def test_two_views_equal_nt_xent():
    a = normals(0, 12, 8)
    b = a + 0.7 * normals(1, 12, 8)
    label = np.random.default_rng(2).permutation(12).astype(np.int32)
    value, (da, db, dt) = reference.nt_xent(a, b, temperature=0.2)
    joined = np.concatenate([a, b]), np.tile(label, 2)
    assert_close(
        expected(*joined, 0.2), (value, (np.concatenate([da, db]), dt)), tolerance=1e-12
    )
    nt_xent = jax.jit(functools.partial(losses.nt_xent, temperature=0.2))(a, b)
    interleaved = np.stack([a, b], 1).reshape(24, 8), np.repeat(label, 2)
    for z, label in (joined, interleaved):
        assert_close(compiled(z, label, 0.2)[0], nt_xent, tolerance=2e-6)


def test_invariances():
    z, label = labelled(0, 12)
    rng = np.random.default_rng(3)
    lengths = np.exp(rng.normal(size=(12, 1))).astype(np.float32)
    rotation = np.linalg.qr(normals(4, 8, 8))[0]
    order = rng.permutation(12)
    value, (dz, dt) = compiled(z, label, 0.2)
    assert_close(compiled(lengths * z, label, 0.2)[0], value, tolerance=2e-6)
    assert_close(compiled(z @ rotation, label, 0.2)[0], value, tolerance=2e-6)
    permuted = compiled(z[order], label[order], 0.2)
    assert_close(permuted, (value, (dz[order], dt)), tolerance=3e-6)
    assert abs(compiled(z, label[order], 0.2)[0] - value) > 0.1
    # Labels are names: any integers do, however far apart.
    names = np.array([2**31 - 1, 0, 1_000_003, 77, -1], np.int32)
    assert label.max() < 4
    renamed = compiled(z, names[label], 0.2)
    assert_close(renamed, (value, (dz, dt)), tolerance=2e-6)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int64])
def test_labels_of_any_integer_type(dtype):
    z, _ = labelled(0, 12)
    label = np.arange(12) % 5
    # All bits set are -1 where there are negative numbers, and a class where not.
    label[:3] = 255 if dtype == np.uint8 else -1
    actual = jax.jit(losses.sup_con)(z, label.astype(dtype), temperature=0.2)
    assert_close(actual, expected(z, label, 0.2)[0], tolerance=VALUE, floor=1.0)


def test_dense_equals_xla():
    z, label = labelled(0, 37)
    dense, xla = (compiled(z, label, 0.2, name) for name in ("dense", "xla"))
    check(dense, expected(z, label, 0.2), temperature=0.2)
    assert_close(xla, dense, tolerance=3e-6)


def test_jit_equals_no_jit():
    args = normals(0, 4, 8), np.array([0, 1, 0, -1], np.int32), 0.2
    assert_close(evaluate(*args), compiled(*args), tolerance=3e-6)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_degenerate_rows(dtype):
    """Identical, antipodal and zero rows among ordinary ones."""
    z = normals(0, 12, 8)
    z[1], z[2], z[3], z[4], z[5] = z[0], -z[0], z[0], 0.0, 0.0
    label = np.array([0, 0, 0, 1, 1, 1, 2, 2, 3, 3, -1, 4], np.int32)
    z = jnp.asarray(z, dtype)
    actual, target = compiled(z, label, 0.01), expected(z, label, 0.01)
    chex.assert_tree_all_finite(actual)
    assert_close(actual[0], target[0], tolerance=VALUE, floor=5.0)
    assert_close(actual[1][1], target[1][1], tolerance=GRADIENT)
    assert actual[1][0].dtype == dtype
    # At a zero row the gradient is as large as the epsilon is small.
    alive = np.any(np.asarray(z, np.float32) != 0, axis=1)
    tolerance = 5e-5 if dtype == jnp.float32 else 2**-7
    got = np.asarray(actual[1][0], np.float32)[alive]
    assert_close(got, target[1][0][alive], tolerance=tolerance, floor=1e-2)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("fill", [1.0, 0.0])
def test_a_batch_of_identical_rows(dtype, fill):
    rows, index = jnp.full((12, 8), fill, dtype), np.arange(12, dtype=np.int32)
    for label in (index // 4, np.zeros_like(index), index - 1):
        actual = compiled(rows, label, 0.01)
        chex.assert_tree_all_finite(actual)
        target = math.log(11) if label[1] == label[0] else 0.0
        # A cosine rounded to float32, over the temperature.
        assert_close(actual[0], target, tolerance=5e-5, floor=1.0)


@functools.cache
def one_device():
    return compiled(*labelled(0, 24), 0.2)


@pytest.mark.parametrize(
    "order", [[0], [1, 0], [2, 0, 3, 1], [5, 2, 7, 0, 3, 6, 1, 4]], ids=len
)
def test_sharded_equals_one_device(order):
    # The offset of a shard is its place in the mesh, not the number of its device.
    mesh = make_mesh(order)
    with jax.set_mesh(mesh):
        actual = compiled(*share(mesh, labelled(0, 24)), 0.2)
    assert_close(actual[0], one_device()[0], tolerance=1e-6)
    assert_close(actual[1][0], one_device()[1][0], tolerance=1e-6)
    # In 1/t the slope is a difference of mean cosines.
    slope, floor = one_device()[1][1], 0.5 / 0.2**2
    assert_close(actual[1][1], slope, tolerance=1e-6, floor=floor)


def test_batch_that_does_not_divide_among_the_devices_is_refused():
    z, label = labelled(0, 37)
    refused = pytest.raises(UsageError, match="37 rows are not divisible by the 8 dev")
    with jax.set_mesh(make_mesh(range(8))), refused:
        losses.sup_con(z, label, temperature=0.2)


def test_gradient_memory_is_linear():
    def compile_gradient(size):
        z = jax.ShapeDtypeStruct((size, 32), jnp.float32)
        label = jax.ShapeDtypeStruct((size,), jnp.int32)
        return compiled.lower(z, label, 0.2).compile()

    once, twice = compile_gradient(4096), compile_gradient(8192)
    # The tile is of a fixed size, so the larger problem is where a matrix shows; a
    # one-hot array of the labels would be one.
    assert largest_array(once) < 4096**2 / 4
    assert largest_array(twice) < 4096**2 / 4
    assert 0 < temporary_bytes(twice) < 3 * temporary_bytes(once)


@pytest.mark.parametrize("temperature", [0, 0.0, -0.1, np.float32(-1), float("nan")])
def test_temperature_must_be_positive(temperature):
    message = "sup_con: temperature must be > 0, got"
    with pytest.raises(UsageError, match=message) as error:
        losses.sup_con(*labelled(0, 4), temperature=temperature)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("z", "label"),
    [
        ((4, 3), (5,)),
        ((4, 3), (4, 1)),
        ((4, 3), ()),
        ((4,), (4,)),
        ((2, 2, 3), (4,)),
        ((0, 3), (0,)),
    ],
)
def test_shapes_must_match(z, label):
    arrays = (
        jax.ShapeDtypeStruct(z, jnp.float32),
        jax.ShapeDtypeStruct(label, jnp.int32),
    )
    with pytest.raises(UsageError, match="sup_con: ") as error:
        jax.eval_shape(functools.partial(losses.sup_con, temperature=0.1), *arrays)
    assert str(z) in str(error.value)
    assert str(label) in str(error.value) or not label
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("z", "label", "named"),
    [(jnp.int32, jnp.int32, "int32"), (jnp.float32, jnp.float16, "float16")],
)
def test_types_must_fit(z, label, named):
    arrays = jax.ShapeDtypeStruct((4, 3), z), jax.ShapeDtypeStruct((4,), label)
    with pytest.raises(UsageError, match=f"sup_con: .*{named}") as error:
        jax.eval_shape(functools.partial(losses.sup_con, temperature=0.1), *arrays)
    assert "\n" not in str(error.value)
