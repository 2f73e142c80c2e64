"""Optimizers against their formulas written as loops."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rl_jax import train
from rl_jax.errors import UsageError
from rl_jax.train.optimizers import warmup_cosine

PARAMS = {"kernel": np.full((3, 2), 0.5), "bias": np.array([0.5, -0.5])}
GRADS = [
    {"kernel": np.full((3, 2), g), "bias": np.array([g, 2 * g])}
    for g in (0.1, -0.3, 0.2)
]


def run(optimizer):
    params = jax.tree.map(lambda p: jnp.asarray(p, jnp.float32), PARAMS)
    state = optimizer.init(params)
    for g in GRADS:
        g = jax.tree.map(lambda v: jnp.asarray(v, jnp.float32), g)
        updates, state = optimizer.update(g, state, params)
        params = optax.apply_updates(params, updates)
    return params


def rate(step, peak, total=10):
    return peak * (1 + np.cos(np.pi * step / total)) / 2


@pytest.mark.parametrize("decay", [0.0, 1e-2])
def test_lars(decay):
    """Kernels adapt and decay, biases do neither; adaptation stays on without decay."""
    found = run(
        train.lars(
            total_steps=10, batch_size=256, learning_rate=0.3, weight_decay=decay
        )
    )
    params = {k: v.copy() for k, v in PARAMS.items()}
    velocity = {k: np.zeros_like(v) for k, v in PARAMS.items()}
    for step, g in enumerate(GRADS):
        u = g["kernel"] + decay * params["kernel"]
        trust = 1e-3 * np.linalg.norm(params["kernel"]) / np.linalg.norm(u)
        for name, direction in (("kernel", trust * u), ("bias", g["bias"])):
            velocity[name] = 0.9 * velocity[name] - rate(step, 0.3) * direction
            params[name] = params[name] + velocity[name]
    for name in params:
        np.testing.assert_allclose(found[name], params[name], rtol=1e-5, err_msg=name)


def test_sgd():
    found = run(
        train.sgd(total_steps=10, batch_size=128, learning_rate=0.2, weight_decay=0.1)
    )
    params = {k: v.copy() for k, v in PARAMS.items()}
    velocity = {k: np.zeros_like(v) for k, v in PARAMS.items()}
    for step, g in enumerate(GRADS):
        for name in params:
            u = g[name] + (0.1 * params[name] if name == "kernel" else 0.0)
            velocity[name] = 0.9 * velocity[name] + u
            params[name] = params[name] - rate(step, 0.1) * velocity[name]
    for name in params:
        np.testing.assert_allclose(found[name], params[name], rtol=1e-5, err_msg=name)


def test_adamw_decays_kernels_only():
    with_decay = run(train.adamw(total_steps=10, weight_decay=0.1))
    without = run(train.adamw(total_steps=10, weight_decay=0.0))
    np.testing.assert_array_equal(with_decay["bias"], without["bias"])
    assert np.all(np.asarray(with_decay["kernel"]) < np.asarray(without["kernel"]))


def test_warmup_then_cosine():
    schedule = warmup_cosine(2.0, warmup_steps=10, total_steps=110)
    found = [float(schedule(t)) for t in (0, 5, 10, 60, 110)]
    np.testing.assert_allclose(found, [0, 1, 2, 1, 0], atol=1e-6)


@pytest.mark.parametrize(
    ("rule", "value", "words"),
    [
        ("linear", 0.6, "0.3 x 512/256 = 0.6"),
        ("sqrt", 0.3 * 2**0.5, "0.3 x sqrt(512/256) = 0.424264"),
        ("none", 0.3, "not scaled"),
    ],
)
def test_scaling_says_what_it_did(rule, value, words):
    found = train.scale_learning_rate(0.3, batch_size=512, scaling=rule)
    assert found.value == pytest.approx(value)
    assert words in found.reason


def test_refuses_bad_rates():
    with pytest.raises(UsageError, match="learning_rate must be > 0 and finite, got 0"):
        train.scale_learning_rate(0, batch_size=256, scaling="linear")
    with pytest.raises(UsageError, match="none, linear or sqrt, got 'cubic'"):
        train.scale_learning_rate(0.1, batch_size=256, scaling="cubic")
    for size in (0, -256):
        with pytest.raises(UsageError, match="batch_size must be at least 1, got"):
            train.scale_learning_rate(0.1, batch_size=size, scaling="linear")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: train.adamw(total_steps=0), "adamw: total_steps must be >= 1"),
        (lambda: train.sgd(total_steps=9, momentum=math.nan), r"in \[0, 1\), got nan"),
        (lambda: train.lars(total_steps=9, weight_decay=-1), "weight_decay must be >="),
        (
            lambda: train.lars(total_steps=9, trust_coefficient=math.inf),
            "trust_coefficient must be >= 0 and finite, got inf",
        ),
    ],
)
def test_refuses_values_out_of_range(make, message):
    with pytest.raises(UsageError, match=message):
        make()
