"""The β-VAE's curve: monotone, of slope −β, collapsed at the end."""

import pytest

from experiments import rate_distortion as experiment
from tests.experiments.running import failed, passes


def test_it_holds():
    passes(experiment, seeds=1)


def test_beta_ignored_is_one_point_and_no_curve(monkeypatch):
    vae = experiment.methods.vae
    monkeypatch.setattr(
        experiment.methods, "vae", lambda *nets, beta, **options: vae(*nets, **options)
    )
    wrong = failed(experiment, seeds=1, steps=50)
    assert wrong[:4] == [
        "fall of the rate to the next β ≤ 10",
        "rise of the distortion to the next β ≤ 10",
        "−ΔD/ΔR / the lower β",
        "−ΔD/ΔR / the higher β",
    ]
    assert "rate at β ≥ 30" in wrong


@pytest.mark.slow
def test_another_weight_of_the_rate_is_another_slope(monkeypatch):
    """4β where β is said: as monotone a curve, but not of slope −β."""
    vae = experiment.methods.vae
    monkeypatch.setattr(
        experiment.methods,
        "vae",
        lambda *nets, beta, **options: vae(*nets, beta=4 * beta, **options),
    )
    wrong = failed(experiment, seeds=1)
    assert "−ΔD/ΔR / the higher β" in wrong
    assert "β of the largest ELBO" in wrong
