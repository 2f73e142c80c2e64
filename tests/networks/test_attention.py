"""Attention against its formula, and what it runs where cuDNN is not to be had."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import assert_close

from rl_jax.networks import attention
from rl_jax.networks.transformer import Projections

SHAPE = (2, 5, 3, 8)


def inputs(dtype=jnp.float32):
    rng = np.random.default_rng(0)
    return [jnp.asarray(rng.normal(size=SHAPE), dtype) for _ in range(3)]


def reference(q, k, v, seen):
    q, k, v = (np.asarray(x, np.float64) for x in (q, k, v))
    logits = np.einsum("blhd,bmhd->bhlm", q, k) / np.sqrt(SHAPE[-1])
    weights = np.where(seen, np.exp(logits), 0)
    weights /= weights.sum(-1, keepdims=True)
    return np.einsum("bhlm,bmhd->blhd", weights, v)


def test_formula():
    q, k, v = inputs()
    everything = np.ones((5, 5), bool)
    found = attention.attend(q, k, v)
    assert_close(found, reference(q, k, v, everything), tolerance=1e-6)
    causal = np.tril(everything)
    found = attention.attend(q, k, v, causal=True)
    assert_close(found, reference(q, k, v, causal), tolerance=1e-6)
    mask = np.arange(5) < np.array([3, 5])[:, None]
    mask = mask[:, None, None]
    found = attention.attend(q, k, v, mask=jnp.asarray(mask))
    assert_close(found, reference(q, k, v, mask), tolerance=1e-6)


@pytest.fixture
def calls(monkeypatch):
    """A card that has the kernel; what is asked of it."""
    made = []

    def attend(q, k, v, *, implementation, **_):
        made.append(implementation)
        return q

    monkeypatch.setattr(attention, "_platform", lambda: "gpu")
    monkeypatch.setattr(attention, "_works", lambda *_: True)
    monkeypatch.setattr(jax.nn, "dot_product_attention", attend)
    return made


def test_which_kernel(calls):
    half, single = inputs(jnp.bfloat16), inputs()
    attention.attend(*half)
    attention.attend(*half, causal=True)
    attention.attend(*half, mask=jnp.ones((2, 1, 1, 5), bool))
    attention.attend(*single)
    attention.attend(*(x[..., :7] for x in half))
    assert calls == ["cudnn", "cudnn", "xla", "xla", "xla"]


def test_a_card_without_the_kernel(monkeypatch):
    monkeypatch.setattr(attention, "_platform", lambda: "gpu")
    attention._works.cache_clear()
    x = inputs(jnp.bfloat16)
    found = attention.attend(*x)
    expected = jax.nn.dot_product_attention(*x, implementation="xla")
    chex.assert_trees_all_equal(found, expected)


def test_the_default_device_decides():
    assert attention._platform() == jax.default_backend()
    with jax.default_device(jax.devices("cpu")[0]):
        assert attention._platform() == "cpu"


def test_projections_are_the_cut_of_one_product():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 3, 4)), jnp.float32)
    module = Projections(dtype=jnp.float32)
    variables = module.init(jax.random.key(0), x)
    kernel, bias = variables["params"]["kernel"], jnp.arange(12.0)
    assert kernel.shape == (4, 12)
    found = module.apply({"params": {"kernel": kernel, "bias": bias}}, x)
    expected = np.split(np.asarray(x) @ np.asarray(kernel) + np.arange(12.0), 3, -1)
    assert_close(jnp.stack(found), np.stack(expected), tolerance=1e-5)
