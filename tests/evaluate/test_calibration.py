"""Calibration errors and temperature: closed cases, scikit-learn, refusals."""

import numpy as np
import pytest
from reference import calibration as reference
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss, log_loss

from rl_jax import evaluate
from rl_jax.errors import UsageError

ECE, MCE = evaluate.expected_calibration_error, evaluate.maximum_calibration_error


def drawn(n=20_000, classes=5, seed=0):
    """Logits, and labels drawn with the probabilities of their softmax."""
    rng = np.random.default_rng(seed)
    z = 1.5 * rng.normal(size=(n, classes))
    p = reference.softmax(z)
    labels = (rng.random((n, 1)) > np.cumsum(p, 1)).sum(1)
    return z, np.minimum(labels, classes - 1)


def by_chance(found):
    """The mean ECE of calibrated predictions: √(2/π) of each bin's deviation."""
    full = found.count > 0
    c, n = found.confidence[full], found.count[full]
    return np.sum(n * np.sqrt(2 / np.pi * c * (1 - c) / n)) / n.sum()


@pytest.mark.parametrize("equal_mass", [False, True])
def test_calibrated_scores_err_by_chance_and_confident_ones_do_not(equal_mass):
    z, labels = drawn()
    options = {"bins": 15, "equal_mass": equal_mass}
    p = reference.softmax(z)
    noise = by_chance(evaluate.reliability(p, labels, **options))
    assert noise < 0.012
    assert 0.3 * noise < ECE(p, labels, **options) < 2 * noise
    sharp = reference.softmax(3 * z)
    assert ECE(sharp, labels, **options) > 0.15
    assert MCE(sharp, labels, **options) > ECE(sharp, labels, **options)


@pytest.mark.parametrize("equal_mass", [False, True])
@pytest.mark.parametrize("bins", [1, 10, 40])
def test_equals_the_reference_and_scikit_learn(bins, equal_mass):
    z, labels = drawn(n=400, seed=1)
    p = reference.softmax(2 * z)
    p[:50] = np.round(p[:50], 1)
    p[:50, 0] += 1 - p[:50].sum(1)
    p = np.clip(p, 0, 1)
    p /= p.sum(1, keepdims=True)
    ece, mce = reference.calibration_errors(p, labels, bins=bins, equal_mass=equal_mass)
    options = {"bins": bins, "equal_mass": equal_mass}
    assert ECE(p, labels, **options) == pytest.approx(ece, abs=1e-12)
    assert MCE(p, labels, **options) == pytest.approx(mce, abs=1e-12)
    found = evaluate.reliability(p, labels, **options)
    accuracy, confidence = calibration_curve(
        p.argmax(1) == labels,
        p.max(1),
        n_bins=bins,
        strategy="quantile" if equal_mass else "uniform",
    )
    full = found.count > 0
    assert np.isnan(found.accuracy[~full]).all()
    np.testing.assert_allclose(found.accuracy[full], accuracy, atol=1e-12)
    np.testing.assert_allclose(found.confidence[full], confidence, atol=1e-12)
    assert found.count.sum() == 400


def test_by_hand():
    """0.9 right, 0.9 wrong, 0.6 right; the edge 0.6 belongs to the bin below it."""
    p = np.array([[0.9, 0.1], [0.1, 0.9], [0.6, 0.4]] * 2)
    labels = np.zeros(6, int)
    assert ECE(p, labels, bins=5) == pytest.approx(2 / 3 * 0.4 + 1 / 3 * 0.4)
    assert MCE(p, labels, bins=1) == pytest.approx(0.8 - 2 / 3)
    found = evaluate.reliability(p, labels, bins=5)
    np.testing.assert_array_equal(found.count, [0, 0, 2, 0, 4])
    assert evaluate.brier_score(p, labels) == pytest.approx((0.02 + 1.62 + 0.32) / 3)
    nll = evaluate.negative_log_likelihood(p, labels)
    assert nll == pytest.approx(-np.log(0.9 * 0.1 * 0.6) / 3)


def test_scores_equal_the_reference_and_scikit_learn():
    z, labels = drawn(n=300, seed=2)
    p = reference.softmax(z)
    brier = evaluate.brier_score(p.astype(np.float32), labels)
    assert brier == pytest.approx(reference.brier_score(p, labels), rel=1e-6)
    found = brier_score_loss(labels, p, labels=range(5), scale_by_half=False)
    assert brier == pytest.approx(found, rel=1e-6)
    nll = evaluate.negative_log_likelihood(p, labels)
    assert nll == pytest.approx(log_loss(labels, p), rel=1e-9)
    assert nll == pytest.approx(reference.cross_entropy(z, labels), rel=1e-9)
    certain = np.array([[1.0, 0.0]])
    assert evaluate.negative_log_likelihood(certain, np.array([1])) == np.inf
    assert evaluate.brier_score(certain, np.array([1])) == 2
    assert evaluate.brier_score(certain, np.array([0])) == 0


