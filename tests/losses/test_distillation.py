"""Patches assigned as a teacher assigns them: loops, blocks, devices, memory."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec
from reference import assert_close, central_differences
from reference import assignment as reference
from reference.machine import (
    largest_array,
    make_mesh,
    quick_jit,
    share,
    temporary_bytes,
)

from rl_jax import losses
from rl_jax.errors import UsageError
from rl_jax.losses import distillation

pytestmark = pytest.mark.core

N, M, K, D = 8, 5, 7, 3
TAU, SHARP = 0.3, 0.2
BLOCKS = [None, 1, 9, 39]
"""All 40 patches at once, each by itself, blocks of 8, and two of 20."""


def case(seed=0):
    """Student, teacher, their prototypes, what counts, a centre.

    Of one image no patch counts, and of one all do.
    """
    rng = np.random.default_rng(seed)
    z, target_z = rng.normal(size=(2, N, M, D))
    words, target_words = rng.normal(size=(2, K, D))
    weight = rng.uniform(size=(N, M)) < 0.4
    weight[2], weight[5] = False, True
    return z, words, target_z, target_words, weight, 0.2 * rng.normal(size=K)


def as32(*arrays):
    return [jnp.asarray(x, jnp.float32) for x in arrays]


def run(z, words, target_z, target_words, weight, centre, tau=TAU, **options):
    options = {"temperature": tau, "target_temperature": SHARP} | options
    return losses.patch_distillation(
        z, words, target_z, target_words, weight, centre=centre, **options
    )


def value(*args, **options):
    found = run(*args, **options)
    return found.loss, found


@functools.cache
def expected():
    """The loops' loss, targets, and gradients by z, prototypes and temperature."""
    z, words, target_z, target_words, weight, centre = case()
    q = reference.softmax((reference.scores(target_z, target_words) - centre) / SHARP)

    def loss(z, words, tau):
        return reference.patches(q, reference.scores(z, words) / tau, weight)

    learned = z, words, np.float64(TAU)
    return loss(*learned), q, central_differences(loss, *learned)


@pytest.mark.parametrize("block_size", BLOCKS)
def test_distillation_equals_the_loop(block_size):
    loss, q, gradients = expected()
    *arrays, weight, centre = case()
    slopes = jax.value_and_grad(
        functools.partial(value, block_size=block_size), (0, 1, 6), has_aux=True
    )
    slopes = quick_jit(slopes)
    (got, found), found_slopes = slopes(*as32(*arrays), weight, *as32(centre, TAU))
    assert got.dtype == jnp.float32
    assert_close(got, loss, tolerance=1e-6)
    assert_close(found_slopes, gradients, tolerance=1e-5)
    q = q[weight]
    entropy = -np.sum(q * np.log(q), -1).mean()
    assert_close(found[1:], (entropy, q.mean(0)), tolerance=1e-5)
    # What does not count may hold anything, and without a gradient is the same.
    z, words, target_z, target_words = as32(*arrays)
    z, target_z = (jnp.where(weight[..., None], x, jnp.nan) for x in (z, target_z))
    poisoned = z, words, target_z, target_words, weight, *as32(centre, TAU)
    (again, _), poisoned_slopes = slopes(*poisoned)
    assert_close(again, got, tolerance=1e-6)
    assert_close(poisoned_slopes, found_slopes, tolerance=1e-6)
    alone = quick_jit(functools.partial(value, block_size=block_size))(*poisoned)[0]
    assert_close(alone, got, tolerance=1e-6)


@pytest.mark.parametrize("block_size", [None, 9])
def test_weights_may_be_any(block_size):
    """Each image has its own mean, whatever its weights add up to."""
    *arrays, weight, centre = as32(*case())
    weight = weight * jnp.linspace(0.5, 3.0, M)[None]
    _, q, _ = expected()
    s = reference.scores(*(np.asarray(x, np.float64) for x in arrays[:2])) / TAU
    rows = -np.sum(q * np.log(reference.softmax(s)), -1)
    per_image = (weight * rows).sum(1) / np.maximum(weight.sum(1), 1)
    found = quick_jit(functools.partial(run, block_size=block_size))(
        *arrays, weight, centre
    )
    assert_close(found.loss, per_image.mean(), tolerance=1e-5)
    entropy = -np.sum(q * np.log(q), -1)
    mean = (weight * entropy).sum() / weight.sum()
    assert_close(found.target_entropy, mean, tolerance=1e-5)


