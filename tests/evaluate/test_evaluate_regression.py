"""Logistic regression: the optimum, against scikit-learn and by its gradient."""

import numpy as np
import pytest
from reference import evaluate as reference
from reference.evaluate import probabilities
from sklearn.linear_model import LogisticRegression

from rl_jax import evaluate
from rl_jax.errors import UsageError


def sklearn_probabilities(x, y, l2, weights=None):
    total = len(x) if weights is None else weights.sum()
    model = LogisticRegression(C=1 / (total * l2), tol=1e-8, max_iter=5000)
    return model.fit(x.astype(np.float64), y, sample_weight=weights).predict_proba(x)


@pytest.mark.parametrize("l2", [1.0, 1e-2, 1e-4])
def test_equals_scikit_learn_on_correlated_features(digits, l2):
    x, y = digits.train_x, digits.train_y
    w, b = evaluate.logistic(x, y, num_classes=10, l2=l2)
    assert w.shape == (64, 10)
    error = np.abs(probabilities(x, w, b) - sklearn_probabilities(x, y, l2))
    assert error.max() <= 1e-3
    for gradient in reference.logistic_gradient(w, b, x, y, l2=l2):
        assert np.abs(gradient).max() <= 1e-4


def test_many_weightings_equal_one_after_another(digits):
    x, y = digits.train_x, digits.train_y
    rng = np.random.default_rng(0)
    weights = rng.uniform(0.5, 2, (3, len(x))).astype(np.float32)
    weights[1] = rng.uniform(size=len(x)) < 0.5
    w, b = evaluate.logistic(x, y, num_classes=10, l2=0.01, weights=weights)
    assert w.shape == (3, 64, 10)
    for i in range(3):
        target = sklearn_probabilities(x, y, 0.01, weights[i])
        assert np.abs(probabilities(x, w[i], b[i]) - target).max() <= 1e-3
    alone = evaluate.logistic(x, y, num_classes=10, l2=0.01, weights=weights[1])
    error = np.abs(probabilities(x, *alone) - probabilities(x, w[1], b[1]))
    assert error.max() <= 1e-3


def test_without_information_the_bias_is_the_log_frequency():
    labels = np.array([0, 0, 0, 1])
    w, b = evaluate.logistic(np.zeros((4, 2)), labels, num_classes=2, l2=0.1)
    np.testing.assert_allclose(w, 0.0, atol=1e-6)
    assert float(b[0] - b[1]) == pytest.approx(np.log(3), abs=1e-3)


def test_a_class_without_examples_stays_finite():
    x = np.random.default_rng(0).normal(size=(30, 3)).astype(np.float32)
    y = (x[:, 0] > 0).astype(np.int32)
    w, b = evaluate.logistic(x, y, num_classes=3, l2=0.01)
    assert np.isfinite(w).all()
    assert np.isfinite(b).all()
    assert probabilities(x, w, b)[:, 2].max() <= 1e-2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"l2": 0.0}, "logistic: l2 must be > 0, got 0.0"),
        ({"labels": np.array([0, 1, 2])}, r"labels must be in \[0, 2\), got 0 .. 2"),
        ({"labels": np.array([0, 1])}, r"got \(3, 2\) and \(2,\)"),
        ({"weights": np.ones(2)}, r"weights must be \[3\] or \[P, 3\], got \(2,\)"),
    ],
)
def test_wrong_arguments_are_named(change, message):
    arguments = {
        "features": np.zeros((3, 2), np.float32),
        "labels": np.array([0, 1, 1]),
        "num_classes": 2,
        "l2": 0.1,
    } | change
    with pytest.raises(UsageError, match=message):
        evaluate.logistic(**arguments)
