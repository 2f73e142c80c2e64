"""Saunshi's bound: the sums, the inequality while training, the sampled estimate."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from reference import guarantee as reference

from rl_jax import evaluate
from rl_jax.errors import UsageError

LABELS = np.array([0, 0, 0, 1, 1, 2, 2, 2, 2, 2])
PRIORS = np.array([0.5, 0.2, 0.3])


def features(seed=0, scale=1.0):
    return scale * np.random.default_rng(seed).normal(size=(len(LABELS), 4))


def expected(f, labels, priors):
    un, sup, collision = reference.losses(f, labels, priors)
    return [un, sup, collision, (un - collision) / (1 - collision)]


def plain(found):
    """Losses, collision and bound as numbers."""
    return [float(x) for x in found[:4]]


@pytest.mark.parametrize("priors", [None, PRIORS])
@pytest.mark.parametrize("scale", [0.1, 1.0, 5.0])
def test_equals_the_sum_over_all_triples(scale, priors):
    f = features(scale=scale)
    shares = np.bincount(LABELS) / 10 if priors is None else priors
    found = evaluate.contrastive_guarantee(f, LABELS, priors=priors)
    assert plain(found) == pytest.approx(expected(f, LABELS, shares), rel=2e-6)
    assert found.low == found.high == found.bound
    if priors is not None:
        again = evaluate.contrastive_guarantee(f, LABELS, priors=7 * priors)
        assert plain(again) == pytest.approx(plain(found), rel=1e-6)


def test_in_double_precision():
    with jax.enable_x64():
        found = evaluate.contrastive_guarantee(features(), LABELS, priors=PRIORS)
    target = expected(features(), LABELS, PRIORS)
    assert plain(found) == pytest.approx(target, rel=1e-12)


def test_closed_cases():
    """Equal features: both losses are 1 bit. One point for each class: equality."""
    found = evaluate.contrastive_guarantee(np.ones((10, 3)), LABELS)
    assert plain(found) == pytest.approx([1, 1, 0.38, 1], abs=1e-6)
    points = np.eye(3)[LABELS] * 3
    found = evaluate.contrastive_guarantee(points, LABELS, priors=PRIORS)
    tight = np.log2(1 + np.exp(-9))
    assert float(found.supervised) == pytest.approx(tight, rel=1e-4)
    # In float32 the difference L_un − c is known to 1e-7 only.
    assert float(found.bound) == pytest.approx(tight, abs=3e-7)


def test_holds_for_random_features():
    for seed in range(20):
        found = evaluate.contrastive_guarantee(
            features(seed, scale=2.0 ** (seed % 5 - 2)), LABELS
        )
        assert found.supervised <= found.bound + 1e-6


def population():
    """Six classes of twenty points, priors from Dirichlet(3)."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(6), 20)
    x = rng.normal(size=(6, 10))[labels] + 0.7 * rng.normal(size=(120, 10))
    return x.astype(np.float32), labels, rng.dirichlet(np.full(6, 3.0))


@pytest.fixture(scope="module")
def trained():
    """The guarantee before each of 300 steps on L_un, and the features after."""
    x, labels, priors = population()
    first, second = jax.random.split(jax.random.key(0))
    params = {
        "hidden": jax.random.normal(first, (10, 32)) / 10**0.5,
        "out": jax.random.normal(second, (32, 4)) / 32**0.5,
    }
    optimizer = optax.adam(5e-3)

    def encode(p):
        return jax.nn.relu(x @ p["hidden"]) @ p["out"]

    def objective(p):
        found = evaluate.contrastive_guarantee(encode(p), labels, priors=priors)
        return found.unsupervised, found

    def step(carry, _):
        params, state = carry
        grads, found = jax.grad(objective, has_aux=True)(params)
        updates, state = optimizer.update(grads, state)
        return (optax.apply_updates(params, updates), state), found

    @jax.jit
    def train(params):
        carry = params, optimizer.init(params)
        (params, _), found = jax.lax.scan(step, carry, length=300)
        return encode(params), found

    f, found = train(params)
    return np.asarray(f), jax.tree.map(np.asarray, found)


@pytest.mark.slow
def test_holds_at_every_step_of_training(trained):
    _, found = trained
    assert found.unsupervised[-1] < 0.6 * found.unsupervised[0]
    assert (found.supervised <= found.bound).all()
    assert found.bound[-1] < 0.3


