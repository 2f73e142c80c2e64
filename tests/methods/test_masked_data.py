"""MAE and I-JEPA on digits, BERT on English text, beside what they must beat."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from reference import loop

from rl_jax import data, evaluate, methods, networks
from rl_jax.augment.presets import DIGITS_MEAN, DIGITS_STD
from rl_jax.types import MASK, PADDING


def mae():
    encoder = networks.vit(patch=2, width=48, depth=2, heads=4, pool="none")
    decoder = networks.mae_decoder(width=32, depth=1, heads=4)
    return methods.mae(encoder, decoder)


def mixed(image):
    """Images whose patches come from different digits: none tells of another."""
    patches = np.asarray(networks.patchify(image, 2))
    rng = np.random.default_rng(0)
    columns = [p[rng.permutation(len(p))] for p in np.moveaxis(patches, 1, 0)]
    return networks.unpatchify(jnp.asarray(np.stack(columns, 1)), 2, image.shape[1:])


@pytest.mark.slow
def test_mae_on_digits():
    """Mean-pooled probe above the untrained encoder; loss below the variance."""
    method = mae()
    train, held = (
        side | {"image": (side["image"] - DIGITS_MEAN) / DIGITS_STD}
        for side in loop.digits()
    )

    def probe(params, state):
        encode = jax.jit(method.encode)
        x, y = (np.asarray(encode(params, state, s)["h"]) for s in (train, held))
        return evaluate.linear_probe(
            x, train["label"], y, held["label"], labels_per_class=10
        ).mean

    @functools.partial(jax.jit, static_argnames="steps")
    def run(examples, rng, *, steps):
        # With Adam's usual 0.999 it learns half as fast.
        rate = optax.warmup_cosine_decay_schedule(0.0, 2e-3, 100, steps)
        optimizer = optax.adam(rate, b2=0.95)
        return loop.fit(
            method, examples, rng, optimizer=optimizer, steps=steps, batch_size=128
        )

    def explained(params, state, examples):
        _, aux = jax.jit(method.loss)(params, state, examples, jax.random.key(9))
        return float(aux.metrics["explained"])

    rng = jax.random.key(0)
    trained = run(train, rng, steps=2000)
    untrained = method.init(rng, train)
    other = train | {"image": mixed(train["image"])}
    control = run(other, rng, steps=1000)
    found = {
        name: probe(*x)
        for name, x in (
            ("trained", trained), ("untrained", untrained), ("mixed", control)
        )
    }  # fmt: skip
    share = explained(*trained, held)
    unrelated = explained(*control, other)
    print(f"probe {found}; explained {share:.2f}, of mixed patches {unrelated:.2f}")
    assert found["trained"] > found["untrained"] + 0.05
    assert share > 0.2  # the loss is below 0.8 of the variance
    assert unrelated < 0.1
    assert found["trained"] > found["mixed"] + 0.03


@pytest.mark.slow
def test_i_jepa_on_digits():
    """Mean-pooled probe above the untrained encoder; more predicted than a mean."""
    encoder = networks.vit(
        patch=2, width=48, depth=2, heads=4, pool="none", positions="learned"
    )
    method = methods.i_jepa(
        encoder, networks.jepa_predictor(), total_steps=1000, context_share=0.4
    )
    train, held = loop.digits()
    for side in (train, held):
        image = jax.image.resize(
            side["image"], (len(side["image"]), 12, 12, 1), "linear"
        )
        side["image"] = (image - DIGITS_MEAN) / DIGITS_STD

    def probe(params, state):
        encode = jax.jit(method.encode)
        x, y = (np.asarray(encode(params, state, s)["h"]) for s in (train, held))
        return evaluate.linear_probe(
            x, train["label"], y, held["label"], labels_per_class=10
        ).mean

    @jax.jit
    def run(rng):
        rate = optax.warmup_cosine_decay_schedule(0.0, 5e-3, 100, 1000)
        optimizer = optax.adam(rate, b2=0.95)
        return loop.fit(
            method, train, rng, optimizer=optimizer, steps=1000, batch_size=128
        )

    rng = jax.random.key(0)
    params, state = run(rng)
    found, before = probe(params, state), probe(*method.init(rng, train))
    _, aux = jax.jit(method.loss)(params, state, held, jax.random.key(9))
    spread, share = aux.metrics["target_spread"], aux.metrics["explained"]
    print(f"probe {found:.3f}, untrained {before:.3f}; explained {share:.2f}")
    print(f"of a spread of {spread:.2f}")
    assert found > before + 0.05
    assert share > 0.2
    assert spread > 0.2


def transformer(source, length):
    return networks.text_transformer(
        vocab_size=len(source.vocabulary),
        length=length,
        width=64,
        depth=1,
        heads=4,
        pool="none",
    )


def context_free(source):
    """The same network on one word at a time."""
    encoder = transformer(source, 1)

    def alone(x):
        return x.reshape(-1, 1)

    def init(rng, x):
        return encoder.init(rng, alone(x))

    def apply(params, state, x, *, train, rng=None):
        y, state = encoder.apply(params, state, alone(x), train=train)
        return y.reshape(*x.shape, -1), state

    return encoder._replace(init=init, apply=apply)


def counts(tokens, size):
    """How often each word stands there, padding and masks apart."""
    found = np.bincount(tokens.ravel(), minlength=size).astype(np.float64)
    found[[PADDING, MASK]] = 0
    return found


@pytest.mark.slow
def test_bert_on_english():
    """Held-out loss ≥ 0.5 nat below the unigram's, and below a context-free model's."""
    source = data.topics()
    train, held = (
        {
            "index": jnp.arange(side.size, dtype=jnp.int32),
            "tokens": jnp.asarray(side.fields["tokens"]),
        }
        for side in (source, source.held_out)
    )
    size, length = len(source.vocabulary), train["tokens"].shape[1]
    seen = counts(np.asarray(train["tokens"]), size) + 1
    unigram = np.log(seen / seen.sum())
    words = counts(np.asarray(held["tokens"]), size)
    entropy = -(words @ unigram) / words.sum()

    def held_out_loss(encoder):
        method = methods.bert(encoder, vocab_size=size, log_unigram=tuple(unigram))

        @jax.jit
        def run(rng):
            optimizer = loop.cosine_adam(2e-3, 500)
            trained = loop.fit(
                method, train, rng, optimizer=optimizer, steps=500, batch_size=32
            )
            return method.loss(*trained, held, jax.random.key(9))[0]

        return float(run(jax.random.key(0)))

    found = held_out_loss(transformer(source, length))
    alone = held_out_loss(context_free(source))
    print(f"held out {found:.2f} nat, unigram {entropy:.2f}, context-free {alone:.2f}")
    assert found < entropy - 0.5
    assert found < alone - 0.2
