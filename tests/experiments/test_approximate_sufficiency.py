"""ε-sufficiency: two forms of one number, and what makes it 0."""

from experiments import approximate_sufficiency as experiment
from tests.experiments.running import failed, passes


def test_it_holds():
    passes(experiment, draws=20)


def test_with_noise_nothing_suffices():
    wrong = failed(experiment, draws=20, noise=0.1)
    assert wrong == [
        "ε of A = Σ_yx Σ_x⁻¹, both forms",
        "|ε + ½ Σ_{j>k} log(1 − ρ_j²)|, canonical rows",
        "ε of canonical rows − ε of others",
    ]


def test_the_conditional_information_of_another_statistic_is_another(monkeypatch):
    whole = experiment.theory.gaussian_sufficiency

    def short(*blocks, projection):
        fewer = whole(*blocks, projection=projection[1:])
        return whole(*blocks, projection=projection)._replace(
            conditional=fewer.conditional
        )

    monkeypatch.setattr(experiment.theory, "gaussian_sufficiency", short)
    wrong = failed(experiment, draws=20)
    assert "|I(X;Y) − I(T;Y) − I(X;Y|T)|" in wrong