def test_the_natural_logarithm_is_violated(trained):
    _, found = trained
    natural, c = found.unsupervised * np.log(2), found.collision
    bound = (natural - c) / (1 - c)
    assert np.sum(found.supervised * np.log(2) > bound) > 150


@pytest.mark.parametrize("samples", [1000, 20_000])
def test_the_interval_holds_the_bound_as_often_as_it_says(trained, samples):
    f, _ = trained
    _, labels, priors = population()
    exact = evaluate.contrastive_guarantee(f, labels, priors=priors)

    @jax.jit
    def estimate(rng):
        return evaluate.sampled_guarantee(
            rng, f, labels, priors=priors, samples=samples, confidence=0.8
        )

    drawn = [estimate(rng) for rng in jax.random.split(jax.random.key(1), 60)]
    found = jax.tree.map(lambda *x: np.array(x, np.float64), *drawn)
    np.testing.assert_allclose(found.supervised, exact.supervised, rtol=1e-6)
    np.testing.assert_allclose((found.low + found.high) / 2, found.bound, atol=1e-6)
    held = (found.low <= exact.bound) & (exact.bound <= found.high)
    # 60 draws of probability 0.8: the deviation is 0.05.
    assert 0.65 <= np.mean(held) <= 0.95
    triples = samples if samples < 4096 else 5 * 4096
    width = 2 * 1.2816 * deviation(f, labels, priors) / triples**0.5
    assert np.mean(found.high - found.low) == pytest.approx(width, rel=0.15)


def deviation(f, labels, priors):
    """Of the bound from one triple, all triples counted."""
    collision = np.square(priors).sum()
    gram = f.astype(np.float64) @ f.T
    terms = reference.loss(gram[:, :, None] - gram[:, None], 2)
    each = (priors / 20)[labels]
    same = (labels[:, None] == labels) / 20
    weight = each[:, None, None] * same[:, :, None] * each
    mean = (weight * terms).sum()
    return np.sqrt((weight * terms**2).sum() - mean**2) / (1 - collision)


F = features()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"features": F[:4]}, r"got \(4, 4\) and int64 \(10,\)"),
        ({"features": F[:, 0]}, r"got \(10,\) and"),
        ({"features": F * np.nan}, "must be finite"),
        ({"features": F * 1e20}, "beyond float32; scale them"),
        ({"labels": LABELS * 1.0}, "int labels .* float64"),
        ({"labels": LABELS - 1}, "must be >= 0, got -1; leave unlabelled"),
        ({"labels": 0 * LABELS}, r"two classes or more .* got classes \[0\]"),
        ({"labels": 2 * LABELS}, r"example of each, got classes \[0, 2, 4\]"),
        ({"priors": PRIORS[:2]}, r"priors must be \[3\]"),
        ({"priors": PRIORS - 0.2}, "> 0 and finite"),
        ({"priors": PRIORS * np.nan}, "> 0 and finite"),
    ],
)
def test_wrong_arguments_are_named(change, message):
    arguments = {"features": F, "labels": LABELS, "priors": PRIORS} | change
    with pytest.raises(UsageError, match=f"contrastive_guarantee: .*{message}"):
        evaluate.contrastive_guarantee(**arguments)
    with pytest.raises(UsageError, match=f"sampled_guarantee: .*{message}"):
        evaluate.sampled_guarantee(jax.random.key(0), **arguments)


def test_wrong_samples_are_named():
    with pytest.raises(UsageError, match="samples must be >= 2, got 1"):
        evaluate.sampled_guarantee(jax.random.key(0), F, LABELS, samples=1)
    with pytest.raises(UsageError, match=r"in \(0, 1\), got 95"):
        evaluate.sampled_guarantee(jax.random.key(0), F, LABELS, confidence=95)


def test_classes_of_unequal_size_have_no_ghosts():
    """The rows that fill a class up weigh nothing: gradients are exact too."""
    f = jnp.asarray(features())

    def bound(f):
        return evaluate.contrastive_guarantee(f, LABELS, priors=PRIORS).bound

    with jax.enable_x64():
        f = jnp.asarray(features())
        found = jax.grad(bound)(f)
        nudge = np.random.default_rng(3).normal(size=f.shape)
        slope = (bound(f + 1e-5 * nudge) - bound(f - 1e-5 * nudge)) / 2e-5
        assert float((found * nudge).sum()) == pytest.approx(float(slope), rel=1e-6)
