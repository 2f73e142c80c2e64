"""Supervised training, and how it ends: neural collapse."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import loop
from reference.compiled import methods

from rl_jax import evaluate, networks

CLASSES, EACH, DIM = 5, 100, 20


def clusters():
    rng = np.random.default_rng(0)
    means = rng.normal(size=(CLASSES, DIM))
    label = np.repeat(np.arange(CLASSES), EACH)
    x = means[label] + 0.5 * rng.normal(size=(len(label), DIM))
    return {
        "index": jnp.arange(len(label), dtype=jnp.int32),
        "image": jnp.asarray(x, jnp.float32),
        "label": jnp.asarray(label, jnp.int32),
    }


def collapse(penalty, steps):
    data = clusters()
    encoder = networks.mlp(features=(64, 64), out=16, batch_norm=False)
    method = methods.supervised(encoder, num_classes=CLASSES, feature_penalty=penalty)

    @jax.jit
    def run(rng):
        optimizer = loop.cosine_adam(2e-3, max(steps, 1))
        params, state = loop.fit(
            method, data, rng, optimizer=optimizer, steps=steps, batch_size=256
        )
        return params, method.encode(params, state, data)

    params, out = run(jax.random.key(0))
    (layer,) = params["classifier"].values()
    accuracy = np.mean(np.argmax(out["logits"], 1) == data["label"])
    measured = evaluate.neural_collapse(
        out["h"], data["label"], layer["kernel"], layer["bias"]
    )
    return accuracy, measured


@pytest.mark.slow
def test_the_feature_penalty_leads_to_the_simplex():
    _, before = collapse(5e-3, 0)
    accuracy, with_penalty = collapse(5e-3, 3000)
    plain_accuracy, plain = collapse(0.0, 3000)
    assert accuracy == plain_accuracy == 1.0
    assert with_penalty.angle < 0.02
    assert with_penalty.within < min(0.02, plain.within / 2)
    assert with_penalty.equinorm < 0.02
    assert with_penalty.duality < 0.1 < before.duality
    assert with_penalty.nearest == 0 <= before.nearest
    # Cross-entropy alone is right everywhere, and not there.
    assert plain.angle > 0.1
    assert plain.equinorm > with_penalty.equinorm


def test_unknown_labels_do_not_count():
    data = clusters()
    method = methods.supervised(
        networks.mlp(features=(), out=8), num_classes=CLASSES, feature_penalty=0.1
    )
    params, state = method.init(jax.random.key(0), data)
    known = np.arange(len(data["label"])) % 2 == 0
    half = data | {"label": jnp.where(known, data["label"], -1)}
    alone = {name: value[known] for name, value in data.items()}
    one, a = method.loss(params, state, half, jax.random.key(0))
    two, b = method.loss(params, state, alone, jax.random.key(0))
    np.testing.assert_allclose(one, two, rtol=1e-6)
    np.testing.assert_allclose(a.metrics["accuracy"], b.metrics["accuracy"])
