"""Alignment and uniformity of methods: holds as published, fails when broken."""

import numpy as np
import pytest

from experiments import trajectories as experiment
from tests.experiments.running import failed, passes

SPREAD = "uniformity of the five"


@pytest.fixture
def two(monkeypatch):
    """Two that start apart: most of the time goes to compilation."""
    monkeypatch.setattr(experiment, "HEALTHY", ("SimSiam", "supervised"))
    names = (*experiment.HEALTHY, experiment.COLLAPSED)
    monkeypatch.setattr(experiment, "NAMES", names)


@pytest.mark.slow
def test_it_holds():
    passes(experiment)


@pytest.mark.slow
def test_two_of_the_methods_hold(two):
    found = passes(experiment, seeds=1)
    starts = [path[0, 0] for path in found.data["path"].values()]
    np.testing.assert_allclose(starts[0], starts[2])  # the same SimSiam, at first


@pytest.mark.slow
def test_a_collapsed_method_is_not_in_the_region(two):
    wrong = failed(experiment, seeds=1, stop_gradient=False)
    assert wrong == [
        SPREAD,
        "diameter of the five, end / start",
        "diameter of the five − 0.6 × distance to the collapsed",
    ]
