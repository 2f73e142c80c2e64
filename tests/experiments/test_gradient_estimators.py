"""Two gradients of one expectation: the same mean, and a wrong one is seen."""

import pytest

from experiments import gradient_estimators as experiment
from rl_jax.methods import elbo
from tests.experiments.running import failed, passes


def test_it_holds():
    passes(experiment, draws=500)


@pytest.mark.slow
def test_a_score_without_log_sigma_is_seen_by_its_mean_alone(monkeypatch):
    """−½(z − μ)²/σ² is not log q. The ratio of variances would not tell."""

    def without_normaliser(x, mean, log_variance):
        log_variance = experiment.jnp.broadcast_to(log_variance, x.shape)
        square = (x - mean) ** 2 * experiment.jnp.exp(-log_variance)
        return -0.5 * square.reshape(len(x), -1).sum(1)

    monkeypatch.setattr(elbo, "gaussian_log_likelihood", without_normaliser)
    wrong = failed(experiment, draws=500)
    assert wrong == ["share of means more than 3 s.e. apart"]
