"""Sufficient statistics: ratios free of θ given T, and given nothing less."""

from experiments import sufficiency as experiment
from tests.experiments.running import failed, passes


def test_it_holds():
    passes(experiment, pairs=10)


def test_the_mean_alone_does_not_suffice_where_the_variance_is_unknown():
    wrong = failed(experiment, pairs=10, given="mean")
    assert wrong == ["N(μ, σ²): spread given T"]


def test_a_density_with_another_power_is_not_of_the_family(monkeypatch):
    """The shape of a gamma law taken for unknown: Σ log x is missing from T."""
    gamma = experiment.theory.gamma

    def of_unknown_shape():
        family = gamma()

        def log_density(theta, x):
            return (
                family.log_density(theta, x) + (theta[0] * experiment.jnp.log(x)).sum()
            )

        return family._replace(log_density=log_density)

    monkeypatch.setattr(experiment.theory, "gamma", of_unknown_shape)
    wrong = failed(experiment, pairs=10)
    assert "Gamma(2, rate): spread given T" in wrong
    assert all(name.startswith("Gamma") for name in wrong)