@pytest.mark.parametrize("block_size", [None, 9])
def test_nothing_counts(block_size):
    *arrays, weight, centre = as32(*case())
    options = {"block_size": block_size}
    slopes = jax.value_and_grad(functools.partial(value, **options), (0, 1), True)
    (loss, found), gradients = quick_jit(slopes)(*arrays, 0 * weight, centre)
    for x in jax.tree.leaves((loss, found, gradients)):
        np.testing.assert_array_equal(x, np.zeros(x.shape))
    assign = functools.partial(losses.sinkhorn_centre, **options)
    none = quick_jit(assign)(*arrays[2:], 0 * weight)
    np.testing.assert_array_equal(none, np.zeros(K))


@pytest.mark.parametrize("block_size", [None, 9])
def test_nothing_of_the_teacher_has_a_gradient(block_size):
    *arrays, weight, centre = as32(*case())

    def loss(target_z, target_words, weight, centre, sharp):
        own = losses.sinkhorn_centre(
            target_z, target_words, weight, epsilon=sharp, block_size=block_size
        )
        return run(
            *arrays[:2], target_z, target_words, weight, centre + own,
            target_temperature=sharp, block_size=block_size,
        ).loss  # fmt: skip

    teacher = *arrays[2:], weight, centre, jnp.float32(SHARP)
    for x in jax.tree.leaves(quick_jit(jax.grad(loss, range(5)))(*teacher)):
        assert not np.any(x)

    def total(z, words, weight, sharp):
        options = {"epsilon": sharp, "block_size": block_size}
        return losses.sinkhorn_centre(z, words, weight, **options).sum()

    given = *arrays[2:], weight, jnp.float32(SHARP)
    for x in jax.tree.leaves(quick_jit(jax.grad(total, range(4)))(*given)):
        assert not np.any(x)


@pytest.mark.parametrize("block_size", BLOCKS)
@pytest.mark.parametrize("iterations", [1, 3])
def test_the_centre_gives_the_assignments_of_sinkhorn(block_size, iterations):
    _, _, z, words, weight, _ = case()
    options = {"epsilon": SHARP, "iterations": iterations}
    assign = functools.partial(losses.sinkhorn_centre, block_size=block_size, **options)
    z = np.where(weight[..., None], z, np.nan)
    centre = quick_jit(assign)(*as32(z, words), weight)
    assert centre.dtype == jnp.float32
    s = reference.scores(z[weight], words)
    assigned = reference.softmax((s - np.asarray(centre)) / SHARP)
    assert_close(assigned, reference.sinkhorn(s, **options), tolerance=1e-5)
    assert_close(assigned, losses.sinkhorn(*as32(s), **options), tolerance=1e-5)


def test_a_weight_of_the_centre_is_a_row_so_often():
    _, _, z, words, _, _ = as32(*case())
    weight = jnp.ones((N, M)).at[:2].set(2.0)
    twice = jnp.concatenate([z, z[:2]])
    assign = functools.partial(losses.sinkhorn_centre, epsilon=SHARP, block_size=9)
    one = quick_jit(assign)(z, words, weight)
    two = quick_jit(assign)(twice, words, jnp.ones((N + 2, M)))
    assert_close(one, two, tolerance=1e-5)


def test_blocks_have_all_derivatives():
    """Forward, and the reverse of the reverse: as those of scores that are kept."""
    z, *rest = as32(*case())

    def of(block_size):
        def loss(z):
            return run(z, *rest, block_size=block_size).loss

        def twice(z):
            return jnp.sum(jnp.cos(9 * jax.grad(loss)(z)))

        return quick_jit(lambda z: (jax.jvp(loss, (z,), (z,))[1], jax.grad(twice)(z)))

    assert_close(of(9)(z), of(None)(z), tolerance=1e-4, floor=1e-3)


@pytest.mark.parametrize("devices", [2, 8])
def test_sharded_blocks_equal_one_device(devices):
    z, words, target_z, target_words, weight, _ = as32(*case())

    def loss(z, words, target_z, weight):
        options = {"block_size": 3}
        centre = losses.sinkhorn_centre(target_z, target_words, weight, **options)
        return value(z, words, target_z, target_words, weight, centre, **options)

    slopes = quick_jit(jax.value_and_grad(loss, (0, 1), has_aux=True))
    expected = slopes(z, words, target_z, weight)
    mesh = make_mesh(range(devices)[::-1])
    with jax.set_mesh(mesh):
        rows = share(mesh, (z, target_z, weight))
        many = slopes(rows[0], words, *rows[1:])
    assert_close(many, expected, tolerance=1e-5)


def loss_of_sinkhorn(z, words, target_z, target_words, weight, **options):
    centre = losses.sinkhorn_centre(target_z, target_words, weight, **options)
    return run(z, words, target_z, target_words, weight, centre, **options).loss


