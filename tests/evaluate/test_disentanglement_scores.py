"""MIG, DCI, SAP and FactorVAE: closed cases, the formulas, invariances, refusals."""

import functools

import chex
import numpy as np
import pytest
from reference import disentanglement as reference
from sklearn.linear_model import Lasso

from rl_jax import evaluate
from rl_jax.errors import UsageError
from rl_jax.evaluate.lasso import lasso

N = 3000


def dci_score(field, **options):
    return lambda z, s: getattr(evaluate.dci(z, s, **options), field)


SCORES = {
    "mig": evaluate.mutual_information_gap,
    "sap": evaluate.separated_predictability,
    "disentanglement": dci_score("disentanglement"),
    "completeness": dci_score("completeness"),
    "informativeness": dci_score("informativeness"),
    "factor_vae": functools.partial(evaluate.factor_vae_score, votes=400),
}
CHANCE = dict.fromkeys(SCORES, 0.0) | {"factor_vae": 1 / 3}


def factors(seed=0):
    return np.random.default_rng(seed).integers([4, 5, 6], size=(N, 3))


def noise(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape)


def turned(s):
    """Each factor in all dimensions, in two of them alike."""
    mirror = np.array([[-1, 2, 2], [2, -1, 2], [2, 2, -1]]) / 3
    return (s - s.mean(0)) / s.std(0) @ mirror


@pytest.mark.parametrize("name", SCORES)
def test_the_perfect_code_scores_one(name):
    """In any order, scale and sign, beside dimensions of nothing."""
    s = factors()
    z = s[:, [2, 0, 1]] * np.array([-3.0, 0.01, 700.0]) + 5
    # Independent factors share some information and correlation in a sample.
    tolerance = 0.02 if name in ("sap", "mig") else 1e-6
    assert SCORES[name](z, s) == pytest.approx(1, abs=tolerance)
    wide = np.concatenate([np.ones((N, 1)), z, noise(1, N, 1)], axis=1)
    assert SCORES[name](wide, s) == pytest.approx(1, abs=tolerance)


@pytest.mark.parametrize("name", SCORES)
def test_a_random_code_scores_by_chance(name):
    for seed in range(3):
        found = SCORES[name](noise(seed + 5, N, 4), factors(seed))
        assert found == pytest.approx(CHANCE[name], abs=0.08 if CHANCE[name] else 0.01)


@pytest.mark.parametrize("name", SCORES)
def test_a_turned_code_is_informative_and_no_more(name):
    found = SCORES[name](turned(factors()), factors())
    if name == "informativeness":
        assert found > 0.99
    else:
        # Still by chance: two dimensions are, for each factor.
        assert found < (0.7 if name == "factor_vae" else 0.1)


@pytest.mark.parametrize("name", SCORES)
def test_order_scale_sign_and_shift_change_nothing(name):
    s = factors()
    z = turned(s) + 0.8 * s + noise(2, N, 3)
    found = SCORES[name](z, s)
    moved = z[:, [2, 0, 1]] * np.array([-8.0, 0.25, 2.0]) + 4
    tolerance = 1e-3 if name in ("mig", "factor_vae") else 1e-5
    assert SCORES[name](moved, s) == pytest.approx(found, abs=tolerance)
    order = np.random.default_rng(3).permutation(N)
    # Other halves and other batches for those that draw.
    drawn = {"informativeness": 0.03, "factor_vae": 0.08}.get(name, 1e-5)
    shuffled = SCORES[name](z[order], s[order][:, [1, 2, 0]])
    assert shuffled == pytest.approx(found, abs=drawn)


def test_two_dimensions_of_one_factor_leave_no_gap():
    """And the code is disentangled, but not complete."""
    s = factors()
    z = np.concatenate([s, s], axis=1) + 1e-3 * noise(0, N, 6)
    assert evaluate.mutual_information_gap(z, s) < 0.01
    assert evaluate.separated_predictability(z, s) < 0.01
    found = evaluate.dci(z, s, regressor="forest")
    assert found.disentanglement > 0.95
    assert found.completeness < 0.8


def test_a_dimension_of_two_factors_is_complete_but_not_disentangled():
    s = factors()
    z = np.stack([s[:, 0] * 5 + s[:, 1], s[:, 2]], axis=1)
    found = evaluate.dci(z, s, regressor="forest")
    assert found.completeness > 0.95
    assert found.disentanglement < 0.75
    assert found.r2 == pytest.approx(1, abs=0.01)


