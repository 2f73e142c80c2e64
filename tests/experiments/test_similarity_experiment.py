"""CKA: holds as published, fails when broken."""

import pytest

from experiments import similarity as experiment
from tests.experiments.running import failed, passes

ROTATION = "CKA(X, cXR + b), R a rotation"


@pytest.mark.slow
def test_it_holds():
    passes(experiment)


@pytest.mark.slow
def test_a_stretch_is_no_rotation():
    missed = failed(experiment, stretch=1.1, steps=2)
    assert ROTATION in missed


@pytest.mark.slow
def test_what_is_not_linear_is_seen(monkeypatch):
    cka = experiment.evaluate.linear_cka
    monkeypatch.setattr(experiment.evaluate, "linear_cka", lambda x, y: cka(abs(x), y))
    assert ROTATION in failed(experiment, steps=2)
