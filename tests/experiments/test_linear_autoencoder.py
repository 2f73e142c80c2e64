"""Linear autoencoder and PCA: holds as published, fails when broken."""

from experiments import linear_autoencoder as experiment
from tests.experiments.running import failed, passes


def test_it_holds():
    passes(experiment, seeds=2)


def test_too_few_steps_do_not_reach_the_floor():
    assert len(failed(experiment, seeds=2, steps=200)) == 2


def test_another_spectrum_is_another_floor(monkeypatch):
    floor = experiment.theory.pca_floor
    monkeypatch.setattr(
        experiment.theory, "pca_floor", lambda c, k: 0.999 * floor(c, k=k)
    )
    assert failed(experiment, seeds=1)


def test_a_floor_too_high_is_beaten_by_other_weights(monkeypatch):
    floor = experiment.theory.pca_floor
    monkeypatch.setattr(
        experiment.theory, "pca_floor", lambda c, k: 1.01 * floor(c, k=k)
    )
    assert failed(experiment, seeds=1) == ["the same of other (W₂, W₁)"]
