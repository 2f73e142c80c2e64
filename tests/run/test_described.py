"""What a run says of itself before its first step."""

import jax
import jax.numpy as jnp
import pytest
from test_recipe import recipe

from rl_jax import data
from rl_jax.run import described
from rl_jax.run import recipe as recipes


@pytest.mark.parametrize("large", [True, False])
def test_a_large_network_on_a_cpu_is_told_of(monkeypatch, large):
    monkeypatch.setattr(described, "LARGE", 10 if large else 1000)
    built = recipes.build(recipe(), data.digits())

    class Started:
        params = {"encoder": jax.ShapeDtypeStruct((3, 5), jnp.float32)}

    monkeypatch.setattr(described.jax, "eval_shape", lambda _: Started)
    found = described.lines(recipe(), built, lambda: None)
    assert any("on a CPU" in line and "rl-jax plan" in line for line in found) == large
