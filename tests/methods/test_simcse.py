"""SimCSE: its loss, its positives, and what dropout is for."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from reference import losses as reference
from reference.compiled import methods
from reference.machine import quick_jit as jit

from rl_jax import evaluate, networks
from rl_jax.errors import UsageError

STEP = jax.random.key(3)
HEAD = networks.projection_head(hidden=16, out=8, batch_norm=False)


def texts(seed, count=16, length=12, words=20):
    rng = np.random.default_rng(seed)
    tokens = jnp.asarray(rng.integers(3, words, (count, length)), jnp.int32)
    return {"index": jnp.arange(count), "tokens": tokens}


def transformer(dropout, **arguments):
    arguments = {"vocab_size": 20, "length": 12, "width": 16, "depth": 1} | arguments
    return networks.text_transformer(dropout=dropout, heads=2, **arguments)


def test_loss_is_info_nce_of_two_passes():
    method = methods.simcse(transformer(0.1), HEAD, temperature=0.2)
    batch = texts(0)
    params, state = method.init(jax.random.key(0), batch)
    value, aux = jit(method.loss)(params, state, batch, STEP)
    z = np.asarray(aux.features["z"], np.float64)
    expected, _ = reference.info_nce(z[:, 0], z[:, 1], temperature=0.2)
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    assert not np.allclose(z[:, 0], z[:, 1], atol=1e-2)


def test_without_dropout_positives_are_equal():
    method = methods.simcse(transformer(0.0), HEAD)
    batch = texts(0)
    params, state = method.init(jax.random.key(0), batch)
    _, aux = jit(method.loss)(params, state, batch, STEP)
    z = aux.features["z"]
    np.testing.assert_allclose(z[:, 0], z[:, 1], rtol=1e-5, atol=1e-6)


def test_encodes_without_noise():
    method = methods.simcse(transformer(0.5), HEAD)
    batch = texts(0)
    params, state = method.init(jax.random.key(0), batch)
    out = method.encode(params, state, batch)
    assert out["h"].shape == (16, 16)
    encoder = transformer(0.0)
    h, _ = encoder.apply(params["encoder"], {}, batch["tokens"], train=False)
    np.testing.assert_allclose(out["h"], h, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("batch", "encoder", "message"),
    [
        ({"image": jnp.zeros((4, 3))}, transformer(0.1), "must have `tokens`"),
        (
            {"tokens": jnp.ones((4, 2, 12), jnp.int32)},
            transformer(0.1),
            r"simcse: expected tokens \[B, L\]",
        ),
        (
            texts(0),
            transformer(0.1, pool="none"),
            r"one vector for each example, \[N, D\], got \(32, 12, 16\); .* pools",
        ),
    ],
)
def test_refuses_other_batches_and_encoders(batch, encoder, message):
    method = methods.simcse(encoder, HEAD)

    def step():
        params, state = method.init(jax.random.key(0), batch)
        return method.loss(params, state, batch, STEP)

    with pytest.raises(UsageError, match=message) as error:
        jax.eval_shape(step)
    assert "\n" not in str(error.value)


def test_refuses_a_temperature_of_zero():
    with pytest.raises(UsageError, match="simcse: temperature must be > 0"):
        methods.simcse(transformer(0.1), HEAD, temperature=0.0)


def of_topics(count=2000, topics=6, words=300, length=24, share=0.15):
    """Texts of common words and, `share` of them, words of the text's topic alone."""
    rng = np.random.default_rng(0)
    common = 1 / np.arange(1.0, words - 2)
    tokens = 3 + rng.choice(words - 3, (count, length), p=common / common.sum())
    own = 3 + rng.permutation(words - 3)[: topics * 30].reshape(topics, 30)
    label = rng.integers(0, topics, count)
    chosen = own[label[:, None], rng.integers(0, 30, (count, length))]
    said = rng.random((count, length)) < share
    return np.where(said, chosen, tokens).astype(np.int32), label.astype(np.int32)


@pytest.mark.slow
def test_dropout_lets_it_find_topics():
    """k-NN of held-out texts by topic: untrained < without dropout < with it."""
    tokens, label = of_topics()
    train, rest = slice(0, 1500), slice(1500, None)

    def accuracy(dropout, steps):
        encoder = transformer(dropout, vocab_size=300, length=24, width=32)
        head = networks.projection_head(hidden=32, out=32, batch_norm=False)
        method = methods.simcse(encoder, head)
        optimizer = optax.adam(2e-3)

        @jax.jit
        def run(rng):
            def step(carry, t):
                params, opt_state = carry
                rng_batch, rng_step = jax.random.split(jax.random.fold_in(rng, t))
                rows = jax.random.randint(rng_batch, (64,), 0, 1500)
                batch = {"tokens": jnp.asarray(tokens)[rows]}
                loss = functools.partial(method.loss, state=state, batch=batch)
                grads = jax.grad(lambda p: loss(p, rng=rng_step)[0])(params)
                updates, opt_state = optimizer.update(grads, opt_state)
                return (optax.apply_updates(params, updates), opt_state), None

            params, state = method.init(rng, {"tokens": jnp.asarray(tokens[:64])})
            start = (params, optimizer.init(params))
            (params, _), _ = jax.lax.scan(step, start, jnp.arange(steps))
            every = {"tokens": jnp.asarray(tokens)}
            return method.encode(params, state, every)["h"]

        h = np.asarray(run(jax.random.key(0)))
        found = evaluate.knn_accuracy(h[train], label[train], h[rest], label[rest])
        print(f"dropout {dropout}, {steps} steps: {found:.3f}")
        return found

    untrained, none, some = accuracy(0.0, 0), accuracy(0.0, 300), accuracy(0.3, 300)
    assert untrained < none < some
    assert some > none + 0.03