def test_a_rounded_certainty_is_no_negative_likelihood():
    p = np.array([[1.0005, 0.0], [0.5, 0.5]])
    nll = evaluate.negative_log_likelihood
    assert nll(p[:1], np.array([0])) == 0
    assert nll(p, np.array([0, 1])) == pytest.approx(np.log(2) / 2, rel=1e-12)


@pytest.mark.parametrize("scale", [0.2, 1.0, 3.0])
def test_temperature_undoes_the_scale(scale):
    z, labels = drawn()
    found = evaluate.fit_temperature(scale * z, labels)
    assert found.temperature == pytest.approx(scale, rel=0.03)
    assert found.after <= found.before
    assert found.after == pytest.approx(reference.cross_entropy(z, labels), abs=1e-3)
    p = reference.softmax(scale * z / found.temperature)
    assert ECE(p, labels) < 0.015


def test_temperature_equals_a_search():
    z, labels = drawn(n=200, seed=3)
    for scale in (0.3, 2.5):
        noisy = scale * (z + np.random.default_rng(4).normal(size=z.shape))
        found = evaluate.fit_temperature(noisy, labels)
        assert found.before == pytest.approx(reference.cross_entropy(noisy, labels))
        expected = reference.temperature(noisy, labels)
        assert found.temperature == pytest.approx(expected, rel=1e-6)
        shifted = noisy + np.arange(200)[:, None]
        again = evaluate.fit_temperature(shifted, labels)
        assert again.temperature == pytest.approx(found.temperature, rel=1e-9)


def test_temperature_without_a_minimum_stops_at_the_limits():
    labels = np.arange(30) % 3
    right = np.eye(3)[labels]
    hot = evaluate.fit_temperature(right, labels)
    assert hot.temperature == pytest.approx(1e-3)
    assert hot.after < 1e-9
    cold = evaluate.fit_temperature(-5 * right, labels)
    assert cold.temperature == pytest.approx(1e3)
    assert cold.after == pytest.approx(np.log(3), abs=0.01)
    flat = evaluate.fit_temperature(np.ones((30, 3)), labels)
    assert flat.after == flat.before == pytest.approx(np.log(3))
    assert flat.temperature == pytest.approx(1e3)


GOOD = np.full((4, 2), 0.5)
LABELS = np.array([0, 1, 0, 1])


@pytest.mark.parametrize(
    ("p", "labels", "message"),
    [
        (np.full((4, 2), np.nan), LABELS, "must be finite"),
        (np.full((4, 2), 0.4), LABELS, "sum to 1, row 0 sums to 0.8"),
        (np.array([[2.0, -1.0]] * 4), LABELS, r"in \[0, 1\], got -1 .. 2; apply soft"),
        (np.ones((4, 1)), LABELS, r"two classes or more, got \(4, 1\)"),
        (np.ones(4), LABELS, r"two classes or more, got \(4,\)"),
        (np.ones((0, 2)), LABELS[:0], r"n >= 1 .* got \(0, 2\)"),
        (GOOD, LABELS[:3], r"labels must be int \[4\], .* got int64 \[3\]"),
        (GOOD, LABELS * 1.0, r"must be int \[4\], .* got float64 \[4\]"),
        (GOOD, LABELS - 1, r"in \[0, 2\), got -1 .. 0; leave unlabelled"),
        (GOOD, LABELS + 1, r"in \[0, 2\), got 1 .. 2"),
    ],
)
@pytest.mark.parametrize(
    "measure",
    [
        evaluate.reliability,
        ECE,
        MCE,
        evaluate.brier_score,
        evaluate.negative_log_likelihood,
    ],
)
def test_wrong_arguments_are_named(measure, p, labels, message):
    with pytest.raises(UsageError, match=f"{measure.__name__}: .*{message}"):
        measure(p, labels)


def test_more_bins_than_examples_are_refused():
    with pytest.raises(UsageError, match=r"bins must be in \[1, 4\], .* got 15"):
        ECE(GOOD, LABELS)
    with pytest.raises(UsageError, match="got 0"):
        evaluate.reliability(GOOD, LABELS, bins=0)
    with pytest.raises(UsageError, match="fit_temperature: logits must be finite"):
        evaluate.fit_temperature(np.full((4, 2), np.inf), LABELS)
    with pytest.raises(UsageError, match=r"fit_temperature: labels .* \[0, 2\)"):
        evaluate.fit_temperature(GOOD, LABELS - 1)
