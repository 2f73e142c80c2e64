"""The memory bank against plain loops, and what it learns."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scanned
from reference.compiled import methods
from reference.memory import memory_bank as reference
from reference.networks import linear

from rl_jax import networks
from rl_jax.errors import UsageError

N, TAU = 12, 0.3


PARTS = (linear(5, 4, 1), linear(4, 3, 2))


def batch(t, size=4):
    """Of a step: other examples each time, some of them again after a while."""
    x = jax.random.normal(jax.random.key(t), (size, 1, 5))
    index = np.random.default_rng(t).permutation(N)[:size]
    return {"index": jnp.asarray(index, jnp.int32), "views": x, "image": x[:, 0] - 1}


def drawn(t, negatives):
    """The sample of step t, drawn as the method says: uniformly, with replacement."""
    if negatives >= N:
        return np.arange(N)
    return np.asarray(jax.random.randint(jax.random.key(t), (negatives,), 0, N))


@pytest.mark.parametrize(("negatives", "momentum"), [(5, 0.5), (40, 0.8), (5, 0.0)])
def test_equals_the_loop(negatives, momentum):
    method = methods.memory_bank(
        *PARTS,
        num_examples=N,
        temperature=TAU,
        momentum=momentum,
        negatives=negatives,
    )
    params, state = method.init(jax.random.key(0), batch(0))
    loss, bank, values = jax.jit(method.loss), {}, []
    for t in range(12):
        given = batch(t)
        x = np.asarray(given["views"][:, 0], np.float64)
        z = x @ np.asarray(params["encoder"]) @ np.asarray(params["projector"])
        expected = reference(
            bank,
            np.asarray(given["index"]).tolist(),
            z,
            drawn(t, negatives).tolist(),
            temperature=TAU,
            momentum=momentum,
        )
        value, aux = loss(params, state, given, jax.random.key(t))
        np.testing.assert_allclose(value, expected, rtol=1e-4, atol=1e-5)
        values.append(expected)
        state = aux.state
        assert sorted(bank) == np.flatnonzero(state.seen).tolist()
        for i in range(N):
            row = bank.get(i, np.zeros(3))
            np.testing.assert_allclose(state.rows[i], row, rtol=1e-4, atol=1e-5)
        assert float(aux.metrics["bank_seen"]) == pytest.approx(len(bank) / N)
        params = jax.tree.map(lambda p, t=t: p + 0.1 * jnp.cos(p + t), params)
    assert values[0] == 0
    assert np.count_nonzero(values) >= 8


def test_rows_carry_no_gradient_and_the_own_row_is_no_negative():
    """With one other row, the gradient is that of the logistic loss by hand."""
    method = methods.memory_bank(
        *PARTS, num_examples=2, temperature=TAU, negatives=50, momentum=0.5
    )
    given = {"index": jnp.array([0, 1], jnp.int32), "image": batch(1, 2)["image"]}
    params, state = method.init(jax.random.key(0), given)
    state = method.loss(params, state, given, jax.random.key(0))[1].state
    one = {"index": jnp.array([1], jnp.int32), "image": jnp.ones((1, 5))}

    def by_hand(params):
        z = one["image"] @ params["encoder"] @ params["projector"]
        z = z[0] / jnp.linalg.norm(z)
        return jnp.log1p(jnp.exp((z @ state.rows[0] - z @ state.rows[1]) / TAU))

    def loss(params):
        return method.loss(params, state, one, jax.random.key(0))[0]

    value, grads = jax.value_and_grad(loss)(params)
    target, wanted = jax.value_and_grad(by_hand)(params)
    np.testing.assert_allclose(value, target, rtol=1e-5)
    for name in params:
        np.testing.assert_allclose(grads[name], wanted[name], rtol=1e-4, atol=1e-6)


def test_the_order_of_a_batch_does_not_matter():
    method = methods.memory_bank(*PARTS, num_examples=N, negatives=6)
    params, state = method.init(jax.random.key(0), batch(0))
    for t in range(3):
        state = method.loss(params, state, batch(t), jax.random.key(t))[1].state
    given, order = batch(3), np.array([2, 0, 3, 1])
    moved = {name: value[order] for name, value in given.items()}
    (one, a), (two, b) = (
        method.loss(params, state, x, jax.random.key(3)) for x in (given, moved)
    )
    np.testing.assert_allclose(one, two, rtol=1e-6)
    np.testing.assert_allclose(a.state.rows, b.state.rows, rtol=1e-6, atol=1e-7)


def test_a_batch_without_views_is_one_view():
    method = methods.memory_bank(*PARTS, num_examples=N)
    given = batch(0)
    params, state = method.init(jax.random.key(0), given)
    plain = {"index": given["index"], "image": given["views"][:, 0]}
    (_, a), (_, b) = (
        method.loss(params, state, x, jax.random.key(0)) for x in (given, plain)
    )
    np.testing.assert_array_equal(a.state.rows, b.state.rows)


@pytest.mark.parametrize("index", [[0, 1, 2, N], [-1, 0, 1, 2]])
def test_an_index_beyond_the_bank_is_loud(index):
    method = methods.memory_bank(*PARTS, num_examples=N)
    given = batch(0) | {"index": jnp.asarray(index, jnp.int32)}
    params, state = method.init(jax.random.key(0), given)
    assert np.isnan(method.loss(params, state, given, jax.random.key(0))[0])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_examples": 1}, "memory_bank: num_examples must be at least 2, got 1"),
        ({"temperature": 0.0}, "memory_bank: temperature must be > 0"),
        ({"momentum": 1.1}, r"memory_bank: momentum must be in \[0, 1\], got 1.1"),
        ({"negatives": 0}, "memory_bank: negatives must be at least 1, got 0"),
    ],
)
def test_refuses_values_out_of_range(arguments, message):
    with pytest.raises(UsageError, match=message):
        methods.memory_bank(*PARTS, **({"num_examples": N} | arguments))


def test_refuses_a_bank_smaller_than_the_batch():
    method = methods.memory_bank(*PARTS, num_examples=3)
    with pytest.raises(UsageError, match="num_examples=3 is less than the batch of 4"):
        jax.eval_shape(method.init, jax.random.key(0), batch(0))
    given = batch(0)
    del given["index"]
    with pytest.raises(UsageError, match="memory_bank: the batch must have `index`"):
        method.init(jax.random.key(0), given)


@pytest.mark.slow
def test_learns_from_its_past():
    encoder = networks.mlp(features=(128,), out=64)
    head = networks.projection_head(hidden=64, out=32, batch_norm=False)
    method = methods.memory_bank(encoder, head, num_examples=1297, temperature=0.2)
    digits, rng = scanned.Digits(num_views=1), jax.random.key(0)
    untrained = digits.probe(method, *method.init(rng, digits.draw(rng)))
    params, state, metrics = scanned.run(method, digits.draw, rng, steps=400)
    learned, pixels = digits.probe(method, params, state), digits.probe_of_pixels()
    print(f"probe with 2 labels a class: {learned:.3f}, untrained {untrained:.3f}")
    print(f"pixels {pixels:.3f}, loss {float(metrics['loss'][-20:].mean()):.3f}")
    assert np.all(state.seen)
    assert learned > max(pixels, untrained) + 0.04
