"""Conformal sets: the promise over many splits, the papers' formulas, refusals."""

import functools

import numpy as np
import pytest
from reference import calibration as reference

from rl_jax import evaluate
from rl_jax.errors import UsageError

METHODS = {
    "lac": evaluate.lac_sets,
    "aps": evaluate.aps_sets,
    "aps without draws": functools.partial(evaluate.aps_sets, seed=None),
}


@pytest.fixture(scope="module")
def predictions():
    """Over-confident probabilities of 4 classes, one of them rare and hard."""
    rng = np.random.default_rng(0)
    labels = rng.choice(4, 2000, p=[0.4, 0.3, 0.2, 0.1])
    signal = np.array([2.0, 1.5, 1.0, 0.3])[labels]
    logits = rng.normal(size=(2000, 4)) + signal[:, None] * np.eye(4)[labels]
    return reference.softmax(2 * logits), labels


def splits(predictions, count, n):
    p, labels = predictions
    for seed in range(count):
        order = np.random.default_rng(seed).permutation(len(p))
        first, second = order[:n], order[n:]
        yield p[first], labels[first], p[second], labels[second]


@pytest.mark.parametrize("alpha", [0.1, 0.3])
@pytest.mark.parametrize("method", METHODS)
def test_coverage_over_a_hundred_splits(predictions, method, alpha):
    """Mean as promised; spread that of a quantile of other examples."""
    found, n = [], 200
    for seed, (p, y, test_p, test_y) in enumerate(splits(predictions, 100, n)):
        draws = {"seed": seed} if method == "aps" else {}
        sets = METHODS[method](p, y, test_p, alpha=alpha, **draws).sets
        found.append(evaluate.set_coverage(sets, test_y).coverage)
    spread = np.sqrt(alpha * (1 - alpha) * (1 / n + 1 / (len(predictions[0]) - n)))
    assert np.mean(found) >= 1 - alpha - 3 * spread / 10
    if method != "aps without draws":
        assert np.mean(found) <= 1 - alpha + 1 / (n + 1) + 3 * spread / 10
        assert 0.75 * spread < np.std(found) < 1.3 * spread


def test_the_one_more_example_counts(predictions):
    """With five examples, ⌈6·0.8⌉ = 5 covers 5/6; ⌈5·0.8⌉ = 4 covers 4/6."""
    right, wrong = [], []
    for p, y, test_p, test_y in splits(predictions, 1000, 5):
        sets = evaluate.lac_sets(p, y, test_p[:50], alpha=0.2).sets
        right.append(evaluate.set_coverage(sets, test_y[:50]).coverage)
        own = [reference.lac_score(*each) for each in zip(p, y, strict=True)]
        sets = 1 - test_p[:50] <= reference.quantile(own, 0.2, plus=0)
        wrong.append(evaluate.set_coverage(sets, test_y[:50]).coverage)
    assert np.mean(right) == pytest.approx(5 / 6, abs=0.02)
    assert np.mean(wrong) == pytest.approx(4 / 6, abs=0.02)


def test_each_class_keeps_the_promise_only_with_its_own_threshold(predictions):
    together, apart = [], []
    for p, y, test_p, test_y in splits(predictions, 30, 1000):
        for found, per_class in ((together, False), (apart, True)):
            sets = evaluate.lac_sets(p, y, test_p, alpha=0.1, per_class=per_class).sets
            found.append(evaluate.set_coverage(sets, test_y).class_coverage)
    assert np.mean(together, 0)[3] < 0.8
    # The rare class has about 100 examples in each half.
    assert np.mean(apart, 0) == pytest.approx(0.9 + 0.5 / 100, abs=0.02)


def test_sizes():
    """Of true probabilities LAC is smallest; APS without draws is never empty."""
    rng = np.random.default_rng(0)
    p = reference.softmax(1.5 * rng.normal(size=(40_000, 4)))
    labels = (rng.random((40_000, 1)) > np.cumsum(p, 1)).sum(1)
    p, y, test_p, test_y = next(splits((p, labels), 1, 20_000))
    sets = {name: method(p, y, test_p).sets for name, method in METHODS.items()}
    size = {k: evaluate.set_coverage(s, test_y).size for k, s in sets.items()}
    assert size["lac"] < size["aps without draws"] < size["aps"]
    assert sets["aps"].sum(1).min() == 0
    rows = np.arange(len(test_p))
    assert sets["aps without draws"][rows, test_p.argmax(1)].all()
    wide = evaluate.lac_sets(p, y, test_p, alpha=0.01).sets
    assert (wide >= sets["lac"]).all()
    assert wide.sum() > sets["lac"].sum()


