"""The discrete bottleneck: holds as published, fails when broken."""

import numpy as np

from experiments import discrete_bottleneck as experiment
from tests.experiments.running import failed, passes

RATE = "|I(X;T) − Gaussian closed form|"
BIT = "a bit's information − closed form"


def test_it_holds():
    passes(experiment)


def test_a_uniform_start_is_never_left():
    wrong = failed(experiment, start="uniform", iterations=100)
    assert wrong == [RATE, "chord of the curve inside its 1/β", BIT]


def test_another_beta_is_another_code(monkeypatch):
    right = experiment.theory.discrete_curve

    def doubled(joint, *, betas, **settings):
        return right(joint, betas=2 * np.asarray(betas), **settings)

    monkeypatch.setattr(experiment.theory, "discrete_curve", doubled)
    wrong = failed(experiment)
    assert RATE in wrong
    assert BIT in wrong
    assert "I(X;T) where 1/β ≥ ρ²" in wrong
