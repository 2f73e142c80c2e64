"""The risk of two Gaussian classes against quadrature, and Fisher's direction."""

import jax
import numpy as np
import pytest
from reference import theory as reference

from rl_jax import theory
from rl_jax.errors import UsageError


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


def classes(seed, dim=4):
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(dim, dim + 2)) / dim**0.5
    return rng.normal(size=(2, dim)), root @ root.T, rng


@pytest.mark.parametrize("k", [1, 2])
def test_risk_equals_quadrature(k):
    means, sigma, rng = classes(0)
    a = rng.normal(size=(k, 4))
    found = theory.discriminant_risk(means, sigma, projection=a)
    expected = reference.two_class_risk(means @ a.T, a @ sigma @ a.T)
    np.testing.assert_allclose(found, expected, rtol=1e-3)


def test_fishers_direction_loses_nothing_and_no_other_is_better():
    means, sigma, rng = classes(1)
    full = float(theory.discriminant_risk(means, sigma))
    fisher = np.linalg.solve(sigma, means[1] - means[0])[None]
    kept = theory.discriminant_risk(means, sigma, projection=fisher)
    np.testing.assert_allclose(kept, full, rtol=1e-12)
    risk = jax.jit(
        jax.vmap(lambda a: theory.discriminant_risk(means, sigma, projection=a))
    )
    assert np.all(risk(rng.normal(size=(100, 1, 4))) > full)


def test_by_hand():
    """Means ±1, unit variance: Φ(−1) = 0.158655; equal means: ½."""
    found = theory.discriminant_risk([[-1.0], [1.0]], [[1.0]])
    np.testing.assert_allclose(found, 0.15865525393145707, rtol=1e-12)
    assert float(theory.discriminant_risk(np.ones((2, 3)), np.eye(3))) == 0.5


def test_it_is_the_risk_of_the_mixture():
    means, sigma, rng = classes(2)
    x = rng.multivariate_normal(means[0], sigma, size=20_000)
    x[::2] += means[1] - means[0]
    log_posterior = theory.mixture_log_posterior(x, means=means, covariance=sigma)
    risk = float(theory.discriminant_risk(means, sigma))
    assert abs(float(theory.bayes_risk(log_posterior)) - risk) < 0.005


@pytest.mark.parametrize(
    ("call", "word"),
    [
        (lambda: theory.discriminant_risk(np.eye(3), np.eye(3)), "means"),
        (lambda: theory.discriminant_risk(np.ones((2, 3)), np.eye(2)), "covariance"),
        (
            lambda: theory.discriminant_risk(
                np.ones((2, 3)), np.eye(3), projection=np.ones((1, 2))
            ),
            "projection",
        ),
        (
            lambda: theory.discriminant_risk(
                np.ones((2, 2)), np.eye(2), projection=np.ones((3, 2))
            ),
            "projection",
        ),
    ],
)
def test_refused(call, word):
    with pytest.raises(UsageError, match=word) as error:
        call()
    assert "\n" not in str(error.value)
