"""InfoNCE − log K of uniform vectors: holds as published, fails when broken."""

import pytest

from experiments import uniform_limit as experiment
from tests.experiments.running import failed, passes

LOSS = "|L − log K − expected| for K ≥ 16,384"


def test_it_holds():
    passes(experiment)


def test_the_limit_alone_does_not(monkeypatch):
    monkeypatch.setattr(experiment, "CASES", ((64, 0.1),))
    assert failed(experiment, own_term=False) == [LOSS]


@pytest.mark.parametrize("factor", [0.995, 1.005])
def test_another_temperature_is_another_limit(monkeypatch, factor):
    monkeypatch.setattr(experiment, "CASES", ((64, 0.1),))
    right = experiment.theory.info_nce_limit

    def wrong(*, temperature, **settings):
        return right(temperature=factor * temperature, **settings)

    monkeypatch.setattr(experiment.theory, "info_nce_limit", wrong)
    assert LOSS in failed(experiment)