@pytest.mark.parametrize("per_class", [False, True])
@pytest.mark.parametrize("method", METHODS)
def test_equals_the_formulas(predictions, method, per_class):
    p, y, test_p, _ = next(splits(predictions, 1, 60))
    test_p = test_p[:40]
    rng = np.random.default_rng(0)
    v, test_v = rng.random(60), rng.random(40)
    if method == "aps without draws":
        v, test_v = np.zeros(60), np.zeros(40)
    score = reference.lac_score if method == "lac" else reference.aps_score
    for alpha in (0.15, 0.4):
        expected = reference.sets(
            score, p, y, test_p, alpha, v, test_v, per_class=per_class
        )
        found = METHODS[method](p, y, test_p, alpha=alpha, per_class=per_class).sets
        np.testing.assert_array_equal(found, expected)


def test_the_quantile_by_hand():
    scores = np.array([3.0, 1.0, 2.0, 5.0, 4.0, 9.0, 7.0, 8.0, 6.0])
    for alpha, expected in ((0.1, 9), (0.7, 3), (0.71, 3), (0.69, 4), (0.99, 1)):
        assert evaluate.conformal_quantile(scores, alpha=alpha) == expected
        assert reference.quantile(scores, alpha) == expected
    assert evaluate.conformal_quantile(scores[:8], alpha=0.1) == np.inf
    assert evaluate.conformal_quantile(scores[:0]) == np.inf


def test_too_few_examples_give_every_class(predictions):
    p, labels = predictions
    found = evaluate.lac_sets(p[:8], labels[:8], p[8:20], alpha=0.1)
    assert found.sets.all()
    assert np.isinf(found.threshold).all()
    seen = labels != 3
    found = evaluate.aps_sets(p[seen], labels[seen], p, per_class=True)
    assert found.sets[:, 3].all()
    assert np.isfinite(found.threshold[:3]).all()


def test_coverage_by_hand():
    sets = np.array([[1, 0, 0], [1, 1, 0], [0, 0, 0], [1, 1, 0]], bool)
    found = evaluate.set_coverage(sets, np.array([0, 0, 1, 1]))
    assert (found.coverage, found.size) == (0.75, 1.25)
    np.testing.assert_array_equal(found.class_coverage, [1, 0.5, np.nan])
    np.testing.assert_array_equal(found.class_size, [1.5, 1, np.nan])


P, Y = np.full((4, 2), 0.5), np.array([0, 1, 0, 1])


@pytest.mark.parametrize("method", [evaluate.lac_sets, evaluate.aps_sets])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"probabilities": P * np.nan}, "must be finite"),
        ({"test_probabilities": P + 0.2}, "must sum to 1, row 0 sums to 1.4"),
        ({"test_probabilities": np.full((3, 4), 0.25)}, r"be \[m, 2\] .* got \(3, 4\)"),
        ({"labels": Y[:2]}, r"must be int \[4\]"),
        ({"labels": Y - 1}, "leave unlabelled"),
        ({"alpha": 1.0}, r"alpha must be in \(0, 1\), got 1.0"),
        ({"alpha": np.nan}, "got nan"),
    ],
)
def test_wrong_arguments_are_named(method, change, message):
    arguments = {"probabilities": P, "labels": Y, "test_probabilities": P} | change
    with pytest.raises(UsageError, match=f"{method.__name__}: .*{message}"):
        method(**arguments)


def test_wrong_sets_and_scores_are_named():
    with pytest.raises(UsageError, match=r"expected sets bool \[m, C\], got float64"):
        evaluate.set_coverage(P, Y)
    with pytest.raises(UsageError, match=r"set_coverage: labels must be int \[4\]"):
        evaluate.set_coverage(P > 0, Y[:3])
    with pytest.raises(UsageError, match="without NaN"):
        evaluate.conformal_quantile(np.array([np.nan]))
