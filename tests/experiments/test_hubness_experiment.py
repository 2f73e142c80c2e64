"""Hubs: there in many dimensions, gone on the sphere, if the mean is 0."""

from experiments import hubness as experiment
from tests.experiments.running import failed, passes

QUICK = {"dims": (2, 128), "seeds": 1, "examples": 500}
NORMALISED = "skewness after normalisation, D = 128"


def test_it_holds():
    assert "around the origin" in passes(experiment, **QUICK).correction


def test_data_with_a_mean_keep_their_hubs():
    assert NORMALISED in failed(experiment, mean=1.0, **QUICK)


def test_distances_do_not_pass_for_cosines(monkeypatch):
    hubness = experiment.evaluate.hubness
    monkeypatch.setattr(
        experiment.evaluate,
        "hubness",
        lambda x, *, k, metric="euclidean": hubness(x, k=k, metric="euclidean"),
    )
    assert NORMALISED in failed(experiment, **QUICK)
