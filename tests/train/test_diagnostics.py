"""Diagnostics of a step: closed cases, NumPy, what is left out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import diagnostics as reference

from rl_jax import evaluate, train
from rl_jax.train import step

diagnostics = jax.jit(train.diagnostics, static_argnames="rows")
participation_ratio = jax.jit(step.participation_ratio)


def drawn(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("f4")


def correlated(n, dim):
    return drawn(n, dim) * np.geomspace(1, 0.1, dim, dtype="f4") + 5


@pytest.mark.parametrize("shape", [(30, 7), (7, 30)])
def test_participation_ratio_equals_the_eigenvalues(shape):
    x = correlated(*shape)
    found = float(participation_ratio(x))
    assert found == pytest.approx(reference.participation_ratio(x), rel=1e-4)
    assert 1 < found <= float(evaluate.effective_rank(x))
    for changed in (1e25 * x, 1e-25 * x, x - 5, x[:, ::-1]):
        assert float(participation_ratio(changed)) == pytest.approx(found, rel=1e-3)


def test_participation_ratio_of_known_spectra():
    corners = np.concatenate([np.eye(5), -np.eye(5)]).astype("f4")
    assert float(participation_ratio(corners)) == pytest.approx(5)
    assert float(participation_ratio(corners * [1, 1, 0, 0, 0])) == pytest.approx(2)
    line = np.outer(np.arange(6), [1.0, 2, 3]).astype("f4")
    assert float(participation_ratio(line)) == pytest.approx(1)
    assert float(participation_ratio(np.ones((4, 3), "f4"))) == 0


def test_two_views():
    h, z = drawn(20, 2, 9), drawn(20, 2, 6, seed=1)
    found = diagnostics({"h": h, "z": z})
    positive, negative = reference.mean_cosines(z[:, 0], z[:, 1])
    assert found["positive_cosine"] == pytest.approx(positive, abs=1e-6)
    assert found["negative_cosine"] == pytest.approx(negative, abs=1e-6)
    assert found["alignment"] == pytest.approx(2 - 2 * positive, rel=1e-5)
    for name, x in (("h", h), ("z", z)):
        rank = reference.participation_ratio(x[:, 0])
        assert found[f"{name}_rank"] == pytest.approx(rank, rel=1e-4)
    few = diagnostics({"z": z}, rows=8)
    rank = reference.participation_ratio(z[:8, 0])
    assert few["z_rank"] == pytest.approx(rank, rel=1e-4)
    assert few["negative_cosine"] == pytest.approx(negative, abs=1e-6)


def test_what_needs_two_is_left_out():
    z = drawn(20, 1, 6)
    found = diagnostics({"z": z})
    assert set(found) == {"z_rank", "z_std", "uniformity", "negative_cosine"}
    _, negative = reference.mean_cosines(z[:, 0], z[:, 0])
    assert found["negative_cosine"] == pytest.approx(negative, abs=1e-6)
    assert set(diagnostics({"h": z})) == {"h_rank"}
    alone = diagnostics({"h": z[:1], "z": drawn(1, 2, 6)})
    assert set(alone) == {"z_std", "alignment", "positive_cosine"}
    assert diagnostics({}) == {}


def test_collapse():
    same = jnp.ones((20, 2, 6))
    found = diagnostics({"z": same})
    assert found["z_std"] == pytest.approx(0, abs=1e-6)
    assert found["z_rank"] == 0
    assert found["positive_cosine"] == pytest.approx(1)
    assert found["negative_cosine"] == pytest.approx(1)
