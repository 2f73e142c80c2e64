"""Temperature: streamed sums are exact, naive ones overflow."""

import pytest

from experiments import temperature as experiment
from tests.experiments.running import failed, passes

QUICK = {"seeds": 1, "taus": (10.0, 1.0, 0.1, 0.005)}


def test_it_holds():
    assert "not NaN" in passes(experiment, **QUICK).correction


@pytest.mark.slow
def test_the_naive_form_is_not_finite():
    assert failed(experiment, form="naive", **QUICK) == ["τ·|naive − float64|, every τ"]


@pytest.mark.slow
def test_entropy_of_another_temperature(monkeypatch):
    sharpness = experiment.evaluate.softmax_sharpness

    def warmer(a, b, *, temperature):
        return sharpness(a, b, temperature=1.05 * temperature)

    monkeypatch.setattr(experiment.evaluate, "softmax_sharpness", warmer)
    assert failed(experiment, **QUICK) == ["|H/log K − float64|, trained, every τ"]
