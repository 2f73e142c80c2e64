"""Rotated factors: same likelihood, other scores; a stretch is no rotation."""

from experiments import rotation_counterexample as experiment
from tests.experiments.running import failed, passes

SAME = {
    "|log p(Rz) − log p(z)|",
    "|log p(x) with WRᵀ − with W|",
    "|ELBO with WRᵀ − with W|, equal columns",
}


def test_it_holds():
    assert "prefer axes" in passes(experiment).correction


def test_a_stretch_changes_the_density():
    assert set(failed(experiment, orthogonal=False)) == SAME


def test_an_objective_without_its_constant_is_another(monkeypatch):
    bound = experiment.linear_gaussian.bound
    monkeypatch.setattr(
        experiment.linear_gaussian, "bound", lambda *a, **kw: bound(*a, **kw) + 0.01
    )
    assert failed(experiment) == ["|its objective − float64 ELBO over the examples|"]


def test_too_few_steps_differ_by_seed():
    missed = failed(experiment, steps=20)
    assert "ELBO of the trained: largest − smallest over seeds, β = 1" in missed
