"""Sufficient statistics: likelihood ratios, log-determinants and Bayes' rule."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import assert_close
from reference import theory as reference
from scipy import stats

from rl_jax import theory


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


N = 9
FAMILIES = {
    "gaussian_mean": (
        theory.gaussian_mean(scale=1.7),
        np.array([[-1.0], [0.3], [2.0], [5.0]]),
        lambda theta: stats.norm(theta[0], 1.7),
    ),
    "gaussian": (
        theory.gaussian(),
        np.array([[-1.0, 0.5], [0.3, 1.0], [2.0, 3.0], [5.0, 0.8]]),
        lambda theta: stats.norm(theta[0], theta[1]),
    ),
    "gamma": (
        theory.gamma(shape=2.5),
        np.array([[0.1], [0.7], [2.0], [6.0]]),
        lambda theta: stats.gamma(2.5, scale=1 / theta[0]),
    ),
}


@pytest.fixture(params=FAMILIES)
def family(request):
    return FAMILIES[request.param]


def draw(law, theta, seed):
    return law(theta).rvs(size=N, random_state=np.random.default_rng(seed))


def test_density_equals_scipy(family):
    pieces, thetas, law = family
    x = draw(law, thetas[1], 0)
    for theta in thetas:
        expected = law(theta).logpdf(x).sum()
        assert_close(pieces.log_density(theta, x), expected, tolerance=1e-12)


def test_ratios_depend_on_the_statistic_only(family):
    pieces, thetas, law = family
    spread = jax.jit(
        lambda x, y: theory.likelihood_ratio_spread(pieces, x, y, thetas=thetas)
    )
    for seed in range(5):
        x = draw(law, thetas[1], seed)
        y = pieces.conditional(jax.random.key(seed), jnp.asarray(x))
        assert np.max(np.abs(x - y)) > 0.1
        assert_close(pieces.statistic(y), pieces.statistic(x), tolerance=1e-13)
        assert float(spread(x, y)) < 1e-10
        # Lehmann and Scheffe: another T, another ratio.
        assert float(spread(x, 1.05 * x)) > 1e-2
        assert float(spread(x, draw(law, thetas[1], seed + 100))) > 1e-2


def test_a_mean_does_not_suffice_where_the_variance_is_unknown():
    pieces, thetas, law = FAMILIES["gaussian"]
    x = draw(law, thetas[1], 0)
    wider = x.mean() + 1.5 * (x - x.mean())
    spread = theory.likelihood_ratio_spread(pieces, x, wider, thetas=thetas)
    assert float(spread) > 1.0
    known, means, _ = FAMILIES["gaussian_mean"]
    spread = theory.likelihood_ratio_spread(known, x, wider, thetas=means)
    assert float(spread) < 1e-10


def test_a_conditional_draw_leaves_the_law_as_it_was(family):
    """Redrawing x given T, without theta, gives samples of the same law."""
    pieces, thetas, law = family
    theta = thetas[1]
    x = law(theta).rvs(size=(4000, N), random_state=np.random.default_rng(0))
    rngs = jax.random.split(jax.random.key(1), len(x))
    y = np.asarray(jax.jit(jax.vmap(pieces.conditional))(rngs, x))
    assert stats.kstest(y[:, 0], law(theta).cdf).pvalue > 0.01
    assert stats.kstest(y[:, 3], law(theta).cdf).pvalue > 0.01
    # Given T the new sample knows no more of the old than T says.
    at = np.array([pieces.statistic(row)[0] for row in x])
    rest_x, rest_y = (
        v - np.polyval(np.polyfit(at, v, 1), at) for v in (x[:, 0], y[:, 0])
    )
    assert abs(np.corrcoef(rest_x, rest_y)[0, 1]) < 0.05


@pytest.mark.parametrize("k", [1, 2, 3])
def test_gap_is_the_conditional_information(k):
    for seed in range(5):
        rng = np.random.default_rng(seed)
        blocks = reference.covariances(rng, 5, 3)
        a = rng.normal(size=(k, 5))
        s = jax.tree.map(float, theory.gaussian_sufficiency(*blocks, projection=a))
        assert abs(s.gap - s.conditional) < 1e-8
        assert s.gap > 1e-3
        x, y, xy = blocks
        sigma = np.block([[x, xy], [xy.T, y]])
        assert_close(s.full, reference.log_det_information(sigma, 5), tolerance=1e-10)
        lift = np.block([[a, np.zeros((k, 3))], [np.zeros((3, 5)), np.eye(3)]])
        kept = reference.log_det_information(lift @ sigma @ lift.T, k)
        assert_close(s.kept, kept, tolerance=1e-10)
        # I(X;Y|T) from the law of X, Y given T, X cut to directions beside T.
        beside = np.linalg.svd(a)[2][k:]
        rows = np.block([[beside, np.zeros((5 - k, 3))], [np.zeros((3, 5)), np.eye(3)]])
        t, both, cross = a @ x @ a.T, rows @ sigma @ rows.T, rows @ sigma[:, :5] @ a.T
        given = both - cross @ np.linalg.inv(t) @ cross.T
        expected = reference.log_det_information(given, 5 - k)
        assert abs(s.conditional - expected) < 1e-8


def test_regression_coefficients_suffice():
    for seed in range(5):
        blocks = reference.covariances(np.random.default_rng(seed), 5, 3)
        x, _, xy = blocks
        a = np.linalg.solve(x, xy).T
        s = theory.gaussian_sufficiency(*blocks, projection=a)
        assert abs(float(s.gap)) < 1e-10
        assert abs(float(s.conditional)) < 1e-10
        # So do the canonical directions that tell of Y, and none fewer.
        _, directions = theory.canonical_correlations(*blocks)
        s = theory.gaussian_sufficiency(*blocks, projection=directions[:3])
        assert abs(float(s.gap)) < 1e-10
        s = theory.gaussian_sufficiency(*blocks, projection=directions[:2])
        assert float(s.gap) > 1e-3


def test_canonical_directions_are_the_best_of_their_number():
    rng = np.random.default_rng(0)
    blocks = reference.covariances(rng, 5, 3)
    correlations, directions = theory.canonical_correlations(*blocks)
    best = theory.gaussian_sufficiency(*blocks, projection=directions[:2])
    assert_close(
        best.kept, -0.5 * np.sum(np.log1p(-(correlations[:2] ** 2))), tolerance=1e-10
    )
    for _ in range(50):
        other = theory.gaussian_sufficiency(*blocks, projection=rng.normal(size=(2, 5)))
        assert float(other.kept) < float(best.kept)


def mixture(seed, classes, dim):
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(dim, dim + 2)) / np.sqrt(dim)
    covariance, means = root @ root.T, rng.normal(size=(classes, dim))
    prior = rng.dirichlet(np.full(classes, 3.0))
    label = rng.choice(classes, size=3000, p=prior)
    noise = rng.multivariate_normal(np.zeros(dim), covariance, size=3000)
    return means, covariance, prior, label, means[label] + noise


# More classes than dimensions: the statistic's covariance has no inverse.
@pytest.mark.parametrize(("classes", "dim"), [(3, 6), (5, 3), (2, 1)])
def test_statistic_has_the_bayes_risk_of_the_point(classes, dim):
    means, covariance, prior, label, x = mixture(classes, classes, dim)
    options = {"means": means, "covariance": covariance, "log_prior": np.log(prior)}
    full = theory.mixture_log_posterior(x, **options)
    expected = reference.mixture_posterior(x[:200], means, covariance, prior)
    assert_close(jnp.exp(full[:200]), expected, tolerance=1e-9)

    rows = theory.mixture_statistic(means, covariance)
    assert_close(rows, means @ np.linalg.inv(covariance), tolerance=1e-9)
    kept = theory.mixture_log_posterior(x, **options, projection=rows)
    assert np.max(np.abs(np.exp(kept) - np.exp(full))) < 1e-8
    risk = float(theory.bayes_risk(full))
    assert abs(float(theory.bayes_risk(kept)) - risk) < 1e-10
    # It is the risk: how often the most probable class is wrong.
    wrong = np.mean(np.argmax(full, axis=1) != label)
    assert abs(wrong - risk) < 4 * np.sqrt(risk * (1 - risk) / len(x))

    if dim > 1:
        lossy = theory.mixture_log_posterior(x, **options, projection=np.eye(1, dim))
        assert float(theory.bayes_risk(lossy)) > risk + 0.02


def test_differences_of_the_statistic_suffice():
    means, covariance, prior, _, x = mixture(7, 4, 5)
    options = {"means": means, "covariance": covariance, "log_prior": np.log(prior)}
    rows = np.asarray(theory.mixture_statistic(means, covariance))
    full = theory.mixture_log_posterior(x, **options)
    kept = theory.mixture_log_posterior(x, **options, projection=rows[1:] - rows[:1])
    assert np.max(np.abs(np.exp(kept) - np.exp(full))) < 1e-8
    # Two of the three do not.
    kept = theory.mixture_log_posterior(x, **options, projection=rows[2:] - rows[:1])
    gap = float(theory.bayes_risk(kept)) - float(theory.bayes_risk(full))
    assert gap > 0.003


def test_hand_computed_posterior():
    # Means -1 and 1, unit variance: log odds 2x; risk of chance where they coincide.
    options = {"means": [[-1.0], [1.0]], "covariance": [[1.0]]}
    log_posterior = theory.mixture_log_posterior([[0.0], [1.5]], **options)
    assert_close(log_posterior[0], np.log([0.5, 0.5]), tolerance=1e-12)
    assert_close(log_posterior[1, 1] - log_posterior[1, 0], 3.0, tolerance=1e-12)
    same = theory.mixture_log_posterior(
        np.ones((3, 1)), means=np.zeros((4, 1)), covariance=[[1.0]]
    )
    assert_close(theory.bayes_risk(same), 0.75, tolerance=1e-12)


EYE = np.eye(2)


@pytest.mark.parametrize(
    ("call", "word"),
    [
        (lambda: theory.gaussian_mean(scale=0.0), "scale"),
        (lambda: theory.gamma(shape=-1.0), "shape"),
        (
            lambda: theory.gaussian_sufficiency(
                EYE, EYE, 0.1 * EYE, projection=np.ones((1, 3))
            ),
            "projection",
        ),
        (
            lambda: theory.gaussian_sufficiency(
                EYE, EYE, 0.1 * EYE, projection=np.ones((3, 2))
            ),
            "projection",
        ),
        (
            lambda: theory.gaussian_sufficiency(EYE, np.eye(3), EYE, projection=EYE),
            "covariances",
        ),
        (lambda: theory.mixture_statistic(EYE, np.eye(3)), "means"),
        (
            lambda: theory.mixture_log_posterior(
                np.ones((4, 3)), means=EYE, covariance=EYE
            ),
            "x must",
        ),
        (
            lambda: theory.mixture_log_posterior(
                EYE, means=EYE, covariance=EYE, log_prior=[0.0]
            ),
            "log_prior",
        ),
        (
            lambda: theory.mixture_log_posterior(
                EYE, means=EYE, covariance=EYE, projection=np.ones((1, 3))
            ),
            "projection",
        ),
    ],
)
def test_refused(call, word):
    with pytest.raises(ValueError, match=word) as error:
        call()
    assert "\n" not in str(error.value)
