"""The identity of the evidence bound: exact, and broken by any missing term."""

from experiments import elbo as experiment
from tests.experiments.running import failed, passes

IDENTITY = "|ELBO + KL − log p(x)| / |log p(x)|"
LAST_GAP = "|gap of the fitted q − ½(log det C + Σ log (C⁻¹)_jj)|"


def test_it_holds():
    passes(experiment)


def test_another_divergence_is_not_what_the_bound_lacks(monkeypatch):
    """KL(q‖posterior) without the distance of the means."""
    gap = experiment.linear_gaussian.gap

    def of_variances(mean, log_variance, posterior_mean, covariance):
        return gap(posterior_mean, log_variance, posterior_mean, covariance)

    monkeypatch.setattr(experiment.linear_gaussian, "gap", of_variances)
    assert failed(experiment) == [IDENTITY]


def test_a_divergence_from_the_prior_short_of_a_term(monkeypatch):
    """½(σ² − log σ² + μ²): the −1 is missing, the fit is the same."""
    kl = experiment.losses.gaussian_kl
    monkeypatch.setattr(experiment.losses, "gaussian_kl", lambda *q: kl(*q) + 0.5)
    assert failed(experiment) == [IDENTITY]


def test_a_q_not_fitted():
    assert failed(experiment, steps=100) == [
        "gap of the fitted q, orthogonal columns",
        LAST_GAP,
    ]
