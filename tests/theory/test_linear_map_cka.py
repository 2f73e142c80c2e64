"""CKA of a representation and a linear map of it."""

import numpy as np
import pytest
from reference import comparison as reference

from rl_jax import theory
from rl_jax.errors import UsageError


def normals(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape)


def test_by_hand():
    eye = np.eye(2)
    np.testing.assert_allclose(
        theory.linear_map_cka(eye, np.diag([1.0, 0.0])), 0.5**0.5
    )
    # (1 + 4) / √(2 · (1 + 16))
    found = theory.linear_map_cka(eye, np.diag([1.0, 2.0]))
    np.testing.assert_allclose(found, 5 / 34**0.5)


def test_equals_cka_of_the_examples():
    x, a = normals(0, 50, 6) @ normals(1, 6, 6), normals(2, 6, 4)
    found = theory.linear_map_cka(np.cov(x.T), a)
    expected = reference.cka(reference.linear_kernel(x), reference.linear_kernel(x @ a))
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_rotations_and_scalings_change_nothing():
    x = normals(3, 40, 5) * np.arange(1, 6)
    turn = np.linalg.qr(normals(4, 5, 5))[0]
    assert theory.linear_map_cka(np.cov(x.T), -3 * turn) == pytest.approx(1, abs=1e-14)


def test_refused():
    with pytest.raises(UsageError, match=r"linear_map_cka: .*\(3, 2\) and \(3, 3\)"):
        theory.linear_map_cka(np.ones((3, 2)), np.eye(3))
    with pytest.raises(UsageError, match=r"must have 3 rows .* got \(2, 3\)"):
        theory.linear_map_cka(np.eye(3), np.ones((2, 3)))
    with pytest.raises(UsageError, match="leaves nothing"):
        theory.linear_map_cka(np.eye(3), np.zeros((3, 3)))
