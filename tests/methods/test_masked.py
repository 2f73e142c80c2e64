"""MAE and BERT: what they hide, what they see, and that they learn from it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import loop
from reference.compiled import methods

from rl_jax import losses, networks
from rl_jax.errors import UsageError
from rl_jax.methods.bert import numbers_chosen
from rl_jax.methods.mae import patches_left_in
from rl_jax.methods.masking import random_orders
from rl_jax.types import MASK


def mae(**arguments):
    encoder = networks.vit(patch=2, width=32, depth=1, heads=2, pool="none")
    decoder = networks.mae_decoder(width=32, depth=1, heads=2)
    return methods.mae(encoder, decoder, **arguments)


def images(count=4):
    return {
        "index": jnp.arange(count, dtype=jnp.int32),
        "image": jax.random.uniform(jax.random.key(1), (count, 8, 8, 1)),
    }


def test_patches_left_in_is_the_authors_number():
    """In floating point, 1 − 0.9 is a little less than 0.1."""
    assert patches_left_in(100, 0.9) == 9
    assert patches_left_in(196, 0.75) == 49
    with pytest.raises(UsageError, match="leaves 0 of 4 patches in"):
        patches_left_in(4, 0.9)


def test_the_encoder_does_not_see_what_is_hidden():
    """Its tokens are bit for bit the same whatever stands in the hidden patches."""
    method, batch, rng = mae(), images(), jax.random.key(3)
    params, state = method.init(jax.random.key(0), batch)
    kept = random_orders(rng, batch["index"], 16)[:, :4]
    seen = np.zeros((4, 16, 4), bool)
    np.put_along_axis(seen, np.asarray(kept)[..., None], True, axis=1)
    visible = networks.unpatchify(jnp.asarray(seen), 2, (8, 8, 1))
    other = jnp.where(visible, batch["image"], -3.0)
    loss = jax.jit(method.loss)
    one, a = loss(params, state, batch, rng)
    two, b = loss(params, state, batch | {"image": other}, rng)
    np.testing.assert_array_equal(a.features["h"], b.features["h"])
    assert abs(one - two) > 1
    # And nothing but what is seen changes them.
    more = batch["image"] + 1.0 * visible
    _, c = loss(params, state, batch | {"image": more}, rng)
    assert np.all(np.any(a.features["h"] != c.features["h"], axis=(1, 2)))


def test_only_hidden_patches_count():
    """The gradient by the target pixels is zero where the encoder sees them."""
    method, batch, rng = mae(), images(), jax.random.key(3)
    params, state = method.init(jax.random.key(0), batch)
    order = random_orders(rng, batch["index"], 16)
    frozen = jax.tree.map(jnp.zeros_like, params)  # predicts 0 everywhere

    def value(image):
        return method.loss(frozen, state, batch | {"image": image}, rng)[0]

    grad = networks.patchify(jax.jit(jax.grad(value))(batch["image"]), 2)
    pixels = networks.patchify(batch["image"], 2)
    expected = 2 * pixels / (4 * 12 * 4)
    hidden = np.ones((4, 16, 1), bool)
    np.put_along_axis(hidden, np.asarray(order)[:, :4, None], False, axis=1)
    np.testing.assert_allclose(grad, np.where(hidden, expected, 0.0), atol=1e-7)


def test_masks_are_drawn_for_each_example():
    index = jnp.arange(8)
    order = np.asarray(random_orders(jax.random.key(0), index, 16))
    np.testing.assert_array_equal(np.sort(order, 1), np.tile(np.arange(16), (8, 1)))
    assert len(np.unique(order, axis=0)) == 8
    # By the number of the example, not its place in the batch.
    back = random_orders(jax.random.key(0), index[::-1], 16)
    np.testing.assert_array_equal(back, order[::-1])
    assert np.any(random_orders(jax.random.key(1), index, 16) != order)


def test_patches_are_normalised_with_the_unbiased_variance():
    x = np.random.default_rng(0).normal(size=(3, 5, 12))
    std = np.sqrt(x.var(-1, ddof=1, keepdims=True) + 1e-6)
    expected = (x - x.mean(-1, keepdims=True)) / std
    found = losses.normalise_patches(jnp.asarray(x, jnp.float32))
    np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_allclose(found.var(-1, ddof=1), 1.0, atol=1e-4)
    assert np.isfinite(losses.normalise_patches(jnp.ones((1, 1, 4)))).all()


def planes(count=512, *, parts=1):
    """Images a + b·x + c·y; with parts=16 each patch is of another plane."""
    rng = np.random.default_rng(0)
    a, b, c = rng.normal(size=(3, count, parts, 1)) * [[[[1.0]]], [[[0.3]]], [[[0.3]]]]
    y, x = np.moveaxis(np.asarray(networks.patch_positions(4, 4)) - 1.5, -1, 0)
    level = a[..., 0] + b[..., 0] * x + c[..., 0] * y
    patches = jnp.asarray(np.repeat(level[..., None], 4, axis=-1), jnp.float32)
    image = networks.unpatchify(patches, 2, (8, 8, 1))
    return {"index": jnp.arange(count, dtype=jnp.int32), "image": image}


def explained(data):
    """Share of the variance of unseen pixels after training."""
    method = mae()

    @jax.jit
    def run(rng):
        optimizer = loop.cosine_adam(3e-3, 600)
        params, state = loop.fit(
            method, data, rng, optimizer=optimizer, steps=600, batch_size=64
        )
        _, aux = method.loss(params, state, data, jax.random.key(9))
        return aux.metrics["explained"]

    return float(run(jax.random.key(0)))


@pytest.mark.slow
def test_mae_learns_to_fill_in():
    """What is seen tells what is hidden, where it lies too; or it tells nothing."""
    whole, pieces = explained(planes()), explained(planes(parts=16))
    print(f"explained: {whole:.2f}; of patches that are unrelated: {pieces:.2f}")
    assert whole > 0.8
    assert pieces < 0.1


V, L = 23, 20


def bert(pool="none", **arguments):
    encoder = networks.text_transformer(
        vocab_size=V, length=L, width=32, depth=1, heads=2, pool=pool
    )
    return methods.bert(encoder, vocab_size=V, **arguments)


def texts(count, seed=0):
    """Words come in pairs, (a, a + 10): the other one of its pair tells a word."""
    rng = np.random.default_rng(seed)
    first = rng.integers(3, 13, (count, L // 2))
    tokens = np.stack([first, first + 10], -1).reshape(count, L)
    index = jnp.arange(count, dtype=jnp.int32)
    return {"index": index, "tokens": jnp.asarray(tokens, jnp.int32)}


def test_bert_hides_80_10_10():
    """Seen through an encoder that returns what it is given."""
    count, wide = 400, 40
    seen = {}

    def record(params, state, x, *, train, rng=None):
        jax.debug.callback(lambda x: seen.update(tokens=np.asarray(x)), x)
        return inner.apply(params, state, x, train=train)

    inner = networks.text_transformer(
        vocab_size=V, length=wide, width=8, depth=1, heads=1, pool="none"
    )
    method = methods.bert(inner._replace(apply=record), vocab_size=V)
    rng = np.random.default_rng(0)
    tokens = rng.integers(3, V, (count, wide))
    length = rng.integers(10, wide + 1, (count, 1))
    tokens = np.where(np.arange(wide) < length, tokens, 0)
    batch = {"index": jnp.arange(count), "tokens": jnp.asarray(tokens, jnp.int32)}
    params, state = method.init(jax.random.key(0), batch)
    _, aux = jax.jit(method.loss)(params, state, batch, jax.random.key(1))
    jax.block_until_ready(aux)
    jax.effects_barrier()
    new = seen["tokens"]

    assert (new[tokens == 0] == 0).all()  # padding stays
    words, chosen = (tokens > 0).sum(1), np.maximum(np.round(0.15 * length[:, 0]), 1)
    masked, changed = (new == MASK).sum(), ((new != tokens) & (new != MASK)).sum()
    assert words.min() == 10
    total = chosen.sum()
    assert abs(masked / total - 0.8) < 0.03
    # One of the 20 words put in at random is the word itself.
    assert abs(changed / total - 0.1 * 19 / 20) < 0.03
    assert ((new == MASK).sum(1) <= chosen).all()


@pytest.mark.parametrize("probability", [0.15, 0.3, 1.0])
def test_as_many_words_are_chosen_as_the_authors_choose(probability):
    found = numbers_chosen(2048, probability)
    expected = [max(1, int(round(n * probability))) for n in range(2049)]
    np.testing.assert_array_equal(found, expected)


def test_only_chosen_words_count_and_none_is_finite():
    logits = jax.random.normal(jax.random.key(0), (2, 3, 5))
    word = jnp.array([[1, 2, 3], [0, 4, 2]])
    counts = jnp.array([[True, False, True], [False, False, True]])
    p = np.asarray(jax.nn.log_softmax(logits), np.float64)
    expected = -(p[0, 0, 1] + p[0, 2, 3] + p[1, 2, 2]) / 3
    found = losses.weighted_cross_entropy(logits, word, counts)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    nothing = losses.weighted_cross_entropy(logits, word, jnp.zeros_like(counts))
    assert nothing == 0


@pytest.mark.slow
def test_bert_reads_the_context():
    """The loss behind the mask falls far below the entropy of a word by itself."""
    data, held = texts(512), texts(256, seed=1)
    unigram = np.log(20)

    def hidden_loss(method):
        @jax.jit
        def run(rng):
            optimizer = loop.cosine_adam(3e-3, 500)
            params, state = loop.fit(
                method, data, rng, optimizer=optimizer, steps=500, batch_size=64
            )
            _, aux = method.loss(params, state, held, jax.random.key(9))
            return aux.metrics["hidden_loss"]

        return float(run(jax.random.key(0)))

    def alone(tokens):
        return tokens.reshape(-1, 1)

    method = bert()
    encoder = networks.text_transformer(
        vocab_size=V, length=1, width=32, depth=1, heads=2, pool="none"
    )

    def one_by_one(params, state, x, *, train, rng=None):
        y, state = encoder.apply(params, state, alone(x), train=train)
        return y.reshape(*x.shape, -1), state

    def init(rng, x):
        return encoder.init(rng, alone(x))

    apart = encoder._replace(init=init, apply=one_by_one)
    without = methods.bert(apart, vocab_size=V)
    found, context_free = hidden_loss(method), hidden_loss(without)
    print(f"behind the mask: {found:.2f}, context-free {context_free:.2f} nat")
    assert found < unigram - 1.5
    assert abs(context_free - unigram) < 0.1


@pytest.mark.parametrize(
    ("make", "batch", "message"),
    [
        (lambda: bert("mean"), texts(4), "an output for each token"),
        (bert, {"index": jnp.arange(4)}, "bert: the batch must have `tokens`"),
        (
            bert,
            texts(4) | {"tokens": jnp.zeros((4, 2, L), jnp.int32)},
            r"expected tokens \[B, L\]",
        ),
        (mae, {"index": jnp.arange(4)}, "mae: the batch must have `image`"),
        (mae, images() | {"image": jnp.zeros((4, 9, 9, 1))}, "patch"),
        (
            lambda: methods.mae(
                networks.mlp(out=8), networks.mae_decoder(width=8, heads=1)
            ),
            images(),
            "a token for each patch",
        ),
    ],
)
def test_refused_before_compiling(make, batch, message):
    with pytest.raises(UsageError, match=message):
        jax.eval_shape(make().init, jax.random.key(0), batch)


def test_what_does_not_count_may_be_anything():
    logits = np.random.default_rng(0).normal(size=(4, 5)).astype(np.float32)
    expected = losses.weighted_cross_entropy(
        jnp.asarray(logits[:2]), jnp.asarray([0, 1]), jnp.ones(2)
    )
    logits[2] = [np.nan, np.inf, -np.inf, 0, 0]
    weight = jnp.asarray([1.0, 1.0, 0.0, 0.0])
    for others in ([-1, -100], [5, 10**6]):
        value, gradient = jax.value_and_grad(losses.weighted_cross_entropy)(
            jnp.asarray(logits), jnp.asarray([0, 1, *others]), weight
        )
        np.testing.assert_allclose(value, expected, rtol=1e-6)
        assert np.isfinite(gradient).all()
        assert not gradient[2:].any()


def test_an_unknown_word_that_counts_is_loud():
    logits, word = jnp.zeros((2, 5)), jnp.array([3, -1])
    found = losses.weighted_cross_entropy(logits, word, jnp.array([1, 0]))
    np.testing.assert_allclose(found, np.log(5), rtol=1e-6)
    assert np.isnan(losses.weighted_cross_entropy(logits, word, jnp.array([1, 1])))
