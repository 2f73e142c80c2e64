"""A network starts with the weights it is given, or says what does not fit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.core import freeze

from rl_jax import networks
from rl_jax.errors import UsageError

X = jnp.zeros((2, 5))
NETWORK = networks.mlp(features=(4,), out=3)
PARAMS, STATE = NETWORK.init(jax.random.key(1), X)


def test_starts_with_what_was_given_and_computes_the_same():
    given = jax.tree.map(np.asarray, (PARAMS, STATE))
    found = networks.pretrained(NETWORK, freeze(given[0]), given[1])
    params, state = jax.jit(found.init)(jax.random.key(2), X)
    assert jax.tree.structure((params, state)) == jax.tree.structure((PARAMS, STATE))
    jax.tree.map(np.testing.assert_array_equal, (params, state), given)
    assert found.apply is NETWORK.apply
    assert found.layers is NETWORK.layers


def test_each_start_is_a_copy():
    """A state is donated; what it was made of must stay."""
    found = networks.pretrained(NETWORK, PARAMS, STATE)
    for init in (found.init, jax.jit(found.init)):
        jax.tree.map(lambda x: x.delete(), init(jax.random.key(2), X))
    np.asarray(PARAMS["Dense_0"]["kernel"])
    np.asarray(jax.tree.leaves(STATE)[0])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"kernel": jnp.zeros((5, 6))},
            r"is float32\[5, 6\] in the weights, float",
        ),
        ({"kernel": jnp.zeros((5, 4), jnp.float16)}, r"is float16\[5, 4\] in the wei"),
        ({"bias": jnp.zeros(4)}, r"Dense_0/bias is float32\[4\] in the weights, none"),
    ],
)
def test_other_weights_are_refused_in_one_line(change, words):
    params = PARAMS | {"Dense_0": PARAMS["Dense_0"] | change}
    found = networks.pretrained(NETWORK, params, STATE)
    with pytest.raises(UsageError, match=words) as error:
        jax.eval_shape(found.init, jax.random.key(2), X)
    assert "\n" not in str(error.value)


def test_missing_statistics_and_another_input_are_refused():
    with pytest.raises(UsageError, match=r"state/.* is none in the weights"):
        networks.pretrained(NETWORK, PARAMS).init(jax.random.key(2), X)
    with pytest.raises(UsageError, match=r"Dense_0/kernel is float32\[5, 4\] in"):
        networks.pretrained(NETWORK, PARAMS, STATE).init(
            jax.random.key(2), jnp.zeros((2, 7))
        )


def test_what_is_no_network_is_refused():
    with pytest.raises(UsageError, match="expected a Network, got dict; make one"):
        networks.pretrained({}, {})
