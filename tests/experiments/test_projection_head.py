"""The projection head: holds as published, fails when broken."""

import pytest

from experiments import projection_head as experiment
from tests.experiments.running import failed, passes

FROM_H, FROM_Z = "R² of colour from h", "R² of colour from z"


@pytest.mark.slow
def test_it_holds():
    passes(experiment)


def test_one_run_holds():
    found = passes(experiment, seeds=1)
    # The class is what training adds, colour what it takes away.
    r2, accuracy = found.data["r2"], found.data["accuracy"]
    assert accuracy["h"] > accuracy["untrained h"] + 0.05
    assert r2["untrained h"] > r2["h"]


@pytest.mark.slow
def test_without_a_head_the_representation_loses_colour():
    assert FROM_H in failed(experiment, seeds=1, head=False)


@pytest.mark.slow
def test_views_of_one_colour_keep_it_in_the_embedding():
    assert FROM_Z in failed(experiment, seeds=1, redraw=False, steps=100)
