"""CPC against the paper's sum, and on a dynamical system that is known."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scanned
from reference.compiled import methods
from reference.sequences import cpc as reference

from rl_jax import evaluate, networks
from rl_jax.errors import UsageError
from rl_jax.types import Network

TAU, HORIZON = 0.3, 2


def running_mean():
    """A causal context without parameters."""

    def apply(params, state, z, *, train, rng=None):
        del train, rng
        count = jnp.arange(1.0, z.shape[1] + 1)[None, :, None]
        return jnp.cumsum(z, axis=1) / count, state

    return Network(lambda rng, x: ({}, {}), apply)


def sequences(size=4, steps=17):
    x = jax.random.normal(jax.random.key(3), (size, steps, 2))
    return {"index": jnp.arange(size), "sequence": x}


def small(context=None, **arguments):
    encoder = networks.mlp(features=(), out=3)
    arguments = {"window": 4, "horizon": HORIZON, "temperature": TAU} | arguments
    return methods.cpc(encoder, context or running_mean(), **arguments)


def test_equals_the_paper():
    method, batch = small(), sequences()
    params, state = method.init(jax.random.key(0), batch)
    head = params["predictor"]["Dense_0"]
    head["bias"] += 0.3
    value, aux = jax.jit(method.loss)(params, state, batch, None)
    x = np.asarray(batch["sequence"], np.float64)[:, :16].reshape(4, 4, 8)
    layer = params["encoder"]["Dense_0"]
    z = x @ np.asarray(layer["kernel"]) + np.asarray(layer["bias"])
    c = np.cumsum(z, 1) / np.arange(1, 5)[None, :, None]
    heads = [
        (np.asarray(head["kernel"])[:, s], np.asarray(head["bias"])[s])
        for s in (slice(0, 3), slice(3, 6))
    ]
    expected = reference(z, c, heads, temperature=TAU)
    assert float(value) == pytest.approx(expected.mean(), rel=1e-5)
    for k, candidates in ((1, 12), (2, 8)):
        bound = math.log(candidates) - expected[k - 1]
        assert float(aux.metrics[f"information_{k}"]) == pytest.approx(bound, abs=1e-5)
    out = method.encode(params, state, batch)
    np.testing.assert_allclose(out["h"], c.mean(1), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(out["z"], z.mean(1), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(aux.features["h"][:, 0], out["h"], rtol=1e-5)
    np.testing.assert_allclose(aux.features["z"][:, 0], out["z"], rtol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"window": 0}, "cpc: window must be at least 1, got 0"),
        ({"horizon": 0}, "cpc: horizon must be at least 1, got 0"),
        ({"temperature": math.inf}, "cpc: temperature must be > 0 and finite, got inf"),
    ],
)
def test_refuses_values_out_of_range(arguments, message):
    with pytest.raises(UsageError, match=message):
        small(**arguments)


def test_refuses_a_batch_that_does_not_fit():
    with pytest.raises(
        UsageError,
        match="a horizon of 4 needs at least 5 windows of 4 steps, got sequences of 17",
    ):
        jax.eval_shape(small(horizon=4).init, jax.random.key(0), sequences())
    with pytest.raises(UsageError, match="cpc: the batch must have `sequence`, got"):
        small().init(jax.random.key(0), {"index": jnp.arange(4)})


def rotations(rng, size=128, *, shuffled=False):
    """Circles [128, 64, 2] at one of five speeds, of any phase and size, under noise.

    Nothing but the order of the steps tells the speed: a shuffled one has lost it.
    """
    rngs = jax.random.split(rng, 5)
    label = jax.random.randint(rngs[0], (size,), 0, 5)
    start = jax.random.uniform(rngs[1], (size, 1), maxval=2 * math.pi)
    angle = start + (0.25 + 0.2 * label)[:, None] * jnp.arange(64.0)[None]
    radius = jax.random.uniform(rngs[2], (size, 1, 1), minval=0.5, maxval=1.5)
    x = radius * jnp.stack([jnp.cos(angle), jnp.sin(angle)], -1)
    x += jax.random.normal(rngs[3], x.shape)
    if shuffled:
        x = jax.vmap(jax.random.permutation)(jax.random.split(rngs[4], size), x)
    return {"index": jnp.arange(size), "sequence": x, "label": label}


shuffled_rotations = functools.partial(rotations, shuffled=True)


def accuracy(method, params, state):
    """Of a linear probe of the context that tells the speeds."""
    one, two = (rotations(jax.random.key(s), 1000) for s in (100, 101))
    h, held = (np.asarray(method.encode(params, state, b)["h"]) for b in (one, two))
    labels = [np.asarray(b["label"]) for b in (one, two)]
    return evaluate.linear_probe(h, labels[0], held, labels[1]).mean


@pytest.mark.slow
def test_learns_the_speed_of_a_rotation():
    encoder = networks.mlp(features=(64,), out=32, batch_norm=False)
    method = methods.cpc(encoder, networks.gru(hidden=32), window=8, horizon=3)
    rng = jax.random.key(0)
    untrained = accuracy(method, *method.init(rng, rotations(rng)))
    params, state, metrics = scanned.run(method, rotations, rng, steps=300)
    learned = [float(metrics[f"information_{k}"][-20:].mean()) for k in (1, 3)]
    found = accuracy(method, params, state)
    params, state, metrics = scanned.run(method, shuffled_rotations, rng, steps=300)
    nothing = float(metrics["information_1"][-20:].mean())
    control = accuracy(method, params, state)
    print(f"information {learned[0]:.2f}, {learned[1]:.2f}; no order {nothing:.3f} nat")
    print(f"accuracy {found:.3f}, control {control:.3f}, untrained {untrained:.3f}")
    assert min(learned) > 0.5
    assert abs(nothing) < 0.05
    assert found > 0.8
    assert found > max(control, untrained) + 0.2
