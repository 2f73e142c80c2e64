"""The Gaussian bottleneck: holds as published, fails when broken."""

import jax.numpy as jnp
import pytest

from experiments import gaussian_bottleneck as experiment
from tests.experiments.running import failed, passes

SLOPE = "|slope at rate 0 − expected|"


@pytest.mark.parametrize("seed", [0, 1])
def test_it_holds(seed):
    passes(experiment, seed=seed)


def test_the_curve_does_not_start_diagonally():
    assert failed(experiment, slope=1.0) == [SLOPE]


def test_a_curve_of_bits_is_not_one_of_nats(monkeypatch):
    def bits(rate, *, rho):
        return -0.5 * jnp.log1p(rho**2 * jnp.expm1(-jnp.log(4.0) * jnp.asarray(rate)))

    monkeypatch.setattr(experiment.theory, "scalar_relevance", bits)
    wrong = failed(experiment)
    assert "|sampled − closed form| / s.e." in wrong
    assert "|grid − closed form|" in wrong
    assert SLOPE in wrong


def test_a_direction_that_enters_elsewhere_is_seen(monkeypatch):
    right = experiment.theory.gaussian_bottleneck

    def late(*sigma, beta):
        return right(*sigma, beta=0.99 * beta)

    monkeypatch.setattr(experiment.theory, "gaussian_bottleneck", late)
    wrong = failed(experiment)
    assert wrong == ["vectors: |rank of the code around β_i − directions entered|"]


def test_a_code_above_the_curve_is_seen(monkeypatch):
    right = experiment.theory.gaussian_curve

    def lower(rate, *, eigenvalues):
        return 0.99 * right(rate, eigenvalues=eigenvalues)

    monkeypatch.setattr(experiment.theory, "gaussian_curve", lower)
    assert failed(experiment) == ["vectors: random code above the curve"]
