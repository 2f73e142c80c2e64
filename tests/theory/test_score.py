"""Scores of Gaussian mixtures, and Tweedie's formula as an identity."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import assert_close
from reference import reconstruction as reference

from rl_jax import theory
from rl_jax.errors import UsageError

NOISE = 0.5


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


def mixture(seed=0, count=3, dim=2):
    rng = np.random.default_rng(seed)
    root = 0.6 * rng.normal(size=(count, dim, dim))
    covariances = root @ root.swapaxes(1, 2) + 0.1 * np.eye(dim)
    return theory.Mixture(
        rng.uniform(0.5, 2, count), 2 * rng.normal(size=(count, dim)), covariances
    )


def points(seed=1, count=40, dim=2):
    return 3 * np.random.default_rng(seed).normal(size=(count, dim))


@pytest.mark.parametrize("noise", [0.0, NOISE, 3.0])
@pytest.mark.parametrize("dim", [1, 2, 5])
def test_density_equals_reference(dim, noise):
    parts, x = mixture(dim=dim), points(dim=dim)
    found = theory.mixture_log_density(x, parts, noise=noise)
    weights = parts.weights / parts.weights.sum()
    density = reference.mixture_density(x, weights, *parts[1:], noise)
    assert_close(found, np.log(density), tolerance=1e-11)


@pytest.mark.parametrize("noise", [0.0, NOISE])
def test_score_is_the_gradient_of_the_density(noise):
    parts, x = mixture(), points()

    def total(x):
        return theory.mixture_log_density(x, parts, noise=noise).sum()

    gradient = jax.jit(jax.grad(total))(jnp.asarray(x))
    found = theory.mixture_score(x, parts, noise=noise)
    assert_close(found, gradient, tolerance=1e-12)


def test_tweedie_is_the_posterior_mean():
    """E[x|x̃] by conditioning the components, and x̃ + σ² score, to 1e-10."""
    for noise in (0.1, NOISE, 2.0):
        parts, x = mixture(), points()
        mean = np.asarray(theory.mixture_posterior_mean(x, parts, noise=noise))
        score = theory.mixture_score(x, parts, noise=noise)
        found = np.asarray(theory.tweedie(x, score, noise=noise))
        print(f"noise {noise}: largest difference {np.abs(found - mean).max():.1e}")
        np.testing.assert_allclose(found, mean, rtol=0, atol=1e-10)
        back = theory.denoiser_score(x, mean, noise=noise)
        assert_close(back, score, tolerance=1e-10)
        # The score of the clean density, or that of another noise, is not it.
        for other in (0.0, 1.5 * noise):
            score = theory.mixture_score(x, parts, noise=other)
            wrong = np.asarray(theory.tweedie(x, score, noise=noise))
            assert np.abs(wrong - mean).max() > 1e-3


def test_posterior_mean_equals_quadrature():
    parts = theory.Mixture(
        np.array([0.3, 0.7]), np.array([[-1.0], [2.0]]), np.array([[[0.16]], [[0.5]]])
    )
    x = np.linspace(-4, 5, 7)
    found = theory.mixture_posterior_mean(x[:, None], parts, noise=NOISE)
    args = parts.weights, parts.means[:, 0], parts.covariances[:, 0, 0], NOISE
    expected = [reference.posterior_mean_1d(point, *args) for point in x]
    np.testing.assert_allclose(found[:, 0], expected, rtol=1e-7, atol=1e-8)


def test_one_gaussian_by_hand():
    """N(0, 1) with noise 1: score −x/2, posterior mean x/2."""
    parts = theory.Mixture(np.ones(1), np.zeros((1, 2)), np.eye(2)[None])
    x = points()
    assert_close(theory.mixture_score(x, parts, noise=1.0), -x / 2, tolerance=1e-15)
    found = theory.mixture_posterior_mean(x, parts, noise=1.0)
    assert_close(found, x / 2, tolerance=1e-15)


def test_points_attract():
    """Components without extent: the posterior mean lies among the points."""
    means = np.array([[1.0, 0.0], [-1.0, 0.0]])
    parts = theory.Mixture(np.ones(2), means, np.zeros((2, 2, 2)))
    x = np.array([[0.9, 0.3], [-1.2, 0.1], [0.0, 2.0]])
    found = np.asarray(theory.mixture_posterior_mean(x, parts, noise=0.2))
    np.testing.assert_allclose(found, [means[0], means[1], [0, 0]], atol=1e-9)


def test_far_away_is_finite():
    far = np.array([[1e4, -1e4]])
    parts = mixture()
    assert np.isfinite(theory.mixture_log_density(far, parts, noise=NOISE)).all()
    assert np.isfinite(theory.mixture_score(far, parts, noise=NOISE)).all()


def test_refused():
    parts, x = mixture(), points()
    with pytest.raises(UsageError, match=r"mixture_score: .*got \(40, 3\)"):
        theory.mixture_score(points(dim=3), parts)
    with pytest.raises(UsageError, match=r"\(2,\), \(3, 2\), \(3, 2, 2\)"):
        theory.mixture_log_density(x, parts._replace(weights=np.ones(2)))
    with pytest.raises(UsageError, match=r"tweedie: .*\(40, 2\), \(40, 3\)"):
        theory.tweedie(x, points(dim=3), noise=1.0)
    with pytest.raises(UsageError, match="denoiser_score: expected arrays of one"):
        theory.denoiser_score(x, x[:1], noise=1.0)
