"""Logistic regression: the optimum, against scikit-learn and by its gradient."""

import os
import subprocess
import sys

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


@pytest.mark.slow
def test_no_uninitialised_memory_is_read():
    # glibc fills what it allocates with this byte; elsewhere the test is a plain call.
    code = """
import os
import subprocess
import sys

import numpy as np
from rl_jax import evaluate
x = np.random.default_rng(0).normal(size=(500, 64))
options = {"num_classes": 10, "l2": 0.01, "weights": np.ones((3, 500))}
w, _ = evaluate.logistic(x, np.arange(500) % 10, **options)
print(float(np.abs(w).max()))
"""
    found = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"MALLOC_PERTURB_": "1"},
    )
    assert 0.01 < float(found.stdout) < 10


def test_without_information_the_bias_is_the_log_frequency():
    labels = np.arange(500) % 10
    labels[labels == 2] = 0
    w, b = evaluate.logistic(np.zeros((500, 64)), labels, num_classes=10, l2=0.1)
    np.testing.assert_allclose(w, 0.0, atol=1e-6)
    assert float(b[0] - b[1]) == pytest.approx(np.log(2), abs=5e-3)


def test_a_class_without_examples_stays_finite(digits):
    x, y = digits.train_x, np.minimum(digits.train_y, 8)
    w, b = evaluate.logistic(x, y, num_classes=10, l2=0.01)
    p = probabilities(x, w, b)
    assert p[:, 9].max() <= 1e-2
    assert np.abs(p[:, :9] - sklearn_probabilities(x, y, 0.01)).max() <= 1e-3


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
