"""The stop-gradient against collapse: holds as published, fails when broken."""

import pytest

from experiments import stop_gradient as experiment
from tests.experiments.running import failed, passes

WITH, WITHOUT = "√D · std of z with stop-gradient", "√D · std of z without"


@pytest.mark.slow
def test_it_holds():
    passes(experiment)


def test_one_start_holds():
    passes(experiment, seeds=1, steps=200)


@pytest.mark.slow
def test_the_stop_gradient_alone_does_not_help():
    assert failed(experiment, seeds=1, steps=200, predictor=False) == [WITH]


@pytest.mark.slow
def test_batch_norm_on_z_hides_the_collapse():
    wrong = failed(experiment, seeds=1, steps=200, normalise_z=True)
    assert WITHOUT in wrong
    assert WITH not in wrong
