"""InfoNCE's bound on information: holds as published, fails when broken."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import information_bound as experiment
from rl_jax import theory
from tests.experiments.running import failed, passes

ABOVE = "(bound − I) / s.e."
GAP = "|I − bound| of one pair at K = 4,096"
TRAINED = "trained critic: (bound − 3 s.e.) / I"


@pytest.fixture
def few(monkeypatch):
    """Fewer candidates: the largest K is what takes the time."""
    monkeypatch.setattr(experiment, "COUNTS", (2, 16, 4096))


@pytest.mark.slow
def test_it_holds():
    passes(experiment)


@pytest.mark.slow
def test_a_quicker_form_holds(few):
    found = passes(experiment, seeds=1, steps=400, correlations=(0.5, 0.99))
    assert np.all(np.diff(found.data["bound"]) > -0.01)  # grows with K


@pytest.mark.slow
def test_a_critic_measured_on_its_training_pairs_exceeds_the_information(few):
    wrong = failed(experiment, seeds=1, steps=400, correlations=(0.5, 0.99), pairs=128)
    assert wrong == [TRAINED]


def test_a_wrong_critic_misses_the_information_but_does_not_exceed_it(few, monkeypatch):
    """The best critic of 0.9ρ on pairs of ρ: InfoNCE is a bound for any critic."""
    _replace(monkeypatch, lambda rho: 0.9 * rho)
    wrong = failed(experiment, correlations=(0.9, 0.99))
    assert GAP in wrong
    assert ABOVE not in wrong


@pytest.mark.slow
def test_without_the_own_candidate_it_is_no_bound(few, monkeypatch):
    """Of the K − 1 others alone: f − log mean e^f has no ceiling."""
    _replace(monkeypatch, lambda rho: rho, own=False)
    wrong = failed(experiment, correlations=(0.9, 0.99))
    assert ABOVE in wrong
    assert "log K − loss, above log K (≤ 0 by construction)" in wrong


def test_weakly_correlated_pairs_do_not_reach_the_ceiling(few, monkeypatch):
    monkeypatch.setattr(experiment, "_critics", _perfect)
    wrong = failed(experiment, correlations=(0.5,))
    assert wrong == ["bound / log K of five pairs at K ≤ 16"]


def _replace(monkeypatch, of_critic, *, own=True):
    """InfoNCE by another critic, or with y of others only in the sum."""

    def bound(rng, *, rho, num_candidates, num_queries, repeats):
        rho = jnp.asarray(rho, jnp.float32)
        queries = min(num_queries, num_candidates // 2)
        wrong = of_critic(rho)

        def one(rng):
            rng_y, rng_x = jax.random.split(rng)
            y = jax.random.normal(rng_y, (num_candidates, len(rho)))
            noise = jax.random.normal(rng_x, (queries, len(rho)))
            x = rho[None] * y[:queries] + jnp.sqrt(1 - rho**2)[None] * noise
            f = theory.log_density_ratio(x, y[:queries], rho=wrong)
            sums = y if own else y[queries:]
            return jnp.mean(f - theory.log_mean_ratio(x, sums, rho=wrong))

        found = jax.jit(lambda rngs: jax.lax.map(one, rngs))(
            jax.random.split(rng, repeats)
        )
        mean, error = np.mean(found), np.std(found, ddof=1) / repeats**0.5
        # E f is not I of another critic: log K − loss is all there is.
        return theory.InfoNCEBound(mean, np.inf, mean, error)

    monkeypatch.setattr(experiment.theory, "info_nce_bound", bound)
    monkeypatch.setattr(experiment, "_critics", _perfect)


def _perfect(correlations, *_):
    value = -0.5 * np.log1p(-np.square(correlations))[:, None]
    return value, np.full_like(value, 1e-3)
