"""Decoder of masked autoencoders, predictor of I-JEPA: places, and tokens not there."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import assert_close

from rl_jax import networks
from rl_jax.errors import UsageError

RNG = jax.random.key(0)
FACTORIES = {"mae_decoder": (networks.mae_decoder, 16),
             "jepa_predictor": (networks.jepa_predictor, 6)}  # fmt: skip
"""And the width of what each gives of tokens 6 wide."""


def given():
    places = jnp.broadcast_to(networks.patch_positions(3, 4)[None], (3, 12, 2))
    tokens = jnp.asarray(np.random.default_rng(2).normal(size=(3, 5, 6)), jnp.float32)
    return networks.Masked(tokens, places[:, :5], places[:, 5:])


def made(name, **arguments):
    factory, out = FACTORIES[name]
    network, x = factory(width=16, **arguments), given()
    params, state = network.init(RNG, x)
    run = jax.jit(functools.partial(network.apply, train=False))
    return lambda x: run(params, state, x)[0], x, out


@pytest.mark.parametrize("name", FACTORIES)
def test_told_by_place(name):
    """Another place, another output; the order of the visible does not matter."""
    run, x, out = made(name)
    y = run(x)
    assert y.shape == (3, 7, out)
    assert y.dtype == jnp.float32
    turned = networks.Masked(x.tokens[:, ::-1], x.positions[:, ::-1], x.masked[:, ::-1])
    assert_close(run(turned)[:, ::-1], y, tolerance=1e-5)
    assert np.max(np.abs(y[:, 0] - y[:, 1])) > 1e-3
    elsewhere = run(x._replace(positions=x.positions[:, ::-1]))
    assert np.max(np.abs(elsewhere - y)) > 1e-3


@pytest.mark.parametrize("remat", [False, True])
@pytest.mark.parametrize("name", FACTORIES)
def test_tokens_that_are_not_there_change_nothing(name, remat):
    """Wherever they would be: the others are as without them."""
    run, x, _ = made(name, remat=remat)
    real = np.ones((3, 7), bool)
    assert_close(run(x._replace(real=jnp.asarray(real))), run(x), tolerance=1e-5)
    real[:, 4:] = False
    found = run(x._replace(real=jnp.asarray(real)))[:, :4]
    assert_close(found, run(x._replace(masked=x.masked[:, :4])), tolerance=1e-5)
    elsewhere = x._replace(masked=x.masked.at[:, 4:].set(0), real=jnp.asarray(real))
    assert_close(run(elsewhere)[:, :4], found, tolerance=1e-6)
    assert np.max(np.abs(run(x)[:, :4] - found)) > 1e-4


def test_the_last_layer_of_the_predictor_is_of_its_dtype():
    run, x, _ = made("jepa_predictor", dtype="bfloat16")
    lowered = jax.jit(run).lower(x).as_text()
    assert "tensor<3x7x6xbf16>" in lowered


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mae_decoder", "mae_decoder: expected the tokens .* use an mlp_decoder"),
        ("jepa_predictor", "jepa_predictor: expected .* use a prediction_head"),
    ],
)
def test_other_inputs_are_refused(name, message):
    network = FACTORIES[name][0]()
    with pytest.raises(UsageError, match=message) as error:
        network.init(RNG, jnp.zeros((4, 8)))
    assert "\n" not in str(error.value)
