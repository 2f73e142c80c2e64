"""The adapter from Linen modules, and chains of networks."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from rl_jax import networks
from rl_jax.errors import UsageError


class Tiny(nn.Module):
    """A layer with parameters, statistics and noise."""

    out: int = 3

    @nn.compact
    def __call__(self, x, *, train):
        x = nn.Dense(self.out)(x)
        x = networks.BatchNorm()(x, train=train)
        return nn.Dropout(0.5)(x, deterministic=not train)


class Double(nn.Module):
    """Neither parameters nor statistics."""

    @nn.compact
    def __call__(self, x, *, train):
        return 2 * x


@pytest.fixture
def x():
    return np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)


@pytest.fixture
def rng():
    return jax.random.key(3)


def test_init_gives_the_variables_of_the_module(rng, x):
    params, state = networks.from_linen(Tiny()).init(rng, x)
    variables = Tiny().init({"params": rng}, x, train=False)
    chex.assert_trees_all_equal(params, variables["params"])
    chex.assert_trees_all_equal(state, {"batch_stats": variables["batch_stats"]})


def test_init_reads_no_value_of_x(rng, x):
    network = networks.chain(
        a=networks.from_linen(Tiny()), b=networks.mlp(features=(5,), out=2)
    )
    params, state = network.init(rng, np.full_like(x, np.nan))
    compiled = jax.jit(network.init)(rng, x)
    chex.assert_trees_all_close((params, state), compiled, rtol=1e-6)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(params))


def test_evaluation_returns_the_state_it_was_given(rng, x):
    for network in (
        networks.from_linen(Tiny()),
        networks.chain(a=networks.from_linen(Tiny())),
    ):
        params, state = network.init(rng, x)
        y, same = network.apply(params, state, x, train=False)
        assert same is state
        again, _ = network.apply(params, state, x, train=False, rng=rng)
        np.testing.assert_array_equal(y, again)


def test_training_returns_a_new_state_of_the_same_type(rng, x):
    network = networks.chain(
        plain=networks.from_linen(Double()), noisy=networks.from_linen(Tiny())
    )
    params, state = network.init(rng, x)
    before = jax.tree.map(np.array, state)
    _, new = network.apply(params, state, x, train=True, rng=rng)
    chex.assert_trees_all_equal(state, before)
    chex.assert_trees_all_equal_shapes_and_dtypes(state, new)
    assert not np.array_equal(
        new["noisy"]["batch_stats"]["BatchNorm_0"]["mean"],
        state["noisy"]["batch_stats"]["BatchNorm_0"]["mean"],
    )


def test_a_module_without_variables(rng, x):
    network = networks.from_linen(Double())
    params, state = network.init(rng, x)
    assert (params, state) == ({}, {})
    for train in (False, True):
        y, state = network.apply(params, state, x, train=train)
        np.testing.assert_array_equal(y, 2 * x)
        assert state == {}


def test_rng_feeds_dropout(rng, x):
    network = networks.from_linen(Tiny())
    params, state = network.init(rng, x)
    run = functools.partial(network.apply, params, state, x, train=True)
    y, _ = run(rng=rng)
    np.testing.assert_array_equal(y, run(rng=rng)[0])
    assert not np.array_equal(y, run(rng=jax.random.key(4))[0])
    with pytest.raises(UsageError, match="Tiny: it draws noise in training"):
        run()


def test_noise_of_another_stream_is_named(rng, x):
    class Other(nn.Module):
        @nn.compact
        def __call__(self, x, *, train):
            return x + jax.random.normal(self.make_rng("noise"), x.shape)

    network = networks.from_linen(Other())
    with pytest.raises(UsageError, match="Other: .* and asks for another stream; draw"):
        network.apply({}, {}, x, train=True, rng=rng)


def test_chain_is_one_network_after_the_other(rng, x):
    first, second = (
        networks.mlp(features=(5,), out=3),
        networks.mlp(features=(5,), out=3),
    )
    both = networks.chain(encoder=first, projector=second)
    params, state = both.init(rng, x)
    assert set(params) == set(state) == {"encoder", "projector"}
    for train in (False, True):
        h, encoder_state = first.apply(
            params["encoder"], state["encoder"], x, train=train
        )
        z, projector_state = second.apply(
            params["projector"], state["projector"], h, train=train
        )
        y, new = both.apply(params, state, x, train=train)
        np.testing.assert_array_equal(y, z)
        chex.assert_trees_all_equal(
            new, {"encoder": encoder_state, "projector": projector_state}
        )


def test_chained_networks_draw_apart(rng, x):
    square = networks.mlp(features=(), out=4)
    params, _ = networks.chain(a=square, b=square).init(rng, x)
    assert not np.allclose(
        params["a"]["Dense_0"]["kernel"], params["b"]["Dense_0"]["kernel"]
    )

    class Mask(nn.Module):
        @nn.compact
        def __call__(self, x, *, train):
            return nn.Dropout(0.5)(x, deterministic=not train)

    mask = networks.from_linen(Mask())
    ones = jnp.ones((8, 64))
    network = networks.chain(a=mask, b=mask)
    y, _ = network.apply(
        {"a": {}, "b": {}}, {"a": {}, "b": {}}, ones, train=True, rng=rng
    )
    kept = float(jnp.mean(y > 0))
    assert 0.15 < kept < 0.35, "two masks that are one would keep a half"


def test_a_chain_needs_a_network():
    with pytest.raises(UsageError, match="chain: got no network"):
        networks.chain()


def test_a_module_is_not_yet_a_network():
    with pytest.raises(UsageError, match="encoder: expected a Network, got Tiny; net"):
        networks.chain(encoder=Tiny())
