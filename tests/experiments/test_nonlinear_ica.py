"""Nonlinear ICA: found with the segment, not with one that says nothing."""

import pytest

from experiments import nonlinear_ica as experiment
from tests.experiments.running import failed, passes

QUICK = {"seeds": 1, "restarts": 3}


@pytest.mark.slow
def test_it_holds():
    passes(experiment, **QUICK)


@pytest.mark.slow
def test_shuffled_segments_say_nothing():
    missed = failed(experiment, shuffled=True, **QUICK)
    assert missed == ["MCC of iVAE, each seed", "MCC of iVAE − of VAE, each seed"]


@pytest.mark.slow
def test_it_holds_for_two_mixtures():
    passes(experiment)
