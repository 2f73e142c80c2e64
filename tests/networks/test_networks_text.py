"""The transformer for tokens: padding, direction, pooling."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import assert_close

from rl_jax import networks
from rl_jax.errors import UsageError

RNG = jax.random.key(0)
TEXTS = np.random.default_rng(0).integers(1, 20, (3, 5)).astype(np.int32)


def made(**arguments):
    network = networks.text_transformer(
        vocab_size=20, length=9, width=16, depth=2, heads=2, **arguments
    )
    params, state = network.init(RNG, jnp.asarray(TEXTS))
    # Positions that matter, and scores far from equal.
    params = jax.tree.map(lambda p: 3 * p, params)

    @jax.jit
    def run(tokens):
        return network.apply(params, state, tokens, train=False)[0]

    return lambda tokens: np.asarray(run(jnp.asarray(tokens, jnp.int32)))


def padded(texts, by):
    return np.pad(texts, ((0, 0), (0, by)))


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("pool", ["mean", "first", "last"])
def test_padding_changes_nothing(pool, causal):
    run = made(pool=pool, causal=causal)
    y = run(TEXTS)
    assert y.shape == (3, 16)
    assert_close(run(padded(TEXTS, 4)), y, tolerance=1e-5)
    assert_close(run(padded(TEXTS, 1)), y, tolerance=1e-5)


def test_no_token_attends_to_padding():
    """Also where it stands between words."""
    run = made(pool="none")
    one, other = TEXTS.copy(), TEXTS.copy()
    one[:, 2] = 0
    other[:, 2] = 7
    y = run(one)
    assert y.shape == (3, 5, 16)
    assert not np.allclose(run(other)[:, 0], y[:, 0], atol=1e-3)
    # Position 2 is left, and nothing of it: the words after it keep their places.
    network = networks.text_transformer(
        vocab_size=20, length=9, width=16, depth=2, heads=2, pool="none"
    )
    params, state = network.init(RNG, jnp.asarray(TEXTS))
    params = jax.tree.map(lambda p: 3 * p, params)
    changed = params | {"tokens": params["tokens"].at[0].set(5.0)}
    z, _ = network.apply(changed, state, jnp.asarray(one), train=False)
    words = [0, 1, 3, 4]
    assert_close(z[:, words], y[:, words], tolerance=1e-6)


def test_causal_tokens_do_not_see_the_future():
    later = TEXTS.copy()
    later[:, 3:] = (later[:, 3:] % 19) + 1
    for causal in (False, True):
        run = made(pool="none", causal=causal)
        a, b = run(TEXTS)[:, :3], run(later)[:, :3]
        assert np.allclose(a, b, atol=1e-6) == causal


def test_what_is_pooled():
    tokens = padded(TEXTS, 2)
    every = made(pool="none")(tokens)
    assert_close(made(pool="mean")(tokens), every[:, :5].mean(1), tolerance=1e-5)
    assert_close(made(pool="first")(tokens), every[:, 0], tolerance=1e-6)
    assert_close(made(pool="last")(tokens), every[:, 4], tolerance=1e-6)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("pool", ["mean", "first", "last", "none"])
def test_nothing_but_padding_is_finite(pool, causal):
    network = networks.text_transformer(
        vocab_size=20, length=5, width=8, depth=1, heads=2, pool=pool, causal=causal
    )
    tokens = jnp.asarray(TEXTS).at[1].set(0)
    params, state = network.init(RNG, tokens)

    def loss(params):
        y, _ = network.apply(params, state, tokens, train=True)
        return jnp.sum(jnp.square(y)), y

    gradient, y = jax.jit(jax.grad(loss, has_aux=True))(params)
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves((gradient, y)))
    if pool == "mean":
        assert not np.any(y[1])


def test_order_of_words_matters():
    run = made()
    assert not np.allclose(run(TEXTS), run(TEXTS[:, ::-1].copy()), atol=1e-3)


def test_a_token_outside_the_vocabulary_is_loud():
    run = made()
    wrong = TEXTS.copy()
    wrong[0, 0] = 20
    y = run(wrong)
    assert np.all(np.isnan(y[0]))
    assert np.all(np.isfinite(y[1:]))


def test_embedding_for_the_output():
    network = networks.text_transformer(vocab_size=20, width=16)
    params, _ = network.init(RNG, jnp.asarray(TEXTS))
    assert networks.token_embedding(params).shape == (20, 16)
    with pytest.raises(UsageError, match="the parameters of a text_transformer, got"):
        networks.token_embedding({"kernel": 1})


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        (jnp.ones((2, 10), jnp.int32), "of 10 tokens are longer than length=9"),
        (jnp.ones((2, 3, 4), jnp.int32), r"expected tokens int32 \[B, L\], got int32"),
        (jnp.ones((2, 3)), r"expected tokens int32 \[B, L\], got float32"),
    ],
)
def test_refuses_other_inputs(tokens, message):
    network = networks.text_transformer(vocab_size=20, length=9)
    params, state = network.init(RNG, jnp.asarray(TEXTS))
    with pytest.raises(UsageError, match=message):
        jax.eval_shape(
            functools.partial(network.apply, train=False), params, state, tokens
        )