def test_equal_the_formulas():
    s = factors()[:400]
    z = np.concatenate([turned(s) + noise(0, 400, 3), s + noise(1, 400, 3)], axis=1)
    for bins in (5, 20):
        found = evaluate.mutual_information_gap(z, s, bins=bins)
        assert found == pytest.approx(reference.mig(z, s, bins), abs=1e-9)
    for categorical in ((), (1,), (0, 2)):
        found = evaluate.separated_predictability(z, s, categorical=categorical)
        expected = reference.sap(z, s, categorical)
        assert found == pytest.approx(expected, abs=1e-9)
    z = z[:, 3:] + noise(2, 400, 3)
    found = evaluate.factor_vae_score(z, s, votes=4000, batch_size=8)
    expected = reference.factor_vae(z, s, votes=4000, batch_size=8, seed=7)
    assert 0.5 < expected < 0.95
    # Four deviations of the difference of two shares.
    assert found == pytest.approx(expected, abs=0.045)


def test_the_perfect_category_scores_what_chance_leaves():
    s = factors()
    found = evaluate.separated_predictability(s * 1.0, s, categorical=range(3))
    assert found == pytest.approx(1 - np.mean([1 / 4, 1 / 5, 1 / 6]), abs=0.03)
    names = np.array([2, 0, 3, 1])[s[:, :1]]
    z = np.concatenate([s[:, :1], noise(0, N, 1)], axis=1)
    assert evaluate.separated_predictability(z, names) < 0.7
    found = evaluate.separated_predictability(z, names, categorical=(0,))
    assert found == pytest.approx(0.75, abs=0.03)


def test_the_lasso_is_that_of_scikit_learn():
    s = factors()
    z = turned(s) + s + noise(0, N, 3)
    found = evaluate.dci(z, s, penalty=0.05)
    x, y = ((a - a.mean(0)) / a.std(0) for a in (z, s))
    expected = Lasso(alpha=0.05, tol=1e-10, max_iter=100_000).fit(x, y).coef_.T
    np.testing.assert_allclose(found.importance, np.abs(expected), atol=1e-5)
    for score, table in (
        (found.disentanglement, found.importance),
        (found.completeness, found.importance.T),
    ):
        assert score == pytest.approx(reference.concentration(table), abs=1e-9)
    assert found.informativeness == pytest.approx(found.r2.mean())


def test_the_lasso_of_nearly_equal_dimensions_is_that_of_scikit_learn():
    s = noise(0, 500, 3)
    once = s @ noise(1, 3, 3) + noise(2, 500, 3)
    z = np.concatenate([once, once + 0.01 * noise(3, 500, 3)], axis=1)
    x, y = ((a - a.mean(0)) / a.std(0) for a in (z, s))
    model = Lasso(alpha=0.05, tol=1e-12, max_iter=1_000_000).fit(x, y)
    found = evaluate.dci(z, s, penalty=0.05)
    np.testing.assert_allclose(found.importance, np.abs(model.coef_.T), atol=1e-6)


@pytest.mark.parametrize(
    ("n", "apart", "penalty"),
    [(500, 1e-3, 0.05), (500, 1e-6, 0.05), (500, 0, 1e-4), (20, 0.1, 1e-3)],
)
def test_the_lasso_is_at_its_minimum(n, apart, penalty):
    """Also of equal dimensions, and of more dimensions than examples."""
    once, s = noise(0, n, 20), noise(1, n)
    z = np.concatenate([once, once + apart * noise(2, n, 20)], axis=1)
    z, s = (z - z.mean(0)) / z.std(0), s / s.std() + once[:, 0]
    gram, correlation = z.T @ z / n, z.T @ s / n
    w = lasso(gram, correlation, penalty=penalty)
    assert 2 < np.count_nonzero(w) < len(w)
    slope = correlation - gram @ w
    np.testing.assert_allclose(slope[w != 0], penalty * np.sign(w[w != 0]), atol=1e-11)
    assert np.abs(slope).max() <= penalty + 1e-11


