"""The simplex equiangular tight frame by its definition."""

import numpy as np
import pytest

from rl_jax import theory
from rl_jax.errors import UsageError


@pytest.mark.parametrize("classes", [2, 3, 5, 10, 100])
@pytest.mark.parametrize("more", [0, 3])
def test_unit_rows_with_equal_angles_and_sum_zero(classes, more):
    rows = theory.simplex_etf(classes, dim=classes - 1 + more)
    assert rows.shape == (classes, classes - 1 + more)
    assert rows.dtype == np.float64
    np.testing.assert_allclose(rows.sum(0), 0, atol=1e-13)
    expected = np.full((classes, classes), -1 / (classes - 1))
    np.fill_diagonal(expected, 1.0)
    np.testing.assert_allclose(rows @ rows.T, expected, atol=1e-13)
    np.testing.assert_allclose(theory.simplex_gram(classes), expected, atol=1e-15)


def test_it_is_a_tight_frame():
    """Σ_c ⟨v_c, x⟩² = C/(C−1) ‖x‖² for every x."""
    rows = theory.simplex_etf(6)
    np.testing.assert_allclose(rows.T @ rows, 6 / 5 * np.eye(5), atol=1e-13)


def test_by_hand():
    np.testing.assert_allclose(theory.simplex_etf(2), [[1.0], [-1.0]])
    half = np.sqrt(3) / 2
    np.testing.assert_allclose(
        theory.simplex_etf(3), [[half, 0.5], [-half, 0.5], [0, -1]], atol=1e-15
    )


def test_no_unit_vectors_are_further_apart():
    """The largest cosine of any C unit vectors is at least −1/(C−1)."""
    rng = np.random.default_rng(0)
    for _ in range(20):
        x = theory.simplex_etf(4) + 0.05 * rng.normal(size=(4, 3))
        x /= np.linalg.norm(x, axis=1, keepdims=True)
        assert (x @ x.T)[~np.eye(4, dtype=bool)].max() > -1 / 3


def test_refuses():
    with pytest.raises(UsageError, match="num_classes must be >= 2, got 1"):
        theory.simplex_etf(1)
    with pytest.raises(UsageError, match="num_classes must be >= 2, got 0"):
        theory.simplex_gram(0)
    with pytest.raises(UsageError, match="10 classes need dim >= 9, got 8"):
        theory.simplex_etf(10, dim=8)
