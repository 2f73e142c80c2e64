"""InfoNCE's bound on information: holds as published, fails when broken."""

import numpy as np
import pytest

from experiments import information_bound as experiment
from tests.experiments.running import failed, passes

TRAINED = "trained critic: (bound − 3 s.e.) / I"


@pytest.fixture
def few(monkeypatch):
    """Fewer candidates: the largest K is what takes the time."""
    monkeypatch.setattr(experiment, "COUNTS", (2, 16, 4096))


@pytest.mark.slow
def test_it_holds():
    passes(experiment)


def test_a_quicker_form_holds(few):
    found = passes(experiment, seeds=1, steps=400, correlations=(0.5, 0.99))
    assert np.all(np.diff(found.data["bound"]) > -0.01)  # grows with K


def test_a_critic_measured_on_its_training_pairs_exceeds_the_information(few):
    wrong = failed(experiment, seeds=1, steps=400, correlations=(0.5, 0.99), pairs=128)
    assert wrong == [TRAINED]


def test_a_wrong_critic_misses_the_information(few, monkeypatch):
    right = experiment.theory.info_nce_bound

    def weaker(rng, *, rho, **settings):
        return right(rng, rho=0.9 * rho, **settings)

    monkeypatch.setattr(experiment.theory, "info_nce_bound", weaker)
    monkeypatch.setattr(experiment, "_critics", _perfect)
    wrong = failed(experiment, correlations=(0.9, 0.99))
    assert "|I − bound| of one pair at K = 4,096" in wrong


def _perfect(correlations, *_):
    value = -0.5 * np.log1p(-np.square(correlations))[:, None]
    return value, np.full_like(value, 1e-3)