@pytest.mark.parametrize("scale", [1e-300, 1e-170, 1e160, 1e307])
@pytest.mark.parametrize(
    "measure",
    [evaluate.mean_correlation, evaluate.separated_predictability, evaluate.dci],
)
def test_correlations_do_not_depend_on_the_scale(measure, scale):
    s = factors()[:200]
    z = turned(s) + s
    expected = measure(z, s)
    chex.assert_trees_all_close(measure(scale * z, s), expected, rtol=1e-9)
    chex.assert_trees_all_close(measure(z, scale * s), expected, rtol=1e-9)


def test_informativeness_is_no_error():
    """R² of the best line, 1/(1 + σ²), whatever the penalty took."""
    s = noise(0, 20_000, 2)
    for sigma in (0.0, 0.5, 2.0):
        z = s + sigma * noise(1, 20_000, 2)
        found = evaluate.dci(z, s, penalty=0.1)
        assert found.r2 == pytest.approx(1 / (1 + sigma**2), abs=0.02)
    assert evaluate.dci(noise(2, 20_000, 2), s).informativeness < 0.01


def test_the_forest_sees_what_the_lasso_does_not():
    s = noise(0, 2000, 2)
    z = np.stack([np.square(s[:, 0]), np.abs(s[:, 1])], axis=1)
    hidden = np.abs(s)
    assert evaluate.dci(z, s).informativeness < 0.05
    found = evaluate.dci(z, hidden, regressor="forest")
    assert min(found[:3]) > 0.95


def test_floating_factors_are_put_in_bins():
    s = np.random.default_rng(0).uniform(size=(N, 2))
    assert evaluate.mutual_information_gap(s, s) > 0.95
    assert evaluate.factor_vae_score(s, s, votes=100) == 1
    assert evaluate.mutual_information_gap(noise(0, N, 2), s) < 0.02


def test_a_collapsed_code_scores_by_chance():
    z, s = np.ones((N, 3)), factors()
    for name, score in SCORES.items():
        assert score(z, s) == pytest.approx(CHANCE[name], abs=0.08)


S = factors()[:40]
Z = noise(0, 40, 3)


@pytest.mark.parametrize(
    "measure",
    [
        evaluate.mutual_information_gap,
        evaluate.separated_predictability,
        evaluate.dci,
        evaluate.factor_vae_score,
    ],
)
@pytest.mark.parametrize(
    ("z", "s", "message"),
    [
        (Z, np.concatenate([S[:, :1], 0 * S[:, 1:]], 1), "factor 1 is constant"),
        (Z[:9], S, r"got \(9, 3\), \(40, 3\)"),
        (Z, S[:, 0], r"got \(40, 3\), \(40,\)"),
        (Z * np.nan, S, "must be finite"),
        (Z, np.full((40, 3), np.inf), "must be finite"),
        (Z[:, :0], S[:, :0], "needs at least"),
        (Z[:1], S[:1], "n >= 2"),
    ],
)
def test_wrong_codes_are_named(measure, z, s, message):
    with pytest.raises(UsageError, match=f"{measure.__name__}: .*{message}"):
        measure(z, s)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: evaluate.mutual_information_gap(Z, S, bins=41), r"\[2, 40\], .* 41"),
        (lambda: evaluate.mutual_information_gap(Z[:, :1], S), "at least 2 dim"),
        (lambda: evaluate.dci(Z, S[:, :1]), "2 factors, got 3 and 1"),
        (lambda: evaluate.dci(Z, S, regressor="tree"), "lasso or forest, got 'tree'"),
        (lambda: evaluate.dci(Z, S, penalty=0), "penalty must be > 0 .* got 0"),
        (lambda: evaluate.dci(Z[:3], S[:3]), "at least 4 examples, got 3"),
        (
            lambda: evaluate.separated_predictability(Z, S, categorical=[3]),
            r"columns in \[0, 3\), got \(3,\)",
        ),
        (lambda: evaluate.factor_vae_score(Z, S, batch_size=1), "batch_size .* got 1"),
        (lambda: evaluate.factor_vae_score(Z, S, votes=0), "votes must be .* got 0"),
        (
            lambda: evaluate.factor_vae_score(Z, np.arange(120).reshape(40, 3)),
            "factor 0 has a value near 0 with one example",
        ),
    ],
)
def test_wrong_options_are_named(call, message):
    with pytest.raises(UsageError, match=message):
        call()
