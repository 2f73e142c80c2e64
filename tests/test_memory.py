"""Moving averages and queues against plain loops."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rl_jax.errors import UsageError
from rl_jax.memory import cosine_decay, ema, empty_queue, enqueue, linear_decay


def test_ema_equals_the_loop():
    rng = np.random.default_rng(0)
    old, new = rng.normal(size=(2, 5)).astype(np.float32)
    moved = ema({"w": jnp.asarray(old)}, {"w": jnp.asarray(new)}, 0.9)["w"]
    np.testing.assert_allclose(moved, 0.9 * old + 0.1 * new, atol=1e-6)


def test_ema_is_exact_at_its_ends():
    a, b = jax.random.normal(jax.random.key(0), (2, 1000))
    assert jnp.array_equal(ema(a, b, 0.0), b)
    assert jnp.array_equal(ema(a, a, 0.996), a)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_ema_refuses_floats_that_lose_its_steps(dtype):
    one = {"w": jnp.ones(3, dtype), "count": jnp.zeros(3, jnp.int32)}
    with pytest.raises(UsageError, match=f"an average of {jnp.dtype(dtype)} stands"):
        ema(one, one, 0.99)


def test_cosine_decay():
    at = lambda t: float(cosine_decay(t, start=0.99, total_steps=100))  # noqa: E731
    assert at(0) == pytest.approx(0.99, abs=1e-7)
    assert at(100) == 1.0
    assert at(150) == 1.0
    assert at(50) == pytest.approx(0.995, abs=1e-6)
    values = [at(t) for t in range(0, 101, 5)]
    assert values == sorted(values)


def test_linear_decay():
    found = [float(linear_decay(t, start=0.9, total_steps=4)) for t in range(7)]
    expected = [0.9, 0.925, 0.95, 0.975, 1.0, 1.0, 1.0]
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert found[4:] == [1.0] * 3


@pytest.mark.parametrize("count", [1, 3, 5, 7])
def test_queue_keeps_the_newest(count):
    """For every batch size up to the queue's, against a list cut to the last K rows."""
    size, rows = 7, []
    queue = empty_queue(size, 2)
    assert int(queue.valid) == 0
    for step in range(6):
        new = jnp.arange(count * 2, dtype=jnp.float32).reshape(count, 2) + 100 * step
        queue = jax.jit(enqueue)(queue, new)
        rows = [*rows, *np.asarray(new)][-size:]
        assert int(queue.valid) == len(rows)
        filled = np.asarray(queue.rows)[: len(rows)]
        assert sorted(map(tuple, filled)) == sorted(map(tuple, rows))
    if len(rows) == size:
        oldest = np.asarray(queue.rows)[int(queue.head)]
        np.testing.assert_array_equal(oldest, rows[0])


def test_queue_refuses_more_than_it_holds():
    with pytest.raises(UsageError, match="8 rows do not fit a queue of 7"):
        enqueue(empty_queue(7, 2), jnp.zeros((8, 2)))


@pytest.mark.parametrize("shape", [(3, 1), (3, 3), (3,)])
def test_queue_refuses_rows_of_another_width(shape):
    with pytest.raises(UsageError, match=r"enqueue: expected rows \[B, 2\], got \(3,"):
        enqueue(empty_queue(7, 2), jnp.zeros(shape))


def test_shares_out_of_range_are_refused():
    one = jnp.ones(2)
    for decay in (-0.1, 1.5, float("nan")):
        with pytest.raises(UsageError, match=r"ema: decay must be in \[0, 1\], got"):
            ema(one, one, decay)
        with pytest.raises(UsageError, match=r"start must be in \[0, 1\], got"):
            cosine_decay(1, start=decay, total_steps=3)
        with pytest.raises(
            UsageError, match=r"linear_decay: start must be in \[0, 1\]"
        ):
            linear_decay(1, start=decay, total_steps=3)
    with pytest.raises(UsageError, match="total_steps must be at least 1, got 0"):
        cosine_decay(1, start=0.5, total_steps=0)
    with pytest.raises(UsageError, match="total_steps must be at least 1, got 0"):
        linear_decay(1, start=0.5, total_steps=0)


def test_numbers_may_be_arrays_also_where_all_is_traced():
    """As the method of a compiled step closes over them."""
    one, decay, total = jnp.ones(2), jnp.float32(0.9), jnp.int32(10)

    def both(x, decay):
        return ema(x, 2 * x, decay), cosine_decay(3, start=decay, total_steps=total)

    expected = both(one, 0.9)
    for found in (
        both(one, decay),
        jax.jit(lambda x: both(x, decay))(one),
        jax.jit(both)(one, decay),
        jax.lax.scan(lambda c, _: (c, both(one, decay)), 0, None, length=1)[1],
    ):
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_allclose(np.squeeze(a), b, rtol=1e-6)
    beyond = jnp.float32(1.5)
    with pytest.raises(UsageError, match="decay must be in"):
        jax.jit(lambda x: ema(x, x, beyond))(one)