def compiled(devices, **options):
    """Of 512 MiB of scores on each device, and few numbers beside them."""
    mesh = make_mesh(range(devices))
    row, whole = (NamedSharding(mesh, PartitionSpec(*x)) for x in (("data",), ()))

    def of(sharding, *shape):
        return jax.ShapeDtypeStruct(shape, jnp.float32, sharding=sharding)

    z, words = of(row, devices * 64, 32, 8), of(whole, 2**16, 8)
    given = z, words, z, words, of(row, devices * 64, 32)
    loss = functools.partial(loss_of_sinkhorn, **options)
    with jax.set_mesh(mesh):
        return quick_jit(jax.value_and_grad(loss, (0, 1))).lower(*given).compile()


@pytest.mark.parametrize("devices", [1, 8])
def test_memory_is_that_of_a_few_blocks(devices):
    """At most five, and what is as large as the prototypes; by default and larger."""
    block, rest = distillation.BLOCK_BYTES["cpu"], 24 * 2**20
    found = compiled(devices)
    assert temporary_bytes(found) <= 5 * block + rest
    assert largest_array(found) * 4 <= block
    assert temporary_bytes(compiled(devices, block_size=512)) <= 5 * 2**27 + rest
    # Devices meet after their last block; no rows are sent around.
    assert not re.search("all-gather|all-to-all|collective-permute", found.as_text())


def test_devices_do_not_meet_in_a_loop():
    """They have as many blocks as they like, and add up prototypes' gradients once."""
    given = [x[:4] if x.ndim > 1 else x for x in as32(*case())[:5]]

    def within(jaxpr, looped):
        for equation in jaxpr.eqns:
            if equation.primitive.name in ("psum", "pmax"):
                yield looped
            inner = looped or equation.primitive.name == "scan"
            for x in jax.tree.leaves(list(equation.params.values())):
                x = getattr(x, "jaxpr", x)
                if hasattr(x, "eqns"):
                    yield from within(x, inner)

    slopes = jax.grad(functools.partial(loss_of_sinkhorn, block_size=3))
    with jax.set_mesh(make_mesh(range(2))):
        jaxpr = jax.make_jaxpr(slopes)(*given)
    meetings = list(within(jaxpr.jaxpr, False))
    assert meetings
    assert not any(meetings)


def test_all_scores_at_once_take_more():
    assert temporary_bytes(compiled(1, block_size=2**11)) > 5 * 2**29


GOOD = as32(*case())[:5]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({0: jnp.zeros((N, D))}, r"patches \[N, M, D\] .* got \(8, 3\), \(8, 5, 3\)"),
        ({2: jnp.zeros((N, 4, D))}, r"got \(8, 5, 3\), \(8, 4, 3\), \(8, 5\)"),
        ({4: jnp.zeros(N)}, r"a weight \[N, M\], got .*, \(8,\)"),
        ({3: jnp.zeros((9, D))}, r"as many prototypes, got 7, 9, \(7,\)"),
        ({1: jnp.zeros((K, 4))}, r"prototypes \[K, D\], got \(8, 5, 3\), \(7, 4\)"),
        ({3: jnp.zeros((K, 4))}, r"prototypes \[K, D\], got \(8, 5, 3\), \(7, 4\)"),
        ({"block_size": 0}, "block_size must be at least 1, got 0"),
        ({"block_size": 2.5}, "block_size must be an integer, got 2.5"),
        ({"temperature": 0.0}, "temperature must be > 0, got 0.0"),
        ({"target_temperature": -1.0}, "target_temperature must be > 0, got -1.0"),
    ],
)
def test_refused(change, message):
    arrays = [change.get(i, x) for i, x in enumerate(GOOD)]
    options = {k: v for k, v in change.items() if isinstance(k, str)}
    with pytest.raises(UsageError, match=f"patch_distillation: .*{message}") as error:
        run(*arrays, jnp.zeros(K), **options)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weight": jnp.ones(N)}, r"a weight for each row, \(8, 5\), got \(8,\)"),
        ({"weight": -GOOD[4]}, "weights must be >= 0 and finite"),
        ({"prototypes": jnp.zeros((K, 4))}, r"got \(8, 5, 3\), \(7, 4\)"),
        ({"epsilon": 0.0}, "epsilon must be > 0 and finite, got 0.0"),
        ({"iterations": 0}, "iterations must be at least 1, got 0"),
        ({"block_size": -1}, "block_size must be at least 1, got -1"),
    ],
)
def test_refused_centres(change, message):
    given = dict(zip(("z", "prototypes", "weight"), GOOD[2:], strict=True))
    with pytest.raises(UsageError, match=f"sinkhorn_centre: .*{message}") as error:
        losses.sinkhorn_centre(**given | change)
    assert "\n" not in str(error.value)
