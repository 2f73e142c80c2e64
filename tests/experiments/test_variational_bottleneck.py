"""The variational bottleneck: holds as published, fails when broken."""

import sys

import pytest

from experiments import variational_bottleneck as experiment
from tests.experiments.running import failed, passes

TOLD = "H(Y) − distortion − rate"
# The function of the same name hides the module.
VIB = sys.modules["rl_jax.methods.vib"]


@pytest.mark.slow
def test_it_holds():
    passes(experiment)


@pytest.mark.slow
def test_one_start_holds():
    passes(experiment, seeds=1)


@pytest.mark.slow
def test_a_code_without_its_noise_tells_more_than_its_rate(monkeypatch):
    monkeypatch.setattr(VIB, "gaussian_sample", lambda rng, mean, *_, **__: mean)
    assert TOLD in failed(experiment, seeds=1, steps=200)


@pytest.mark.slow
def test_a_free_code_is_never_given_up(monkeypatch):
    right = experiment.methods.vib

    def free(*args, beta, **settings):
        return right(*args, beta=0.0 * beta, **settings)

    monkeypatch.setattr(experiment.methods, "vib", free)
    wrong = failed(experiment, seeds=1)
    assert "fall of H(Y) − distortion to the next β" in wrong
    assert "rate at the largest β" in wrong
    assert "accuracy at the largest β" in wrong
