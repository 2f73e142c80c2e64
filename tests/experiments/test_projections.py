"""Random, PCA and LDA planes: the accuracies of the text, and what they hang on."""

from experiments import projections as experiment
from tests.experiments.running import failed, passes


def test_it_holds():
    passes(experiment)


def test_without_a_nuisance_the_first_axis_of_pca_is_the_signal():
    assert "5-NN accuracy, first axis of PCA alone" in failed(experiment, nuisance=1.0)


def test_classes_too_close_are_not_found_by_pca():
    wrong = failed(experiment, separation=0.3)
    assert {"5-NN accuracy, PCA", "5-NN accuracy, LDA"} <= set(wrong)


def test_a_bound_below_what_is_reached_is_seen(monkeypatch):
    risk = experiment.theory.discriminant_risk
    monkeypatch.setattr(
        experiment.theory,
        "discriminant_risk",
        lambda *a, **k: 1 - 0.9 * (1 - risk(*a, **k)),
    )
    assert failed(experiment) == ["5-NN accuracy − Φ(Δ/2), mean"]
