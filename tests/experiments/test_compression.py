"""The compression phase: holds as published, fails when broken."""

import numpy as np
import pytest

from experiments import compression as experiment
from tests.experiments.running import failed, passes

TANH = "binned drop, tanh"


@pytest.mark.slow
def test_it_holds():
    passes(experiment)


@pytest.mark.slow
def test_one_start_holds():
    passes(experiment, seeds=1)


@pytest.mark.slow
def test_relu_under_the_name_of_tanh_does_not_compress(monkeypatch):
    mlp = experiment.networks.mlp

    def always(*, activation, **settings):
        return mlp(activation="relu", **settings)

    monkeypatch.setattr(experiment.networks, "mlp", always)
    assert TANH in failed(experiment, seeds=1)


@pytest.mark.slow
def test_nothing_is_compressed_before_anything_is_learnt():
    wrong = failed(experiment, seeds=1, steps=40)
    assert TANH in wrong
    assert "drop with noise, upper bound, tanh, mean" in wrong
    assert "drop with noise, lower bound, tanh, mean" in wrong
    assert any("smallest drop" in quantity for quantity in wrong)


def test_the_drop_starts_at_the_first_accuracy_of_nine_tenths():
    accuracy = np.array([[0.5, 0.9, 0.89, 0.95], [0.5, 0.6, 0.7, 0.8]])
    information = np.array([[9.0, 3.0, 4.0, 1.0], [9.0, 3.0, 4.0, 1.0]])
    np.testing.assert_array_equal(
        experiment._drop(accuracy, information), np.array([3.0, 0.0])
    )
