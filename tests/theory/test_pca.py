"""The floor of linear autoencoders: projector, error, and what does not beat it."""

import numpy as np
import pytest
from reference import reconstruction as reference

from rl_jax import theory
from rl_jax.errors import UsageError

SPECTRUM = np.array([5, 3, 2, 1, 0.8, 0.5, 0.2, 0.05])
K = 3


def covariance(seed=0):
    turn = np.linalg.qr(np.random.default_rng(seed).normal(size=(8, 8)))[0]
    return turn * SPECTRUM @ turn.T


def test_by_hand():
    sigma = np.array([[2.0, 1.0], [1.0, 2.0]])  # eigenvalues 3 and 1
    np.testing.assert_allclose(theory.pca_projector(sigma, k=1), 0.5 * np.ones((2, 2)))
    np.testing.assert_allclose(theory.pca_floor(sigma, k=1), 1.0)
    # Keeping the first coordinate loses the second's variance.
    keep = np.array([[1.0], [0.0]])
    assert theory.linear_autoencoder_error(sigma, keep, keep.T) == 2.0


def test_projector_equals_that_of_data():
    x = np.random.default_rng(1).normal(size=(200, 8)) @ np.diag(SPECTRUM) + 3.0
    for k in (1, 4, 7):
        found = theory.pca_projector(np.cov(x.T, ddof=0), k=k)
        expected = reference.principal_projector(x, k)
        np.testing.assert_allclose(found, expected, atol=1e-10)


def test_projector_reaches_the_floor():
    sigma = covariance()
    for k in range(9):
        p = theory.pca_projector(sigma, k=k)
        np.testing.assert_allclose(p @ p, p, atol=1e-12)
        np.testing.assert_allclose(np.trace(p), k, atol=1e-12)
        floor = theory.pca_floor(sigma, k=k)
        np.testing.assert_allclose(floor, SPECTRUM[k:].sum(), atol=1e-12)
        found = theory.linear_autoencoder_error(sigma, p, np.eye(8))
        np.testing.assert_allclose(found, floor, atol=1e-12)


def test_error_equals_that_of_data():
    rng = np.random.default_rng(2)
    x = rng.normal(size=(500, 8))
    x -= x.mean(0)
    first, second = rng.normal(size=(8, K)), rng.normal(size=(K, 8))
    found = theory.linear_autoencoder_error(x.T @ x / len(x), first, second)
    np.testing.assert_allclose(found, reference.squared_distance(x, x @ first @ second))


def test_no_linear_map_is_below_the_floor():
    """Random maps, random projections, and the best decoder of random encoders."""
    sigma, rng = covariance(), np.random.default_rng(3)
    floor = theory.pca_floor(sigma, k=K)
    best = {"maps": np.inf, "projections": np.inf, "decoders": np.inf}
    for _ in range(500):
        first, second = rng.normal(size=(8, K)), rng.normal(size=(K, 8))
        basis = np.linalg.qr(first)[0]
        fitted = np.linalg.solve(first.T @ sigma @ first, first.T @ sigma)
        pairs = {
            "maps": (first, 0.2 * second),
            "projections": (basis, basis.T),
            "decoders": (first, fitted),
        }
        for name, pair in pairs.items():
            error = theory.linear_autoencoder_error(sigma, *pair)
            best[name] = min(best[name], error)
    print(f"floor {floor}, best {best}")
    assert min(best.values()) > floor
    # And around the minimum every step goes up.
    p = theory.pca_projector(sigma, k=K)
    basis = np.linalg.svd(p)[0][:, :K]
    for _ in range(200):
        moved = basis + 1e-3 * rng.normal(size=basis.shape)
        back = basis.T + 1e-3 * rng.normal(size=basis.T.shape)
        assert theory.linear_autoencoder_error(sigma, moved, back) > floor


def test_refused():
    sigma = covariance()
    with pytest.raises(UsageError, match=r"pca_projector: k must be in \[0, 8\], got"):
        theory.pca_projector(sigma, k=9)
    with pytest.raises(UsageError, match=r"pca_floor: .*\[D, D\], got \(8, 3\)"):
        theory.pca_floor(sigma[:, :3], k=1)
    with pytest.raises(UsageError, match="must be symmetric"):
        theory.pca_floor(np.triu(sigma), k=1)
    with pytest.raises(UsageError, match=r"got \(8, 8\), \(8, 3\), \(2, 8\)"):
        theory.linear_autoencoder_error(sigma, np.ones((8, 3)), np.ones((2, 8)))
