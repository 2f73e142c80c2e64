"""Bayes risk given a sufficient statistic, and given others."""

from experiments import bayes_risk as experiment
from tests.experiments.running import failed, passes

SMALL = {"points": 1000, "spoiled": 8}


def test_it_holds():
    passes(experiment, **SMALL)


def test_without_the_inverse_covariance_it_does_not_suffice():
    wrong = failed(experiment, **SMALL, whiten=False)
    assert wrong == ["|p(c|T) − p(c|x)|", "|R(T) − R(x)|, 21 losses"]


def test_overconfident_posteriors_promise_a_risk_there_is_not(monkeypatch):
    posterior = experiment.theory.mixture_log_posterior

    def squared(*args, **options):
        return experiment.jax.nn.log_softmax(2 * posterior(*args, **options), axis=1)

    monkeypatch.setattr(experiment.theory, "mixture_log_posterior", squared)
    wrong = failed(experiment, **SMALL)
    assert wrong == ["share of points that the Bayes rule gets wrong"]
