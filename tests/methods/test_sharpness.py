"""Entropy of the softmax of contrastive losses: NumPy, the losses' own, edges."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import diagnostics as reference

from rl_jax import losses
from rl_jax.methods import sharpness as module

sharpness = jax.jit(module.sharpness, static_argnames="exclude_self")


def drawn(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("f4")


def check(found, rows):
    entropy, peak = reference.sharpness(rows)
    assert float(found["softmax_entropy"]) == pytest.approx(entropy, rel=1e-5)
    assert float(found["max_softmax"]) == pytest.approx(peak, rel=1e-5)


def test_all_views_but_oneself():
    z = drawn(9, 4)
    cosines = 3 * reference.unit(z) @ reference.unit(z).T
    rows = [np.delete(row, i) for i, row in enumerate(cosines)]
    check(sharpness(z, z, scale=3.0, exclude_self=True), rows)


def test_keys_of_the_batch():
    q, k = drawn(6, 4), drawn(6, 4, seed=1)
    rows = 5 * reference.unit(q) @ reference.unit(k).T
    check(sharpness(q, k, scale=5.0), rows)


def test_a_queue_that_is_not_full():
    q, k, queue = drawn(6, 4), drawn(6, 4, seed=1), reference.unit(drawn(8, 4, seed=2))
    queue[5:] = 0
    unit_q, unit_k = reference.unit(q), reference.unit(k)
    rows = [
        5 * np.append(unit_q[i] @ unit_k[i], unit_q[i] @ queue[:5].T) for i in range(6)
    ]
    queue = jnp.asarray(queue, jnp.float32)
    check(sharpness(q, queue, scale=5.0, own=k, valid=jnp.int32(5)), rows)
    empty = sharpness(q, queue, scale=5.0, own=k, valid=jnp.int32(0))
    assert float(empty["softmax_entropy"]) == 0
    assert float(empty["max_softmax"]) == 1


def test_is_the_loss_less_its_slope_by_the_inverse_temperature():
    """H = L − ∂L/∂log(1/τ) of NT-Xent, whose candidates these are."""
    a, b = drawn(16, 5), drawn(16, 5, seed=1)

    def loss(log_scale):
        return losses.nt_xent(a, b, temperature=jnp.exp(-log_scale))

    log_scale = jnp.log(jnp.float32(4.0))
    value, slope = jax.jit(jax.value_and_grad(loss))(log_scale)
    views = np.stack([a, b], axis=1).reshape(-1, 5)
    found = sharpness(views, views, scale=4.0, exclude_self=True)
    entropy = float(value - slope) / np.log(31)
    assert float(found["softmax_entropy"]) == pytest.approx(entropy, rel=1e-5)


def test_equal_candidates_and_a_cold_softmax():
    same = np.ones((7, 3), np.float32)
    found = sharpness(same, same, scale=10.0)
    assert float(found["softmax_entropy"]) == pytest.approx(1)
    assert float(found["max_softmax"]) == pytest.approx(1 / 7)
    z = drawn(7, 3)
    found = sharpness(z, z, scale=1e4)
    assert float(found["softmax_entropy"]) == pytest.approx(0, abs=1e-6)
    assert float(found["max_softmax"]) == pytest.approx(1)


def test_many_candidates_take_fewer_rows(monkeypatch):
    q, k = drawn(6, 4), drawn(6, 4, seed=1)
    monkeypatch.setattr(module, "MOST_PAIRS", 13)
    rows = 5 * reference.unit(q)[:2] @ reference.unit(k).T
    check(module.sharpness(q, k, scale=5.0), rows)


def test_has_no_gradient():
    def total(q, k, scale):
        return sum(sharpness(q, k, scale=scale, own=q).values())

    args = (drawn(4, 3), drawn(5, 3, seed=1), jnp.float32(2.0))
    slopes = jax.jit(jax.grad(total, argnums=(0, 1, 2)))(*args)
    assert not any(bool(jnp.any(g != 0)) for g in slopes)
