"""Three ways to the simplex: there for equidistant means, with a penalty."""

import pytest

from experiments import convergence as experiment
from tests.experiments.running import failed, passes

QUICK = {"seeds": 1}


def test_it_holds():
    assert "general position" in passes(experiment, **QUICK).correction


@pytest.mark.slow
def test_no_penalty_no_simplex():
    missed = failed(experiment, penalty=0.0, **QUICK)
    assert "equidistant, Σ = I: |supervised − simplex|" in missed
    assert "equidistant, Σ = I: |InfoNCE − simplex|" not in missed


@pytest.mark.slow
def test_the_statistic_needs_its_metric(monkeypatch):
    gram = experiment._gram
    monkeypatch.setattr(experiment, "_gram", lambda rows, metric=None: gram(rows))
    assert failed(experiment, **QUICK) == ["equidistant by Σ: |statistic − simplex|"]
