"""Planted atoms: found with a penalty and unit atoms, not without."""

from experiments import sparse_coding as experiment
from tests.experiments.running import failed, passes


def test_it_holds():
    passes(experiment, seeds=2)


def test_hardly_a_penalty_finds_no_atoms():
    wrong = failed(experiment, seeds=2, penalty=1e-3)
    assert "autoencoder: mean cosine" in wrong
    assert "autoencoder: share found to 0.95" in wrong
    assert "dictionary learning: mean cosine" in wrong
