"""Blocks of rows passed around a ring of devices: one device's result, less memory."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import assert_close
from reference import losses as reference
from reference.machine import hops, largest_array, make_mesh, share, temporary_bytes

from rl_jax import pairwise
from rl_jax.errors import UsageError

pytestmark = pytest.mark.core

SCALE, VALID = 0.7, 40
BOTH = {"axis": "both"}
ORDERS = {
    2: [1, 0],
    3: [1, 2, 0],
    4: [2, 0, 3, 1],
    8: [5, 2, 7, 0, 3, 6, 1, 4],
}


def normals(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def positive(seed, *shape):
    """Weights without cancellation, so that a sum is as exact as its terms."""
    return np.random.default_rng(seed).uniform(0.5, 1.5, shape).astype(np.float32)


def problem():
    """48 rows against 48 and 96, which divide among 2, 3, 4 and 8 devices."""
    rows = [normals(i, size, 8) / 2 for i, size in enumerate((48, 48, 96))]
    bars = [positive(3, 48), positive(4, 48)]
    exclude = np.random.default_rng(6).integers(-1, VALID, 48, dtype=np.int32)
    return rows, bars, exclude


def pull_back(x, y, bars, valid=None, exclude=None, **options):
    """Value, and the gradients to x, y and scale of <bars, value>."""

    def function(x, y, scale):
        masks = {"valid": valid, "exclude": exclude}
        return pairwise.logsumexp(x, y, scale=scale, block_size=5, **masks, **options)

    value, vjp = jax.vjp(function, x, y, SCALE)
    return value, vjp(bars)


@functools.partial(jax.jit, static_argnames="implementation")
def every_shape(rows, bars, exclude, *, implementation=None):
    """Self pairs, a masked square, and a rectangle, in one compilation."""
    (x, y, longer), options = rows, {"implementation": implementation}
    return {
        "self": pull_back(x, None, bars[0], **options),
        "square": pull_back(x, y, tuple(bars), VALID, exclude, **options, **BOTH),
        "rectangle": pull_back(x, longer, bars[0], **options),
    }


@functools.cache
def one_device():
    return every_shape(*problem())


def on_devices(order, arrays, *, implementation):
    mesh = make_mesh(order)
    with jax.set_mesh(mesh):
        return every_shape(*share(mesh, arrays), implementation=implementation)


def test_one_device_equals_reference():
    # What the rest is compared with.
    (x, y, longer), bars, exclude = problem()

    def target(y, bars, *masks):
        options = dict(zip(("valid", "exclude"), masks, strict=False))
        options["scale"] = SCALE
        rows = reference.logsumexp_rows(x, y, **options)
        if isinstance(bars, tuple):
            columns = reference.logsumexp_columns(x, y, **options)
            options |= {"rows": bars[0], "columns": bars[1]}
            return (rows, columns), reference.logsumexp_vjp(x, y, **options)
        return rows, reference.logsumexp_vjp(x, y, rows=bars, **options)

    expected = {
        "self": target(None, bars[0]),
        "square": target(y, tuple(bars), VALID, exclude),
        "rectangle": target(longer, bars[0]),
    }
    assert_close(one_device(), expected, tolerance=1e-5)


@pytest.mark.parametrize("devices", [2, 3, pytest.param(4, marks=pytest.mark.slow), 8])
def test_ring_equals_one_device(devices):
    actual = on_devices(ORDERS[devices], problem(), implementation="ring")
    assert_close(actual, one_device(), tolerance=1e-6)


def test_gathered_equals_one_device():
    actual = on_devices(ORDERS[3], problem(), implementation="xla")
    assert_close(actual, one_device(), tolerance=1e-6)


def sent(devices, *, rectangle, gradient):
    """How often blocks of rows, or gradients to them, are sent on by one device."""
    (x, y, _), _, _ = problem()

    def total(x, y):
        other = y if rectangle else None
        options = {"scale": SCALE, "block_size": 5, "implementation": "ring"}
        return jnp.sum(pairwise.logsumexp(x, other, **options))

    mesh = make_mesh(ORDERS[devices])
    with jax.set_mesh(mesh):
        function = jax.grad(total, argnums=(0, 1)) if gradient else total
        counted = hops(jax.make_jaxpr(function)(*share(mesh, (x, y))).jaxpr)
    return sum(times for shape, times in counted.items() if shape[-1] == x.shape[1])


@pytest.mark.parametrize("devices", ORDERS)
def test_self_pairs_take_half_the_hops_of_a_plain_ring(devices):
    """⌊(P + 1)/2⌋ for a block in place of P; so for its gradient, the way home too."""
    around = (devices + 1) // 2
    plain, half = (sent(devices, rectangle=r, gradient=False) for r in (True, False))
    arrays = plain // devices
    assert arrays >= 1
    assert (plain, half) == (arrays * devices, arrays * around)
    plain, half = (sent(devices, rectangle=r, gradient=True) for r in (True, False))
    assert (plain, half) == (3 * arrays * devices, 3 * arrays * around)


def test_one_device_is_a_ring():
    actual = on_devices([0], problem(), implementation="ring")
    assert_close(actual, one_device(), tolerance=1e-6)
    # Nor is a mesh needed.
    x = problem()[0][0]
    actual = pairwise.logsumexp(x, scale=SCALE, implementation="ring")
    target = reference.logsumexp_rows(x, scale=SCALE)
    assert_close(actual, target, tolerance=1e-6)


def test_rows_that_do_not_divide_among_the_devices_are_refused():
    refused = pytest.raises(UsageError, match="13 rows are not divisible by the 8 dev")
    with jax.set_mesh(make_mesh(ORDERS[8])), refused:
        pairwise.logsumexp(normals(0, 13, 8), scale=0.7, implementation="ring")


def test_bfloat16_rows_accumulate_in_float32():
    # Gradients that travel are rounded once, at home, not at every stop.
    x, bars = jnp.asarray(normals(0, 48, 8) / 2, jnp.bfloat16), positive(3, 48)
    mesh = make_mesh(ORDERS[8])
    with jax.set_mesh(mesh):
        run = jax.jit(
            lambda x, bars: pull_back(x, x, (bars, bars), implementation="ring", **BOTH)
        )
        value, (dx, dy, _) = run(*share(mesh, (x, bars)))
    assert value[0].dtype == jnp.float32
    assert dx.dtype == dy.dtype == jnp.bfloat16
    exact, options = np.asarray(x, np.float64), {"scale": SCALE}
    rows = reference.logsumexp_rows(exact, exact, **options)
    assert_close(value, (rows, rows), tolerance=1e-6)
    options |= {"rows": bars, "columns": bars}
    target = reference.logsumexp_vjp(exact, exact, **options)
    assert_close((dx, dy), target[:2], tolerance=2**-7)


def test_large_logits_do_not_overflow():
    (x, y, _), (g, h), _ = problem()

    @functools.partial(jax.jit, static_argnames="implementation")
    def run(x, y, g, h, implementation=None):
        def function(x, y):
            options = {
                "scale": 300.0,
                "block_size": 5,
                "implementation": implementation,
            }
            alone = pairwise.logsumexp(x, **options)
            return alone, pairwise.logsumexp(x, y, axis="both", **options)

        value, vjp = jax.vjp(function, x, y)
        return value, vjp((g, (g, h)))

    one = run(x, y, g, h)
    mesh = make_mesh(ORDERS[4])
    with jax.set_mesh(mesh):
        ring = run(*share(mesh, (x, y, g, h)), implementation="ring")
    assert np.max(one[0][0]) > 500
    # float32 products carry 1e-7 of a logit of hundreds into the exponent.
    assert_close(ring[0], one[0], tolerance=1e-6)
    assert_close(ring[1], one[1], tolerance=1e-3)


def compile_gradient(implementation, *, rectangle):
    """The gradient of 8192 rows of 64 over eight devices, all of it shared out."""
    mesh = make_mesh(range(8))
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    struct = functools.partial(jax.ShapeDtypeStruct, dtype=np.float32)
    x = struct((8192, 64), sharding=sharding)
    bars = struct((8192,), sharding=sharding)

    def gradient(x, y, scale, bars):
        def function(x, y, scale):
            options = {
                "scale": scale,
                "block_size": 128,
                "implementation": implementation,
            }
            if rectangle:
                return pairwise.logsumexp(x, y, axis="both", **options)
            return pairwise.logsumexp(x, **options)

        value, vjp = jax.vjp(function, x, y, scale)
        return value, vjp((bars, bars) if rectangle else bars)

    with jax.set_mesh(mesh):
        y = x if rectangle else None
        return jax.jit(gradient).lower(x, y, struct(()), bars).compile()


@pytest.mark.parametrize("rectangle", [False, True], ids=["self", "both"])
def test_ring_holds_the_rows_of_a_few_devices_only(rectangle):
    ring, gathered = (
        compile_gradient(path, rectangle=rectangle) for path in ("ring", "xla")
    )
    assert 0 < temporary_bytes(ring) < temporary_bytes(gathered)
    assert largest_array(gathered) >= 8192 * 64
    assert largest_array(ring) < 8192 * 64
    assert re.search("collective-permute", ring.as_text())
