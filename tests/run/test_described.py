"""What a run says of itself before its first step."""

import jax
import jax.numpy as jnp
import pytest
from test_recipe import recipe

from rl_jax import data
from rl_jax.run import described
from rl_jax.run import recipe as recipes


class Started:
    params = {"encoder": jax.ShapeDtypeStruct((3, 5), jnp.float32)}


@pytest.mark.parametrize(
    ("least", "many", "large"), [(10, 5, True), (1000, 5, False), (10, 6, False)]
)
def test_a_large_network_on_a_cpu_is_told_of(monkeypatch, least, many, large):
    monkeypatch.setattr(described, "LARGE", least)
    monkeypatch.setattr(described, "MANY", many)
    built = recipes.build(recipe(), data.digits())

    monkeypatch.setattr(described.jax, "eval_shape", lambda _: Started)
    found = described.lines(recipe(), built, lambda: None)
    assert any("on a CPU" in line and "rl-jax plan" in line for line in found) == large


@pytest.mark.parametrize("apart", [False, True])
def test_what_is_held_out_is_told(apart, monkeypatch):
    source = data.digits()
    if not apart:
        source = source._replace(held_out=None)
    built = recipes.build(recipe(), source)
    monkeypatch.setattr(described.jax, "eval_shape", lambda _: Started)
    first = described.lines(recipe(), built, lambda: None)[0]
    assert "1297 images 8x8x1 (on the device" in first
    assert ("; 500 others held out)" in first) == apart


@pytest.mark.parametrize(
    ("name", "told"), [("queue_from", "queue is never used"), ("frozen_steps", "never")]
)
def test_a_step_that_is_not_reached_is_told(name, told, monkeypatch):
    built = recipes.build(recipe(), data.digits())
    monkeypatch.setattr(described.jax, "eval_shape", lambda _: Started)
    for first in (4, 5):  # of five steps
        made = recipe(method=recipes.Spec("swav", {name: first}))
        found = described.lines(made, built, lambda: None)
        warned = [line for line in found if line.startswith(f"warning: {name}={first}")]
        assert len(warned) == (first == 5)
        assert all("the run has 5 steps" in line and told in line for line in warned)
    without = recipe(method=recipes.Spec("swav", {name: 9, "queue_size": 0}))
    found = described.lines(without, built, lambda: None)
    warned = [line for line in found if line.startswith(f"warning: {name}=9")]
    assert len(warned) == (name == "frozen_steps")
