"""Ridge regression: a dense solve, refits without each example, scikit-learn."""

import numpy as np
import pytest
from reference.ridge import leave_one_out, ridge_solution
from sklearn.linear_model import RidgeClassifierCV, RidgeCV
from sklearn.metrics import r2_score

from rl_jax import evaluate
from rl_jax.errors import UsageError

STRENGTHS = (3.0, 0.1, 0.003)


def regression(n, dim=12, targets=3, seed=0):
    """Correlated features far from zero, and noisy targets of some of them."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, dim)) @ rng.normal(size=(dim, dim)) + 5
    y = np.tanh(x[:, :targets] - 5) + 0.3 * rng.normal(size=(n, targets)) - 2
    return x, y


@pytest.mark.parametrize("n", [40, 7])
def test_equals_a_dense_solve_and_refits(n):
    x, y = regression(n)
    found = evaluate.ridge(x, y, l2=STRENGTHS)
    assert found.weights.shape == (3, 12, 3)
    for i, l2 in enumerate(STRENGTHS):
        w, b = ridge_solution(x, y, l2)
        np.testing.assert_allclose(found.weights[i], w, rtol=1e-8, atol=1e-10)
        np.testing.assert_allclose(found.bias[i], b, rtol=1e-8)
        error = np.square(leave_one_out(x, y, l2 * n / (n - 1))).mean(0)
        np.testing.assert_allclose(found.loo_error[i], error, rtol=1e-7)


def test_one_feature_by_hand():
    """Var x = 2/3 and cov = 2/3: W = (2/3)/(2/3 + l2)."""
    x, y = np.array([[1.0], [2.0], [3.0]]), np.array([4.0, 5.0, 6.0])
    found = evaluate.ridge(x, y, l2=[2 / 3, 1e-9])
    np.testing.assert_allclose(found.weights[:, 0, 0], [0.5, 1.0], rtol=1e-8)
    np.testing.assert_allclose(found.bias[:, 0], [4.0, 3.0], rtol=1e-8)
    assert found.loo_error[1, 0] < 1e-12


@pytest.mark.parametrize("n", [60, 9])
def test_strengths_and_scores_equal_scikit_learn(n):
    x, y = regression(n)
    test_x, test_y = regression(50, seed=1)
    grid = np.logspace(2, -4, 10)
    found = evaluate.ridge_r2(x, y, test_x, test_y, l2=grid)
    for t in range(3):
        model = RidgeCV(alphas=n * grid, store_cv_results=True).fit(x, y[:, t])
        assert found.l2[t] == pytest.approx(model.alpha_ / n)
        loo = evaluate.ridge(x, y[:, t], l2=grid).loo_error[:, 0]
        np.testing.assert_allclose(loo, model.cv_results_.mean(0), rtol=1e-7)
        target = r2_score(test_y[:, t], model.predict(test_x))
        assert found.r2[t] == pytest.approx(target, rel=1e-7)
    assert found.mean == pytest.approx(found.r2.mean())


@pytest.mark.parametrize("n", [500, 40])
def test_classification_equals_scikit_learn(digits, n):
    x, y = digits.train_x[:n], digits.train_y[:n]
    grid = np.logspace(1, -4, 8)
    found = evaluate.ridge_probe(x, y, digits.test_x, digits.test_y, l2=grid)
    model = RidgeClassifierCV(alphas=n * grid).fit(x.astype(np.float64), y)
    assert found.l2[0] == pytest.approx(model.alpha_ / n)
    target = model.score(digits.test_x.astype(np.float64), digits.test_y)
    assert found.mean == pytest.approx(target)
    assert found.accuracies.tolist() == [found.mean]
    assert (found.std, found.labels_per_class, found.n) == (0.0, None, n)


@pytest.mark.parametrize("n", [300, 15])
def test_neither_rotation_nor_shift_nor_scale_matters(n):
    x, y = regression(n)
    test_x, test_y = regression(50, seed=1)
    turn = np.linalg.qr(np.random.default_rng(2).normal(size=(12, 12)))[0]
    found = evaluate.ridge_r2(x, y, test_x, test_y)
    moved = evaluate.ridge_r2(
        7 * x @ turn - 30, 2 * y + 9, 7 * test_x @ turn - 30, 2 * test_y + 9
    )
    np.testing.assert_allclose(moved.r2, found.r2, rtol=1e-7)
    np.testing.assert_allclose(moved.l2, 49 * found.l2, rtol=1e-9)


def test_what_is_linear_is_found_and_noise_is_not():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 20))
    y = np.stack([x @ rng.normal(size=20) + 1, rng.normal(size=400)], axis=1)
    found = evaluate.ridge_r2(x[:300], y[:300], x[300:], y[300:])
    assert found.r2[0] > 0.999999
    assert abs(found.r2[1]) < 0.1
    # The noise is shrunk away, the line is not.
    assert found.l2[1] > 1e3 * found.l2[0]


def test_constant_features_predict_the_mean():
    x, y = np.full((20, 3), 4.0), np.arange(20.0)
    found = evaluate.ridge(x, y)
    assert not found.weights.any()
    np.testing.assert_allclose(found.bias, 9.5)
    labels = np.array([0] * 5 + [1] * 15)
    result = evaluate.ridge_probe(x, labels, x[:4], np.array([0, 1, 1, 1]))
    assert result.mean == 0.75
    assert evaluate.ridge_r2(x, y, x[:5], y[:5]).mean < 0


X, Y = regression(10)
LABELS = np.arange(10) % 3


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: evaluate.ridge(X, Y, l2=[0.1, 0.0]), "ridge: l2 must be .* > 0"),
        (lambda: evaluate.ridge(X, Y, l2=[]), "ridge: l2 must be .* > 0"),
        (lambda: evaluate.ridge(X, Y[:9]), r"one row for each .*, got \(9, 3\)"),
        (lambda: evaluate.ridge(X * np.nan, Y), "training features must be finite"),
        (lambda: evaluate.ridge(X, Y * np.inf), "training targets must be finite"),
        (lambda: evaluate.ridge(X[:1], Y[:1]), r"n >= 2 .* got \(1, 12\)"),
        (
            lambda: evaluate.ridge_r2(X, Y, X[:, :5], Y),
            r"features \[m, 12\] and targets \[m, 3\] .* got \(10, 5\)",
        ),
        (
            lambda: evaluate.ridge_r2(X, Y * [[1, 0, 1]], X, Y),
            "target 1 is constant in the training part",
        ),
        (
            lambda: evaluate.ridge_r2(X, Y, X, Y * [[1, 1, 0]]),
            "target 2 is constant in the test part",
        ),
        (
            lambda: evaluate.ridge_probe(X, LABELS - 1, X, LABELS),
            "must be >= 0, got -1",
        ),
        (lambda: evaluate.ridge_probe(X, LABELS, X, LABELS - 1), "test labels must be"),
        (lambda: evaluate.ridge_probe(X, LABELS * 0, X, LABELS), "two classes or more"),
        (lambda: evaluate.ridge_probe(X, LABELS * 1.0, X, LABELS), "got float64"),
    ],
)
def test_wrong_arguments_are_named(call, message):
    with pytest.raises(UsageError, match=f"^ridge.*: .*{message.split(': ')[-1]}"):
        call()
