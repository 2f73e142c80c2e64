"""MLP probe: a NumPy reference, what a line cannot read, and what it can."""

import jax
import numpy as np
import pytest
from reference import assert_close
from reference import mlp as reference

from rl_jax import evaluate
from rl_jax.errors import UsageError
from rl_jax.evaluate.mlp_probe import DECAYS, _batches, _fit, _init

SMALL = {"hidden": 32, "steps": 200}


def parts(x, y, split=300):
    return (
        x[:split].astype(np.float32),
        y[:split],
        x[split:].astype(np.float32),
        y[split:],
    )


@pytest.fixture(scope="module")
def xor():
    """The label is a product of signs, in features with an offset and a scale."""
    x = np.random.default_rng(0).normal(size=(500, 4))
    y = (x[:, 0] * x[:, 1] > 0).astype(int) + 3
    return parts(50 * x + 7, y)


@pytest.fixture(scope="module")
def lines():
    """Two Gaussian classes of equal covariance: the best classifier is linear."""
    rng = np.random.default_rng(1)
    y = rng.integers(0, 2, 900)
    return parts(0.7 * rng.normal(size=(2, 4))[y] + rng.normal(size=(900, 4)), y)


def test_training_equals_the_reference():
    """Two draws, two weightings and two decays at once, each against NumPy."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 30, 3)).astype(np.float32)
    y = rng.integers(0, 3, (2, 30)).astype(np.int32)
    weights = np.ones((2, 2, 30), np.float32)
    weights[:, 0, ::4] = 0
    decays = np.float32([5.0, 0.1])
    batches = np.stack([np.random.default_rng(t).permutation(30)[:20]
                        for t in range(25)])  # fmt: skip
    rngs = jax.random.split(jax.random.key(3), 2)
    counted = np.ones((2, 30), np.float32)
    counted[1, ::8] = 0
    found, losses = _fit(
        rngs, x, y, weights, counted, decays, batches, hidden=5, classes=3
    )
    for draw in range(2):
        start = _init(rngs[draw], 3, 5, 3)
        for fold in range(2):
            for i, decay in enumerate(decays):
                target = reference.adamw(
                    start, x[draw], y[draw], weights[draw, fold], batches,
                    rate=3e-3, decay=decay,
                )  # fmt: skip
                one = {k: v[draw, fold, i] for k, v in found.items()}
                assert_close(one, target, tolerance=1e-4)
                held = (weights[draw, fold] == 0) & (counted[draw] > 0)
                loss = reference.cross_entropy(target, x[draw], y[draw])
                mean = loss[held].mean() if held.any() else 0.0
                assert losses[draw, fold, i] == pytest.approx(mean, rel=1e-4)


def test_what_is_constant_in_training_has_no_say(lines):
    x, y, unseen, right = lines
    rng = np.random.default_rng(0)
    x = np.column_stack([x, np.full((len(x), 2), 3.0)])
    unseen = np.column_stack([unseen, 100 * rng.normal(size=(len(unseen), 2))])
    found = evaluate.mlp_probe(x, y, unseen, right, **SMALL)
    without = evaluate.mlp_probe(*lines, **SMALL)
    assert abs(found.mean - without.mean) < 0.03


def test_any_seed_of_64_bits(lines):
    found = evaluate.mlp_probe(*lines, steps=2, draws=1, seed=2**64 - 1)
    assert 0 <= found.mean <= 1


def test_reads_what_no_line_can(xor):
    found = evaluate.mlp_probe(*xor, **SMALL)
    assert found.mean > 0.85
    assert evaluate.linear_probe(*xor).mean < 0.65
    assert found.l2[0] in DECAYS
    assert (found.std, found.labels_per_class, found.n) == (0.0, None, 300)


def test_is_a_linear_probe_on_lines(lines):
    found = evaluate.mlp_probe(*lines, **SMALL)
    linear = evaluate.linear_probe(*lines)
    assert 0.6 < linear.mean < 0.95
    # Twice the deviation of the difference if the two erred independently.
    assert abs(found.mean - linear.mean) < 2 * np.sqrt(2 * 0.25 / 600)


@pytest.mark.slow
def test_draws_and_seeds(lines):
    options = {"labels_per_class": 20, "draws": 2, **SMALL}
    found = evaluate.mlp_probe(*lines, **options)
    assert found.accuracies.shape == found.l2.shape == (2,)
    assert (found.labels_per_class, found.n) == (20, 40)
    assert found.std == pytest.approx(found.accuracies.std(ddof=1))
    again = evaluate.mlp_probe(*lines, **options)
    np.testing.assert_array_equal(found.accuracies, again.accuracies)
    other = evaluate.mlp_probe(*lines, **options, seed=1)
    assert (found.accuracies != other.accuracies).any()


def test_a_fraction_of_the_labels(lines):
    """Two classes of one size, a part that is 20 of each: the draws of 20 of each."""
    x, y, *scored = lines
    rows = np.concatenate([np.flatnonzero(y == c)[:100] for c in (0, 1)])
    part = (x[rows], y[rows], *scored)
    options = {"draws": 2, **SMALL}
    twenty = evaluate.mlp_probe(*part, labels_per_class=20, **options)
    found = evaluate.mlp_probe(*part, label_fraction=0.2, **options)
    assert (found.label_fraction, found.labels_per_class, found.n) == (0.2, None, 40)
    np.testing.assert_array_equal(found.accuracies, twenty.accuracies)


def test_the_test_part_is_only_scored(xor):
    x, y, test_x, test_y = xor
    options = {"labels_per_class": 1, "draws": 2, "hidden": 4, "steps": 5}
    clean = evaluate.mlp_probe(x, y, test_x, test_y, **options)
    np.testing.assert_array_equal(clean.l2, 10.0)
    junk = np.full_like(test_x, 1e6)
    both = evaluate.mlp_probe(
        x, y, np.concatenate([test_x, junk]), np.concatenate([test_y, 0 * test_y]),
        **options,
    )  # fmt: skip
    np.testing.assert_allclose(2 * both.accuracies, clean.accuracies)


def test_every_example_is_seen_once_before_any_twice():
    rows = _batches(300, 7, 0)
    assert rows.shape == (7, 128)
    for epoch in (rows[:2], rows[2:4], rows[4:6]):
        assert len(np.unique(epoch)) == 256
    np.testing.assert_array_equal(np.sort(_batches(9, 3, 0), 1), [np.arange(9)] * 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hidden": 0}, "hidden must be >= 1, got 0"),
        ({"steps": 0}, "steps must be >= 1, got 0"),
        ({"labels_per_class": 400}, "mlp_probe: labels_per_class must be <="),
    ],
)
def test_wrong_arguments_are_named(xor, change, message):
    with pytest.raises(UsageError, match=message):
        evaluate.mlp_probe(*xor, **change)
