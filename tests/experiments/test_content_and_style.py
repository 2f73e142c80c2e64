"""Content and style: found as published, mixed where the views share style."""

import pytest

from experiments import content_and_style as experiment
from tests.experiments.running import failed, passes

QUICK = {"seeds": 1, "slopes": (0.2, 0.05)}


def test_it_holds():
    assert "rotation" in passes(experiment, **QUICK).correction


@pytest.mark.slow
def test_shared_style_is_content():
    missed = failed(experiment, shared_style=True, **QUICK)
    assert "R² of content from z, slope 0.2" in missed
    assert "R² of style from z, every slope" in missed


@pytest.mark.slow
def test_too_few_steps_find_nothing():
    missed = failed(experiment, steps=10, **QUICK)
    assert "R² of content from z, slope 0.2" in missed
