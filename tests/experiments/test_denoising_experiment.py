"""Denoisers and scores: Tweedie's formula exactly, a trained one nearly."""

import pytest

from experiments import denoising as experiment
from tests.experiments.running import failed, passes

IDENTITY = "|E[x|x̃] − (x̃ + σ²∇log p_σ)|"
ERROR = "‖learned score − score‖ / ‖score‖"
COSINE = "cosine of learned score and score"


def test_it_holds():
    passes(experiment)


@pytest.mark.slow
def test_noise_taken_for_another_gives_another_score():
    """1.5 σ: a score of the right direction and 0.44 of the length."""
    outcome = experiment.run(taken_for=0.75)
    (error,) = [check for check in outcome.checks if not check.passed]
    assert error.quantity == ERROR
    assert 0.5 < error.found < 0.6


@pytest.mark.slow
def test_too_few_steps():
    assert failed(experiment, seeds=1, steps=300) == [ERROR, COSINE]


def test_the_score_of_the_clean_density_is_not_it(monkeypatch):
    score = experiment.theory.mixture_score
    monkeypatch.setattr(
        experiment.theory, "mixture_score", lambda x, mixture, noise: score(x, mixture)
    )
    assert IDENTITY in failed(experiment, seeds=1, steps=20)
