"""Neural collapse: complete with the penalty, not without it, not at once."""

import pytest

from experiments import neural_collapse as experiment
from tests.experiments.running import failed, passes

ANGLE = "NC2, |cosine + 1/(C−1)|, with penalty"
QUICK = {"seeds": 1}


def test_it_holds():
    assert "simplex" in passes(experiment, **QUICK).correction


def test_without_the_penalty_it_does_not(monkeypatch):
    missed = failed(experiment, penalty=1e-6, **QUICK)
    assert ANGLE in missed
    assert "NC1, spread within classes, with penalty" in missed


@pytest.mark.slow
def test_few_steps_are_too_few():
    missed = failed(experiment, steps=100, **QUICK)
    assert ANGLE in missed
    assert "NC2, |cosine + 1/(C−1)|, end / start, with penalty" in missed


@pytest.mark.slow
def test_both_seeds():
    passes(experiment)
