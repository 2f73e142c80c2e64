"""A circle in one number: below the linear floor, and never exact."""

import pytest

from experiments import circle as experiment
from tests.experiments.running import failed, passes

ERROR = "E‖x − x̂‖² of a nonlinear code"


def test_it_holds():
    passes(experiment)


def test_a_linear_autoencoder_stays_at_the_floor():
    outcome = experiment.run(hidden=(), steps=1000)
    (error,) = [check for check in outcome.checks if check.quantity == ERROR]
    assert not error.passed
    assert abs(error.found - 0.5) < 1e-3


@pytest.mark.slow
def test_two_numbers_miss_no_point(monkeypatch):
    """An exact code, as two numbers allow, contradicts what one of them must miss."""
    encode = experiment.methods.autoencoder

    def exact(*nets):
        method = encode(*nets)

        def found(params, state, batch):
            return method.encode(params, state, batch) | {
                "reconstruction": batch["image"]
            }

        return method._replace(encode=found)

    monkeypatch.setattr(experiment.methods, "autoencoder", exact)
    assert failed(experiment, points=16, steps=10) == ["largest ‖x − x̂‖ of a point"]
