"""Planted atoms: found with a penalty, not without; one pass is no solver."""

import pytest

from experiments import sparse_coding as experiment
from tests.experiments.running import failed, passes


def test_it_holds():
    passes(experiment, seeds=2)


@pytest.mark.slow
def test_hardly_a_penalty_finds_no_atoms():
    wrong = failed(experiment, seeds=2, penalty=1e-3)
    assert "autoencoder: mean cosine" in wrong
    assert "autoencoder: share found to 0.95" in wrong
    assert "dictionary learning: mean cosine" in wrong


@pytest.mark.slow
def test_a_solver_that_does_not_solve_costs_more_than_one_pass(monkeypatch):
    def zero(x, atoms, **_):
        return experiment.jnp.zeros((len(x), len(atoms)))

    monkeypatch.setattr(experiment.theory, "fista", zero)
    wrong = failed(experiment, seeds=1, steps=100)
    assert "autoencoder: objective, solved / one pass" in wrong
