"""Mean correlation: closed cases, brute force, invariances, refusals."""

import numpy as np
import pytest
from reference import variational as reference

from rl_jax import evaluate
from rl_jax.errors import UsageError


def normals(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape)


def test_sources_up_to_order_scale_and_sign_score_one():
    s = normals(0, 200, 4)
    z = s[:, [2, 0, 3, 1]] * np.array([-3.0, 0.1, 7.0, -1.0]) + 5
    assert evaluate.mean_correlation(z, s) == pytest.approx(1, abs=1e-12)
    wide = np.concatenate([normals(1, 200, 3), z, np.ones((200, 1))], axis=1)
    assert evaluate.mean_correlation(wide, s) == pytest.approx(1, abs=1e-12)


def test_by_hand():
    """The better pairing counts: correlations (0.6, 0.8; 0.8, −0.6) pair crosswise."""
    s = np.array([[1, 1], [1, -1], [-1, 1], [-1, -1]], np.float64)
    z = s @ np.array([[0.6, 0.8], [0.8, -0.6]])
    assert evaluate.mean_correlation(z, s) == pytest.approx(0.8)


@pytest.mark.parametrize("extra", [0, 1, 2])
def test_equals_trying_all_pairings(extra):
    for seed in range(5):
        s = normals(seed, 50, 3)
        z = np.concatenate([s @ normals(seed + 9, 3, 3), normals(7, 50, extra)], 1)
        found = evaluate.mean_correlation(z.astype(np.float32), s)
        assert found == pytest.approx(reference.mean_correlation(z, s), abs=1e-6)


def test_no_dimension_serves_two_sources():
    s = normals(0, 4000, 2)
    z = np.stack([s.sum(1), s.sum(1)], axis=1)
    assert evaluate.mean_correlation(z, s) == pytest.approx(0.5**0.5, abs=0.02)
    z[:, 1] = 3.0
    assert evaluate.mean_correlation(z, s) == pytest.approx(0.5**0.5 / 2, abs=0.02)


def test_independent_codes_score_near_zero():
    assert evaluate.mean_correlation(normals(0, 9000, 4), normals(1, 9000, 4)) < 0.05


@pytest.mark.parametrize(
    ("z", "s", "message"),
    [
        (np.ones((5, 2)), normals(0, 4, 2), r"got \(5, 2\), \(4, 2\)"),
        (np.ones(5), normals(0, 5, 1), r"got \(5,\), \(5, 1\)"),
        (normals(1, 5, 2), normals(0, 5, 3), "2 dimensions cannot.*3 sources"),
        (normals(1, 5, 2), np.ones((5, 2)), "source 0 is constant"),
        (np.full((5, 2), np.nan), normals(0, 5, 2), "must be finite"),
    ],
)
def test_refuses(z, s, message):
    with pytest.raises(UsageError, match=f"mean_correlation: .*{message}"):
        evaluate.mean_correlation(z, s)
