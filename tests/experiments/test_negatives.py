"""The number of negatives: holds as published, fails when broken."""

import pytest

from experiments import negatives as experiment
from tests.experiments.running import failed, passes


@pytest.mark.slow
def test_it_holds():
    passes(experiment)


@pytest.mark.slow
def test_one_start_holds():
    passes(experiment, seeds=1)


@pytest.mark.slow
def test_views_of_different_images_share_nothing():
    wrong = failed(experiment, seeds=1, steps=100, paired=False)
    assert "bound at the largest K" in wrong
    assert "rise of the bound from K to the next" in wrong
    assert "accuracy on z, K = 256 − K = 2" in wrong


@pytest.mark.slow
def test_negatives_that_do_not_count_do_not_help(monkeypatch):
    info_nce = experiment.losses.info_nce

    def always_one(*args, valid, **settings):
        return info_nce(*args, valid=0 * valid + 1, **settings)

    monkeypatch.setattr(experiment.losses, "info_nce", always_one)
    # All are trained and measured with one: what rises is log K alone.
    assert failed(experiment, seeds=1, steps=60) == [
        "last rise of the bound − half of the first",
        "accuracy on z, K = 256 − K = 2",
    ]
